"""Update and scoring of Qwen3-1.7B's shape with random weights: tokens a second, share of the peak rate, memory.

    python benchmarks/gpu.py [--shape qwen3-1.7b] [--tokens 4096,16384] [--repetitions 3] [--peak-tflops N]

Ours (the trainer and the scorer of the stages `update` and `score_entropy`) and plain transformers with AdamW (padded
rows, all logits, the loss written out) take turns in one run, every case in a process of its own:
  full           all weights trained, no checkpointing
  checkpointing  the same, layers computed again in the backward pass
  lora           adapters of rank 16 with checkpointing (ours only; torch's autocast as above)
Float32 weights, bfloat16 autocast (--precision), AdamW with float32 state, as compute.precision: bfloat16 does. A
mini-batch is --passes sequences of so many tokens, of which 256 are the prompt, each a forward and backward pass of its
own. A case that has no room says so.

Model FLOP utilisation = operations of the model / seconds / peak rate of the device. Operations of a pass over n tokens
with r response tokens: 2 x (weights of the layers) x n + 4 x layers x heads x head size x n^2/2 + 2 x vocabulary x
hidden x r (the half of attention that a causal mask leaves is counted, the head on response tokens only). Scoring
counts this once, an update three times; with adapters twice, as frozen weights have no gradient. What checkpointing, or
the head, computes again is not counted, so it lowers the figure. Source: Kaplan et al. 2020 (2ND, 6ND) and Chowdhery et
al. 2022, appendix B (attention).
Peak rates are the makers' dense figures (PEAKS) unless --peak-tflops is given.

Without a CUDA device it takes --shape tiny, on the CPU, by CPU-seconds: a smoke test of this script, no figure.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from extra_rl.planning.shapes import KNOWN, Shape

PROMPT = 256
TINY = Shape(512, 64, 2, 4, 2, 32, 192, positions=32_768)
SHAPES = {"tiny": TINY, **{name.partition("/")[2].lower(): shape for name, shape in KNOWN.items()}}
CASES = ("full", "checkpointing", "lora")
BACKWARD = {"full": 3, "checkpointing": 3, "lora": 2}
"""An update's operations, in forward passes."""
PEAKS = {
    "a100": {"bfloat16": 312e12, "float32": 19.5e12},
    "h100": {"bfloat16": 989e12, "float32": 67e12},
    "h200": {"bfloat16": 989e12, "float32": 67e12},
    "l40s": {"bfloat16": 362e12, "float32": 91.6e12},
    "rtx4090": {"bfloat16": 165e12, "float32": 82.6e12},
}
"""FLOP/s of dense matrix products (float32 without TF32). Source: NVIDIA's data sheets of A100, H100 (SXM), H200 and
L40S, and the Ada GPU architecture paper for the RTX 4090 (bfloat16 with float32 accumulation)."""


def operations(shape: Shape, *, tokens: float, pairs: float, logits: float) -> float:
    """Of a forward pass over `tokens`, with `pairs` of query and key and `logits` rows of logits."""
    norms = 2 * shape.hidden + (2 * shape.head_dim if shape.qk_norm else 0)
    matrices = shape.layer_parameters - shape.layers * norms - shape.hidden
    attention = 4.0 * shape.layers * shape.heads * shape.head_dim * pairs
    return 2.0 * matrices * tokens + attention + 2.0 * shape.head_parameters * logits


