"""vLLM as a sampler, with an engine of the stage's own: nothing outlives the process (docs/vllm.md).

The only file that names vLLM. Settings that differ on a CPU are traps that were met there with version 0.32.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

from extra_rl.errors import ConfigError, ModelError
from extra_rl.policy import OPTIMIZER_FILE, Policy
from extra_rl.sampling.base import Request, Sample, decoding_order
from extra_rl.sampling.probe import TOLERANCE, policy_logprobs, probe_sequences, refuse_another_policy
from extra_rl.sections import ComputeConfig, SamplingConfig

CPU_HEAD_DIM = 32
"""Smallest size of a head that the CPU kernels take."""
CPU_BLOCK = 32
"""Tokens of a cached block; only whole blocks of a context are shared."""


class VllmSampler:
    """Samples from the model in a directory, by an engine in this process."""

    def __init__(
        self,
        directory: Path,
        eos_token_ids: Sequence[int],
        config: SamplingConfig,
        compute: ComputeConfig,
        device: str,
        context: int,
    ) -> None:
        """Starts the engine. device: cpu or cuda. context: longest prompt and response together, in tokens.

        ModelError when vLLM cannot run the model, ConfigError when it was built for another device.
        """
        self._eos, self._context = sorted(eos_token_ids), context
        _set_environment(config, compute)
        quiet = warnings.catch_warnings(action="ignore", category=FutureWarning)  # of its imports
        with quiet, _threads_kept(), _without_optimizer(directory) as weights:
            from vllm import LLM
            from vllm.platforms import current_platform

            if current_platform.device_type != device:
                raise ConfigError(
                    f"compute.device is {device}, but the vLLM that is installed is built for "
                    f"{current_platform.device_type or 'no device of this machine'}. Install the other build "
                    "(docs/vllm.md), or use sampling.backend: transformers."
                )
            try:
                self._engine: Any = LLM(
                    model=str(weights),
                    skip_tokenizer_init=True,  # token ids in, token ids out
                    generation_config="vllm",  # no sampling settings from the model's own files
                    dtype=compute.precision,
                    max_model_len=context,
                    max_num_seqs=config.batch_rows,
                    tensor_parallel_size=config.engine.tensor_parallel,
                    gpu_memory_utilization=config.engine.gpu_memory_utilization,
                    enable_prefix_caching=True,
                    logprobs_mode="processed_logprobs",  # of the distribution sampled from
                    use_tqdm_on_load=False,
                    seed=0,
                    **(_on_cpu(context) if device == "cpu" else {}),
                )
            except (ValueError, RuntimeError, NotImplementedError) as error:
                raise ModelError(
                    f"{directory}: vLLM cannot start with this model: {error}. Where memory is short: "
                    "sampling.engine (docs/vllm.md); else use sampling.backend: transformers."
                ) from error

    def sample(
        self,
        requests: Sequence[Request],
        config: SamplingConfig,
        advance: Callable[[int], object] = lambda n: None,
    ) -> list[Sample]:
        """One sample a request, in the order given (see `Sampler`). ConfigError for a request that is too long."""
        from tqdm import tqdm
        from vllm import SamplingParams

        class Bar(tqdm):  # type: ignore[misc]  # tqdm has no types
            """Says what is finished to `advance`, and nothing to the terminal."""

            def update(self, n: float | None = 1) -> bool | None:
                advance(int(n or 0))
                shown: bool | None = super().update(n)
                return shown

        def bar(*prompts: Any, **options: Any) -> Any:
            return prompts[0] if prompts else Bar(**options, file=StringIO())  # reading the prompts is not counted

        self._refuse_too_long(requests)
        order = decoding_order(requests)  # equal contexts together: read once, then cached
        parameters = [
            SamplingParams(
                temperature=config.temperature,
                top_p=config.top_p,
                top_k=config.top_k,
                seed=requests[i].seed,
                max_tokens=requests[i].max_tokens,
                stop_token_ids=self._eos,
                ignore_eos=True,  # only what the policy names ends a response
                logprobs=0,  # of the sampled token alone
                flat_logprobs=True,
                detokenize=False,
            )
            for i in order
        ]
        made = self._generate([requests[i].context for i in order], parameters, bar)
        return [sample for _, sample in sorted(zip(order, map(_sample, made), strict=True), key=lambda pair: pair[0])]

    def score(self, sequences: Sequence[Sequence[int]]) -> list[list[float]]:
        """The engine's logprob (nats, temperature 1) of every token but the first of each sequence."""
        from vllm import SamplingParams

        parameters = SamplingParams(
            temperature=1.0, seed=0, max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False
        )
        made = self._generate(sequences, [parameters] * len(sequences), False)
        return [_flat(output.prompt_logprobs) for output in made]

    def _generate(self, contexts: Sequence[Sequence[int]], parameters: Sequence[Any], bar: Any) -> list[Any]:
        if not contexts:
            return []
        from vllm import TokensPrompt

        prompts = [TokensPrompt(prompt_token_ids=list(context)) for context in contexts]
        outputs: list[Any] = self._engine.generate(prompts, list(parameters), use_tqdm=bar)
        return outputs

    def _refuse_too_long(self, requests: Sequence[Request]) -> None:
        longest = max((len(request.context) + request.max_tokens for request in requests), default=0)
        if longest > self._context:
            raise ConfigError(
                f"a context and its response may have {longest:,} tokens together, but vLLM was started for "
                f"{self._context:,}: raise sampling.engine.max_model_len as far as the model reads, or lower "
                "max_response_tokens."
            )


