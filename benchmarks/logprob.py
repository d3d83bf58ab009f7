"""Logprob and entropy of a language model's head: tiles (extra_rl/scoring/chunked_head.py) beside the plain formula.

    python benchmarks/logprob.py [--tokens 4096] [--vocabulary 151936] [--hidden 1024] [--repetitions 3] [--small]

Random float32 weights and hidden states, one thread. `scored`: without a gradient, as score_entropy asks; `trained`:
with the logprob's gradient in hidden states and weight, as update asks; `bonus`: with the entropy's gradient too.
`product`: the one matrix product hidden @ weight^T alone. Every measurement has a process of its own; the two ways
take turns, so that other load hits both. Printed: median CPU-seconds of a call, after a warm-up on 1/16 of the tokens,
and the peak of the resident memory less what was resident before the call, with tiles / plain of each; at last the
largest difference of both from float64 on 64 of the tokens. `--small` is 1,024 tokens and a vocabulary of 32,768.
The plain formula needs 12 GB at full size; on two cores that is 8 minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WAYS, TASKS = ("plain", "tiles"), ("scored", "trained", "bonus")
MIB = 2**20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(way: str, task: str, tokens: int, vocabulary: int, hidden: int) -> dict[str, Any]:
    """CPU-seconds and extra bytes of one call, and its first results."""
    import torch

    from extra_rl.models.family import Head
    from extra_rl.scoring import head
    from extra_rl.scoring.head import head_statistics

    torch.set_num_threads(1)
    torch.manual_seed(0)
    linear = torch.nn.Linear(hidden, vocabulary, bias=False)
    torch.nn.init.normal_(linear.weight, std=2 / hidden**0.5)
    hidden_XD, target_X = torch.randn(tokens, hidden), torch.randint(vocabulary, (tokens,))
    head.WHOLE = tokens * vocabulary if way == "plain" else 0

    def call(count: int) -> tuple[Any, Any]:
        if way == "product":
            with torch.inference_mode():
                return linear(hidden_XD[:count]), None
        if task == "scored":
            with torch.inference_mode():
                return head_statistics(Head(linear), hidden_XD[:count], target_X[:count], 0.8)
        part_XD = hidden_XD[:count].requires_grad_()
        logprob_X, entropy_X = head_statistics(Head(linear), part_XD, target_X[:count], 0.8)
        (logprob_X.sum() + entropy_X.sum() if task == "bonus" else logprob_X.sum()).backward()
        return logprob_X.detach(), entropy_X.detach()

    call(max(1, tokens // 16))
    linear.weight.grad = None
    before, began = resident(), time.process_time()
    found = call(tokens)
    seconds = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    result = {"seconds": seconds, "bytes": peak - before}
    if way != "product":
        some = min(64, tokens)
        log_p_XV = (hidden_XD[:some].detach().double() @ linear.weight.detach().double().t() / 0.8).log_softmax(-1)
        right = log_p_XV[torch.arange(some), target_X[:some]], -(log_p_XV.exp() * log_p_XV).sum(-1)
        result["error"] = max(float((a[:some] - b).abs().max()) for a, b in zip(found, right, strict=True))
    return result


def in_a_process(options: list[str]) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *options], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--hidden", type=int, default=1024)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="1,024 tokens, vocabulary 32,768")
    parser.add_argument("--one", nargs=2, metavar=("WAY", "TASK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.small:
        arguments.tokens, arguments.vocabulary = 1024, 32_768
    size = (arguments.tokens, arguments.vocabulary, arguments.hidden)
    if arguments.one:
        print(json.dumps(measure(*arguments.one, *size)))
        return
    options = [f"--{n}={v}" for n, v in zip(("tokens", "vocabulary", "hidden"), size, strict=True)]
    print(f"{size[0]:,} tokens, vocabulary {size[1]:,}, hidden {size[2]:,}, one thread, {arguments.repetitions} times")
    product = in_a_process(["--one", "product", "scored", *options])
    print(f"the matrix product alone: {product['seconds']:.2f} CPU-s, {product['bytes'] / MIB:,.0f} MiB")
    for task in TASKS:
        runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
        for _ in range(arguments.repetitions):
            for way in WAYS:
                runs[way].append(in_a_process(["--one", way, task, *options]))
        seconds = {way: statistics.median(run["seconds"] for run in runs[way]) for way in WAYS}
        peaks = {way: statistics.median(run["bytes"] for run in runs[way]) for way in WAYS}
        for way in WAYS:
            all_ = sorted(run["seconds"] for run in runs[way])
            print(
                f"{task:<8} {way:<6} {seconds[way]:7.2f} CPU-s ({all_[0]:.2f} to {all_[-1]:.2f}), "
                f"{peaks[way] / MIB:6,.0f} MiB, off by {runs[way][0]['error']:.1e}"
            )
        ratio = seconds["tiles"] / seconds["plain"]
        print(
            f"{task:<8} ratio  {ratio:7.2f} of the time, 1/{peaks['plain'] / peaks['tiles']:.1f} of the memory",
            flush=True,
        )


if __name__ == "__main__":
    main()
