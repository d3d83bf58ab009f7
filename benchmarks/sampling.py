"""Tokens per CPU-second of the transformers sampler, beside transformers' `generate`, TRL and vLLM's CPU engine.

    python benchmarks/sampling.py [--trl-python PATH] [--vllm-python PATH] [--repetitions 5] [--limit 600]

One tiny untrained Qwen3 (4 layers, hidden 128, vocabulary 128), 8 prompts of 8 to 32 tokens, 8 samples of each, at most
384 tokens, one thread, float32, two loads:
  equal  no sequence ends before its 384 tokens
  tail   every token is about equally likely, so that ends come at random: mean about 120 tokens, a few at the limit
vLLM runs twice: `vllm` eager, as `sampling.backend: vllm` starts it on a CPU, and `compiled`, its own default (g++).
Engines take turns; each repetition has prompts and a seed of its own, equal for all; the first one warms up. Printed:
medians, and how many times as fast ours is. An engine that is not done with a load after --limit seconds is stopped:
its medians are of the repetitions that it has, `not measured` without any. With all five engines
that is 6 minutes on two cores. TRL and vLLM each need a Python of their own (they want
other versions):

    python3.11 -m venv trl && trl/bin/pip install torch==2.13.0 transformers==5.19.0 trl==1.16.0
    make .venv-vllm/ready
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
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
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
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


@dataclass
class Engine:
    """A process that samples; left: seconds that it may still take for the load at hand; stopped: why it takes no
    further part."""

    name: str
    process: subprocess.Popen[str]
    log: Path
    left: float = 0.0
    stopped: str = ""

    def stop(self, why: str) -> None:
        self.process.kill()
        self.process.wait()
        self.stopped = why


def start(name: str, python: str, model: str) -> Engine:
    command = [python, str(ROOT / "benchmarks" / "sampling_peers.py"), name, model, str(LIMIT)]
    environment = {**os.environ, **QUIET, **({"PYTHONPATH": str(ROOT)} if name == "ours" else {})}
    log = Path(model, f"{name}.log")
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
        )
    return Engine(name, process, log)


def ask(engine: Engine, question: dict[str, Any]) -> float | None:
    """Tokens per CPU-second of one repetition; None from an engine that ended, or that is stopped for its time."""
    assert engine.process.stdin is not None
    assert engine.process.stdout is not None
    asked = time.monotonic()
    try:
        engine.process.stdin.write(json.dumps(question) + "\n")
        engine.process.stdin.flush()
        ready, _, _ = select.select([engine.process.stdout], [], [], max(0.0, engine.left))
        line = engine.process.stdout.readline() if ready else None  # an answer is written in one piece
    except BrokenPipeError:
        line = ""
    engine.left -= time.monotonic() - asked
    if line:
        answer: dict[str, float] = json.loads(line)
        return answer["tokens"] / answer["cpu_s"]
    engine.stop("stopped: too slow" if line is None else "ended by itself")
    if line is not None:
        print(f"{engine.name} ended:\n{engine.log.read_text()[-3000:]}", file=sys.stderr, flush=True)
    return None


def measure(engines: list[Engine], load: str, repetitions: int, limit: float) -> dict[str, list[float]]:
    """Tokens per CPU-second of every repetition but the first, by engine."""
    rates: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for engine in engines:
        engine.left = limit
    for seed in range(repetitions + 1):
        rng = random.Random(seed)
        prompts = [[rng.randrange(4, VOCABULARY) for _ in range(rng.randrange(8, 33))] for _ in range(PROMPTS)]
        question = {"prompts": prompts, "samples": SAMPLES, "ends": load == "tail", "seed": seed}
        for engine in engines:
            rate = None if engine.stopped else ask(engine, question)
            if rate is not None and seed:
                rates[engine.name].append(rate)
    return rates


def lines_of(load: str, rates: dict[str, list[float]], repetitions: int, stopped: dict[str, str]) -> list[str]:
    """A line for each engine: median and range, and how many times as fast ours is."""
    middle = {name: statistics.median(found) for name, found in rates.items() if found}
    lines = []
    for name, found in rates.items():
        line = f"{load:6} {name:9} "
        if found:
            line += f"{middle[name]:8,.0f} tokens/CPU-s ({min(found):,.0f} to {max(found):,.0f}, {len(found)} times)"
        else:
            line += "not measured"
        if name != "ours" and found and "ours" in middle:
            line += f"   ours / {name} = {middle['ours'] / middle[name]:.2f}"
        lines.append(line + (f"   {stopped[name]}" if len(found) < repetitions else ""))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", metavar="PATH", help="Python of an environment with TRL")
    parser.add_argument("--vllm-python", metavar="PATH", help="Python of an environment with vLLM")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--limit", type=float, default=600, help="seconds that an engine may take for a load")
    options = parser.parse_args()
    pythons = {
        "ours": sys.executable,
        "generate": sys.executable,
        "trl": options.trl_python,
        "vllm": options.vllm_python,
        "compiled": options.vllm_python,
    }
    for name in [name for name in ("trl", "vllm") if not pythons[name]]:
        print(f"{name}: left out, --{name}-python is not given")
    with tempfile.TemporaryDirectory() as model:
        make_model(model)
        engines = [start(name, python, model) for name, python in pythons.items() if python]
        try:
            for load in ("equal", "tail"):
                rates = measure(engines, load, options.repetitions, options.limit)
                stopped = {engine.name: engine.stopped for engine in engines}
                print("\n".join(lines_of(load, rates, options.repetitions, stopped)), flush=True)
        finally:
            for engine in engines:
                engine.process.kill()
                engine.process.wait()


if __name__ == "__main__":
    main()