def make_model(shape: Shape, device: str) -> Any:
    """A Qwen3 of that shape with random float32 weights, made on the device."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    with torch.device(device):
        return Qwen3ForCausalLM(
            Qwen3Config(
                vocab_size=shape.vocabulary,
                hidden_size=shape.hidden,
                intermediate_size=shape.intermediate,
                num_hidden_layers=shape.layers,
                num_attention_heads=shape.heads,
                num_key_value_heads=shape.kv_heads,
                head_dim=shape.head_dim,
                max_position_embeddings=shape.positions,
                tie_word_embeddings=shape.tied,
            )
        )


def with_adapters(model: Any) -> None:
    """As update.lora does (extra_rl/training/lora.py), rank 16 on every linear layer but the head."""
    from peft import LoraConfig, get_peft_model

    get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", lora_dropout=0.0))


def drawn(shape: Shape, tokens: int, passes: int) -> list[list[int]]:
    import torch

    generator = torch.Generator().manual_seed(1)
    rows: list[list[int]] = torch.randint(3, shape.vocabulary, (passes, tokens), generator=generator).tolist()
    return rows


def ours(model: Any, asked: dict[str, Any], rows: list[list[int]]) -> tuple[Callable[[], object], Callable[[], object]]:
    """An optimizer step, and the scoring of all rows."""
    import torch

    from extra_rl.config.sections import ComputeConfig, SamplingConfig
    from extra_rl.scoring.batches import TokenSequence
    from extra_rl.scoring.layout import chosen, token_statistics
    from extra_rl.training.optimizer import make_optimizer
    from extra_rl.training.rollouts import TrainingRollout
    from extra_rl.training.settings import UpdateSettings
    from extra_rl.training.trainer import Trainer

    tokens, precision = asked["tokens"], asked["precision"]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = make_optimizer("adamw", trained, lr=1e-6, betas=(0.9, 0.999), weight_decay=0.01)
    settings = UpdateSettings(
        sampling=SamplingConfig(max_response_tokens=tokens),
        compute=ComputeConfig(precision=precision),
        tokens_per_batch=tokens,
        learning_rate=1e-6,
    )
    trainer, layout = Trainer(model, optimizer, settings, None), chosen("auto", model)
    sequences = [TokenSequence(row[:PROMPT], row[PROMPT:]) for row in rows]

    def score() -> list[list[float]]:
        model.eval()
        with torch.inference_mode():
            found = [token_statistics(model, [sequence], 1.0, precision, layout)[0] for sequence in sequences]
        model.train()
        return [logprob_1T[0].tolist() for logprob_1T in found]

    rollouts = [
        TrainingRollout(str(i), str(i), sequence, old, old, 1.0 if i % 2 else -1.0, 0, 0)
        for i, (sequence, old) in enumerate(zip(sequences, score(), strict=True))
    ]
    return lambda: trainer.step(rollouts), score


def plain(
    model: Any, asked: dict[str, Any], rows: list[list[int]]
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The same with what transformers and torch have: every logit, cross entropy, torch's fused AdamW."""
    import torch

    device = model.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.01, fused=True)
    batches = [torch.tensor([row], device=device) for row in rows]
    automatic = torch.autocast(device.type, torch.bfloat16, enabled=asked["precision"] == "bfloat16")

    def logits_of(tokens_1N: Any) -> Any:
        with automatic:
            logits_1NV = model(input_ids=tokens_1N, use_cache=False).logits
        return logits_1NV[0, PROMPT - 1 : -1].float()

    def logprobs_of(logits_TV: Any, tokens_1N: Any) -> Any:
        return -torch.nn.functional.cross_entropy(logits_TV, tokens_1N[0, PROMPT:], reduction="none")

    def update() -> None:
        model.train()
        optimizer.zero_grad()
        count = sum(batch.shape[1] - PROMPT for batch in batches)
        for i, batch in enumerate(batches):
            logprob_T = logprobs_of(logits_of(batch), batch)
            ratio_T = torch.exp(logprob_T - logprob_T.detach())
            advantage = 1.0 if i % 2 else -1.0
            clipped_T = ratio_T.clamp(0.8, 1.28) * advantage
            (-torch.minimum(ratio_T * advantage, clipped_T).sum() / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def score() -> None:
        model.eval()
        with torch.inference_mode():
            for batch in batches:
                logits_TV = logits_of(batch)
                logprobs_of(logits_TV, batch)
                share_TV = logits_TV.softmax(-1)
                logits_TV.logsumexp(-1) - (share_TV * logits_TV).sum(-1)  # entropy

    return update, score


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """One case: seconds of an update and of scoring (medians), peak memory of each in bytes."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and asked["precision"] == "bfloat16":
        torch.set_float32_matmul_precision("high")  # as ComputeConfig.apply
    if device == "cpu":
        torch.set_num_threads(1)
    clock = time.perf_counter if device == "cuda" else time.process_time
    model = make_model(SHAPES[asked["shape"]], device)
    if asked["case"] == "lora":
        with_adapters(model)
    if asked["case"] != "full":
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    rows = drawn(SHAPES[asked["shape"]], asked["tokens"], asked["passes"])
    update, score = {"ours": ours, "plain": plain}[asked["side"]](model, asked, rows)
    found: dict[str, Any] = {}
    for name, run in (("score", score), ("update", update)):
        seconds = []
        for _ in range(1 + asked["repetitions"]):  # the first one warms up, and makes the optimizer's state
            if device == "cuda":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            begin = clock()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock() - begin)
        peak = torch.cuda.max_memory_allocated() if device == "cuda" else 1024 * resource.getrusage(0).ru_maxrss
        found[name] = {"seconds": statistics.median(seconds[1:]), "peak_bytes": peak}
    return found


def utilisation(asked: dict[str, Any], kind: str, seconds: float, peak_rate: float) -> float:
    """Operations of the model over what the device could have done in that time (formula above)."""
    tokens = asked["tokens"]
    forward = operations(SHAPES[asked["shape"]], tokens=tokens, pairs=tokens**2 / 2, logits=tokens - PROMPT)
    passes: int = asked["passes"] * (BACKWARD[asked["case"]] if kind == "update" else 1)
    return passes * forward / seconds / peak_rate


def in_own_process(asked: dict[str, Any]) -> dict[str, Any] | str:
    """The measurement, or in a word why there is none."""
    command = [sys.executable, __file__, "--case", json.dumps(asked)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found
    if "OutOfMemoryError" in done.stderr:
        return "out of memory"
    print(done.stderr[-3000:], file=sys.stderr)
    return "failed"


def line_of(asked: dict[str, Any], found: dict[str, Any] | str, peak_rate: float | None) -> str:
    line = f"{asked['tokens']:6} tokens  {asked['case']:13} {asked['side']:5} "
    if isinstance(found, str):
        return line + found
    for kind in ("update", "score"):
        seconds = found[kind]["seconds"]
        share = f"{100 * utilisation(asked, kind, seconds, peak_rate):5.1f} %" if peak_rate else "    - %"
        rate = asked["tokens"] * asked["passes"] / seconds
        line += f"| {kind} {rate:10,.0f} tokens/s {share} {found[kind]['peak_bytes'] / 2**30:6.2f} GiB "
    return line


def peak_rate_of(device: str, precision: str) -> float | None:
    """Of the data sheet whose key is in the device's name; None for an unknown one."""
    names = device.lower().replace(" ", "")
    return next((found[precision] for key, found in PEAKS.items() if key in names), None)


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="qwen3-1.7b" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--tokens", default="", help="tokens of a pass; default 4096,16384, on the CPU 1024,4096")
    parser.add_argument("--passes", type=int, default=2, help="of a mini-batch")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default=None)
    parser.add_argument("--peak-tflops", type=float, help="of the device; default: by its name")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(json.loads(options.case))))
        return
    cuda = torch.cuda.is_available()
    device = torch.cuda.get_device_name() if cuda else "CPU: CPU-seconds of one thread, a smoke test"
    precision = options.precision or ("bfloat16" if cuda else "float32")
    rate = 1e12 * options.peak_tflops if options.peak_tflops else peak_rate_of(device, precision)
    peak = f"{rate / 1e12:.4g} TFLOP/s" if rate else "not known (--peak-tflops)"
    print(f"{device}, torch {torch.__version__}, {options.shape}, {precision}, peak {peak}", flush=True)
    for tokens in map(int, (options.tokens or ("4096,16384" if cuda else "1024,4096")).split(",")):
        for case in CASES:
            for side in ("ours", "plain") if case != "lora" else ("ours",):
                asked = {"shape": options.shape, "tokens": tokens, "case": case, "side": side, "precision": precision}
                asked |= {"passes": options.passes, "repetitions": options.repetitions}
                print(line_of(asked, in_own_process(asked), rate), flush=True)


if __name__ == "__main__":
    main()