def open_engine(
    read: Callable[[], Policy], config: SamplingConfig, compute: ComputeConfig, device: str
) -> tuple[VllmSampler, Any]:
    """The sampler over the policy that `read` loads, and its tokenizer.

    The policy scores the probe first and is let go before the engine takes its memory. ConfigError without vLLM,
    NumericalError when engine and policy do not agree.
    """
    refuse_missing()
    policy = read()
    shape = policy.model.config
    head_dim = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    if device == "cpu" and head_dim < CPU_HEAD_DIM:
        raise ModelError(
            f"{policy.directory}: vLLM's CPU kernels need heads of at least {CPU_HEAD_DIM} dimensions, this model has "
            f"{head_dim}. Use sampling.backend: transformers, or another model.shape.head_dim."
        )
    context = config.engine.max_model_len or shape.max_position_embeddings
    probe = probe_sequences(shape.vocab_size, context)
    expected = policy_logprobs(policy.model, probe)
    directory, eos, tokenizer = policy.directory, policy.eos_token_ids, policy.tokenizer
    del policy
    _free(device)
    sampler = VllmSampler(directory, eos, config, compute, device, context)
    tolerance = config.probe_tolerance or TOLERANCE[compute.precision]
    refuse_another_policy(expected, sampler.score(probe), tolerance, directory)
    return sampler, tokenizer


def refuse_missing() -> None:
    """ConfigError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "sampling.backend is vllm, which is not installed here: pip install -e '.[vllm]' (CUDA), or make "
            ".venv-vllm/ready (its CPU build); docs/vllm.md says more. Or use sampling.backend: transformers."
        )


def _on_cpu(context: int) -> dict[str, Any]:
    return {
        "enforce_eager": True,
        "enable_chunked_prefill": False,  # with seeds of requests it ends the engine
        "max_num_batched_tokens": max(2048, context),
        "block_size": CPU_BLOCK,
    }


def _set_environment(config: SamplingConfig, compute: ComputeConfig) -> None:
    """What vLLM reads from the environment: before its import, and again at every start of an engine."""
    os.environ |= {
        "OMP_NUM_THREADS": str(compute.threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # else it takes every core, whatever compute.threads says
        "VLLM_CPU_KVCACHE_SPACE": str(config.engine.kv_cache_gib),
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine in this process: seconds to start, not half a minute
    }
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Gives torch its `set_num_threads` back: the CPU engine puts a function in its place that does nothing."""
    import torch

    kept = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = kept


@contextmanager
def _without_optimizer(directory: Path) -> Iterator[Path]:
    """A view of a policy's directory without its optimizer: vLLM reads every safetensors file as weights."""
    with tempfile.TemporaryDirectory(prefix="extra-vllm-") as view:
        for path in directory.iterdir():
            if path.name != OPTIMIZER_FILE:
                (Path(view) / path.name).symlink_to(path.resolve())
        yield Path(view)


def _free(device: str) -> None:
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _sample(output: Any) -> Sample:
    made = output.outputs[0]
    if made.finish_reason not in ("stop", "length"):
        raise ModelError(f"vLLM ended a response for the reason {made.finish_reason!r}: its log says why.")
    return Sample(list(made.token_ids), _flat(made.logprobs), made.finish_reason)


def _flat(logprobs: Any) -> list[float]:
    """The first logprob of every position that has one: the token's own."""
    positions = zip(logprobs.start_indices, logprobs.end_indices, strict=True)
    return [float(logprobs.logprobs[start]) for start, end in positions if end > start]
