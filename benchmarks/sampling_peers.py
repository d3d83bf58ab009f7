"""One engine of benchmarks/sampling.py, in a process of its own, in whatever environment has it.

    python benchmarks/sampling_peers.py ENGINE MODEL LIMIT      ENGINE: ours, generate, trl, vllm, compiled

Reads one JSON line a repetition, {"prompts": [[ids]], "samples": G, "ends": bool, "seed": n}, and answers with the
tokens that it sampled (up to and with the end of sequence) and the CPU-seconds of the process that this took. Nothing
but `ours` imports the project.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Sample = Callable[[list[list[int]], int, bool, int], int]
"""Prompts, samples of each, whether sequences may end, seed -> tokens sampled."""

EOS = 2


def ours(model: str, limit: int) -> Sample:
    from transformers import AutoModelForCausalLM

    from extra_rl.config.sections import SamplingConfig
    from extra_rl.sampling.base import Request
    from extra_rl.sampling.transformers import TransformersSampler

    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype="float32")

    def sample(prompts: list[list[int]], samples: int, ends: bool, seed: int) -> int:
        requests = [
            Request(tuple(prompt), limit, 1_000_000 * seed + 1_000 * i + n)
            for i, prompt in enumerate(prompts)
            for n in range(samples)
        ]
        drawn = TransformersSampler(loaded, [EOS] if ends else []).sample(requests, SamplingConfig(batch_rows=64))
        return sum(len(one.tokens) for one in drawn)

    return sample


def generate(model: str, limit: int) -> Sample:
    """transformers' own, as TRL calls it: left-padded, one static batch."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype="float32").eval()

    def sample(prompts: list[list[int]], samples: int, ends: bool, seed: int) -> int:
        torch.manual_seed(seed)
        width = max(map(len, prompts))
        rows = [prompt for prompt in prompts for _ in range(samples)]
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=True,
            temperature=1.0,
            top_p=1.0,
            top_k=0,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=EOS if ends else None,
            disable_compile=True,
        )
        loaded.generation_config = config
        with torch.no_grad():
            found = loaded.generate(
                input_ids=torch.tensor([[0] * (width - len(row)) + row for row in rows]),
                attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
                generation_config=config,
            )[:, width:]
        return _tokens(found.tolist(), ends)

    return sample


def trl(model: str, limit: int) -> Sample:
    """GRPOTrainer's own generation: `_generate_single_turn` of TRL 1.16, without its rewards and its update."""
    import tempfile

    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer  # type: ignore[import-not-found]  # in an environment of its own

    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=64,
        num_generations=8,
        max_completion_length=limit,
        temperature=1.0,
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        model_init_kwargs={"dtype": "float32"},
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        processing_class=AutoTokenizer.from_pretrained(model, padding_side="left"),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_list([{"prompt": "a"}] * 64),
    )

    def sample(prompts: list[list[int]], samples: int, ends: bool, seed: int) -> int:
        torch.manual_seed(seed)
        eos = EOS if ends else None
        trainer.generation_config.eos_token_id = trainer.generation_kwargs["eos_token_id"] = eos
        trainer.model.generation_config.eos_token_id = eos
        trainer.eos_token_ids = [EOS] if ends else [-1]
        rows = [prompt for prompt in prompts for _ in range(samples)]
        completions = trainer._generate_single_turn(rows, None, {}, samples)[0]
        return _tokens(completions, ends)

    return sample


def vllm(model: str, limit: int, *, eager: bool = True) -> Sample:
    """As `backend: vllm` starts it on a CPU; not eager: with torch.compile, vLLM's default, which wants g++."""
    from vllm import LLM, SamplingParams, TokensPrompt

    engine = LLM(
        model=model,
        dtype="float32",
        enforce_eager=eager,
        max_model_len=512,
        skip_tokenizer_init=True,
        enable_chunked_prefill=False,
        max_num_batched_tokens=8192,
        logprobs_mode="processed_logprobs",
        disable_log_stats=True,
    )

    def sample(prompts: list[list[int]], samples: int, ends: bool, seed: int) -> int:
        asked = [TokensPrompt(prompt_token_ids=prompt) for prompt in prompts]
        settings = [
            SamplingParams(
                n=samples,
                temperature=1.0,
                seed=1_000 * seed + i,
                max_tokens=limit,
                ignore_eos=True,
                stop_token_ids=[EOS] if ends else [],
                logprobs=0,
                flat_logprobs=True,
                detokenize=False,
            )
            for i in range(len(prompts))
        ]
        found = engine.generate(asked, settings, use_tqdm=False)
        return sum(len(one.token_ids) for request in found for one in request.outputs)

    return sample


def _tokens(rows: list[list[int]], ends: bool) -> int:
    return sum(row.index(EOS) + 1 if ends and EOS in row else len(row) for row in rows)


def main() -> None:
    engine, model, limit = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine prints is no answer
    import torch

    torch.set_num_threads(1)
    engines: dict[str, Callable[[str, int], Sample]] = {
        "ours": ours,
        "generate": generate,
        "trl": trl,
        "vllm": vllm,
        "compiled": functools.partial(vllm, eager=False),
    }
    sample = engines[engine](model, int(limit))
    for line in sys.stdin:
        asked = json.loads(line)
        began = time.process_time()
        tokens = sample(asked["prompts"], asked["samples"], asked["ends"], asked["seed"])
        print(json.dumps({"tokens": tokens, "cpu_s": time.process_time() - began}), file=answers)


if __name__ == "__main__":
    main()
