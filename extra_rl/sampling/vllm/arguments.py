"""The arguments of a server and the fields of a request.

Each setting that differs on a CPU avoids a problem met there with version 0.32 (docs/vllm.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.sampling.base import Request

CPU_BLOCK = 32
"""Tokens of a cached block; only whole blocks of a context are shared."""


def engine_arguments(config: SamplingConfig, compute: ComputeConfig, device: str, context: int) -> dict[str, Any]:
    """Return the arguments of vLLM's engine, by name.

    Args:
        config: the section `sampling`.
        compute: the section `compute`.
        device: `cuda` or `cpu`.
        context: largest number of tokens of a prompt and its response together.
    """
    arguments = {
        "skip_tokenizer_init": True,  # token ids in, token ids out
        "generation_config": "vllm",  # no sampling settings from the model's own files
        "dtype": compute.precision,
        "max_model_len": context,
        "max_num_seqs": config.batch_rows,
        "tensor_parallel_size": config.engine.tensor_parallel,
        "gpu_memory_utilization": config.engine.gpu_memory_utilization,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",  # of the distribution sampled from
        "seed": 0,
    }
    if device == "cpu":
        arguments |= {
            "enforce_eager": True,
            "enable_chunked_prefill": False,  # with seeded requests it crashes the engine
            "max_num_batched_tokens": max(2048, context),
            "block_size": CPU_BLOCK,
        }
    return arguments


def environment(config: SamplingConfig, compute: ComputeConfig, device: str) -> dict[str, str]:
    """Return the environment variables that vLLM reads."""
    variables = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "OMP_NUM_THREADS": str(compute.threads)}
    if device == "cpu":
        variables |= {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it takes every core, regardless of compute.threads
            "VLLM_CPU_KVCACHE_SPACE": str(config.engine.kv_cache_gib),
        }
    return variables


def flags(arguments: Mapping[str, Any]) -> list[str]:
    """Return the arguments as words of the server's command line."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def sampling_parameters(request: Request, config: SamplingConfig, eos: Sequence[int]) -> dict[str, Any]:
    """Return the fields of vLLM's `SamplingParams` for one rollout."""
    return {
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "seed": request.seed,
        "max_tokens": request.max_tokens,
        "stop_token_ids": list(eos),
        "ignore_eos": True,  # only what the policy names ends a response
        "logprobs": 0,  # of the sampled token alone
        "detokenize": False,
    }


SCORING_PARAMETERS = {"temperature": 1.0, "seed": 0, "max_tokens": 1, "prompt_logprobs": 0, "detokenize": False}
"""The fields of `SamplingParams` for scoring given tokens."""
