"""Tokens per CPU-second of the transformers sampler, beside transformers' `generate`, TRL and vLLM's CPU engine.

    python benchmarks/sampling.py [--trl-python PATH] [--vllm-python PATH] [--repetitions 7]

One tiny untrained Qwen3 (4 layers, hidden 128, vocabulary 128), 8 prompts of 8 to 32 tokens, 8 samples of each, at most
384 tokens, one thread, float32, two loads:
  equal  no sequence ends before its 384 tokens
  tail   every token is about equally likely, so that ends come at random: mean about 120 tokens, a few at the limit
Engines take turns; each repetition has prompts and a seed of its own, equal for all; the first one warms up. Printed:
medians, and how many times as fast ours is. TRL and vLLM each need a Python of their own (they want other versions):

    python3.11 -m venv trl && trl/bin/pip install torch==2.13.0 transformers==5.19.0 trl==1.16.0
    make .venv-vllm/ready
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIMIT, PROMPTS, SAMPLES, VOCABULARY = 384, 8, 8, 128
QUIET = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
}


def make_model(folder: str) -> None:
    """Weights and a tokenizer of one word a token (TRL wants one)."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    ends: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        **ends,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    words = {word: i for i, word in enumerate(["<pad>", "<bos>", "<eos>", "<unk>", *map(str, range(4, VOCABULARY))])}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    ).save_pretrained(folder)


def start(engine: str, python: str, model: str) -> subprocess.Popen[str]:
    command = [python, str(ROOT / "benchmarks" / "sampling_peers.py"), engine, model, str(LIMIT)]
    environment = {**os.environ, **QUIET, **({"PYTHONPATH": str(ROOT)} if engine == "ours" else {})}
    with Path(model, f"{engine}.log").open("w") as log:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )


def ask(engine: str, process: subprocess.Popen[str], question: dict[str, Any], model: str) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(question) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"{engine} ended:\n" + Path(model, f"{engine}.log").read_text()[-3000:])
    answer: dict[str, float] = json.loads(line)
    return answer


def measure(engines: dict[str, subprocess.Popen[str]], ends: bool, repetitions: int, model: str) -> None:
    rates: dict[str, list[float]] = {engine: [] for engine in engines}
    for seed in range(repetitions + 1):
        rng = random.Random(seed)
        prompts = [[rng.randrange(4, VOCABULARY) for _ in range(rng.randrange(8, 33))] for _ in range(PROMPTS)]
        question = {"prompts": prompts, "samples": SAMPLES, "ends": ends, "seed": seed}
        for engine, process in engines.items():
            answer = ask(engine, process, question, model)
            if seed:
                rates[engine].append(answer["tokens"] / answer["cpu_s"])
    middle = {engine: statistics.median(found) for engine, found in rates.items()}
    for engine, found in rates.items():
        ratio = "" if engine == "ours" else f"   ours / {engine} = {middle['ours'] / middle[engine]:.2f}"
        load = "tail" if ends else "equal"
        print(
            f"{load:6} {engine:9} {middle[engine]:8,.0f} tokens/CPU-s ({min(found):,.0f} to {max(found):,.0f}){ratio}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", metavar="PATH", help="Python of an environment with TRL")
    parser.add_argument("--vllm-python", metavar="PATH", help="Python of an environment with vLLM")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    pythons = {
        "ours": sys.executable,
        "generate": sys.executable,
        "trl": options.trl_python,
        "vllm": options.vllm_python,
    }
    for engine in [engine for engine, python in pythons.items() if not python]:
        print(f"{engine}: left out, --{engine}-python is not given")
    with tempfile.TemporaryDirectory() as model:
        make_model(model)
        engines = {engine: start(engine, python, model) for engine, python in pythons.items() if python}
        try:
            for ends in (False, True):
                measure(engines, ends, options.repetitions, model)
        finally:
            for process in engines.values():
                process.kill()
                process.wait()


if __name__ == "__main__":
    main()
