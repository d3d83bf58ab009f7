"""A whole step of GRPO, sampling to new weights: our stages through files beside TRL's GRPOTrainer in memory.

    python benchmarks/vs_trl.py --trl-python PATH [--steps 2] [--turns 2] [--limit 600] [--only LOAD/SIZE]
                                [--vocabulary 128] [--rows-per-pass 16] [--threads 1]
    python benchmarks/vs_trl.py --trl-python PATH --model DIR [--threads 2] [--steps 2] [--turns 2] [--limit 600]

Without --model: one small untrained Qwen3 (4 layers, hidden 128), one thread, float32, AdamW, the same prompts of 8 to
32 tokens in the same order, 8 samples of each, at most 384 tokens, one update a batch, token-mean (DAPO) loss, clip 0.2
and 0.28, no KL. Two loads, two sizes:
  uniform  no sequence ends before its 384 tokens (no token of the model ends one)
  tail     every token is about equally likely, so that ends come at random: mean about 120 tokens, a few at the limit
           (vocabulary 128; with a larger one ends are rarer, and lengths nearly uniform)
  large    16 prompts: a step of TRL takes more than 10 s;   small   2 prompts
The reward is 1 where the last \\boxed{} word of a response is the answer: by our verifier, and by a dictionary in TRL.
Ours is `snakemake --cores 1` over 1 + steps iterations of the arm `grpo` with its warm worker, TRL's (transformers'
`generate`) a trainer of 1 + steps steps; they take turns, each turn from the first weights, and the first step of each
turn is not counted. Printed: medians over all steps of all turns. `between` is what a step of ours takes beyond its
stages' own records: clients, forks, imports, Snakemake, and the CPU time of the verifier's fork server, which no
record has. Memory: the largest sum of proportional set sizes over all processes of a side, and the largest process. A
side that takes more than --limit seconds for a turn is stopped, and the medians are of the turns before.

With --model, a directory of transformers with SmolLM2-135M-Instruct or a model like it: the task and the settings of
config/smollm2.yaml, regime mixed, arm grpo (16 prompts, 16 samples of each, at most 56 tokens, a response ends with
the line), but one update a batch. Both start from the model after the supervised steps of that file, and learn from
the verdicts of the same verifier. Ours has `granularity: iteration` there, scores and updates the rows with a signal
only, whose tokens are then the loss's denominator, and takes 8,192 tokens a pass. The start is made first, and found
again with --keep.

TRL needs a Python of its own:

    python3.11 -m venv trl && trl/bin/pip install torch==2.13.0 transformers==5.19.0 trl==1.16.0
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks import vs_trl_model
from benchmarks.vs_trl_ours import ROOT, prepared, run
from benchmarks.vs_trl_watch import Watch

Turn = tuple[dict[str, Any], tuple[list[dict[str, Any]], float, float]]
"""What TRL is asked in a turn, and what `run` found of ours."""

LIMIT, GROUP, LONGEST_PROMPT = 384, 8, 32
SIZES = {"small": 2, "large": 16}
"""Prompts of a step."""
BOXES = {"0": ("0", "0.0", "0.00", "0.000"), "1": ("1", "1.0", "1.00", "1.000")}
"""Answer -> its spellings; each is a word of the vocabulary, in a box."""
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "TRL_EXPERIMENTAL_SILENCE": "1",
}


def words(ends: bool, vocabulary: int) -> list[str]:
    """The vocabulary, by token id. Without ends the end of sequence is one more word, which the model does not know."""
    boxed = [rf"\boxed{{{text}}}" for texts in BOXES.values() for text in texts]
    special = ["<pad>", "<bos>", "<eos>" if ends else "w2", "<unk>"]
    plain = [f"w{i}" for i in range(len(special), vocabulary - len(boxed))]
    return [*special, *plain, *boxed, *([] if ends else ["<eos>"])]


def make_model(folder: str, ends: bool, vocabulary: int) -> None:
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()  # it warns of an end of sequence that the model does not know
    logging.disable_progress_bar()
    ids = {word: i for i, word in enumerate(words(ends, vocabulary))}
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=ids["<eos>"],
        )
    )
    model.save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def turn_of(
    model: str, texts: list[str], prompts: int, rows: int, steps: int, seed: int, threads: int = 1
) -> dict[str, Any]:
    """What both are asked in a turn: the prompts of every step with their answers, and the settings.

    rows: of a forward and backward pass of TRL; ours takes as many tokens as so many of the longest rows have.
    """
    rng = random.Random(seed)
    boxes = {value: [texts.index(rf"\boxed{{{text}}}") for text in spelled] for value, spelled in BOXES.items()}
    plain = [word for word in texts if word.startswith("w")]

    def prompt() -> tuple[str, str]:
        return " ".join(rng.choices(plain, k=rng.randint(8, LONGEST_PROMPT))), rng.choice(list(BOXES))

    return {
        "model": model,
        "prompts": [[prompt() for _ in range(prompts)] for _ in range(steps)],
        "boxes": boxes,
        "group": GROUP,
        "limit": LIMIT,
        "rows_per_pass": rows,
        "tokens_per_pass": rows * (LIMIT + LONGEST_PROMPT),
        "learning_rate": 1e-6,
        "threads": threads,
        "seed": seed,
    }


def start_trl(python: str, log: Path, threads: int) -> subprocess.Popen[str]:
    command = [python, str(ROOT / "benchmarks" / "vs_trl_peer.py")]
    environment = {**os.environ, **QUIET, "OMP_NUM_THREADS": str(threads)}
    with log.open("w") as file:
        return subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file, text=True
        )


def ask(trl: subprocess.Popen[str], asked: dict[str, Any], limit_s: float) -> tuple[list[dict[str, Any]], float]:
    """TRL's steps of a turn but the first, and its peak memory. TimeoutError, or RuntimeError where it has ended."""
    assert trl.stdin is not None
    assert trl.stdout is not None
    wait_for_others(trl.pid)
    with Watch() as watch:
        trl.stdin.write(json.dumps(asked) + "\n")
        trl.stdin.flush()
        if not select.select([trl.stdout], [], [], limit_s)[0]:
            raise TimeoutError(f"TRL took more than {limit_s:.0f} s for a turn")
        line = trl.stdout.readline()
    if not line:
        raise RuntimeError("TRL's process ended")
    return json.loads(line)[1:], watch.peak_mb


def wait_for_others(pid: int) -> None:
    """Until no other process is below this one: what our side leaves behind ends a moment after Snakemake."""
    psutil.wait_procs([child for child in psutil.Process().children() if child.pid != pid], timeout=10)


def lines_of(name: str, found: dict[str, list[dict[str, Any]]], peaks: dict[str, list[float]]) -> list[str]:
    """Medians of each side, and TRL's over ours."""
    lines = [name]
    middles = {side: middle_of(steps, max(peaks[side])) for side, steps in found.items()}
    for side, middle in middles.items():
        cpu = [step["cpu_s"] for step in found[side]]
        largest = max(step["largest_mb"] for step in found[side])
        lines.append(
            f"  {side:4} step {middle['wall_s']:6.2f} s, {middle['cpu_s']:6.2f} CPU-s | {middle['tokens']:,.0f} tokens"
            f", {middle['rate']:,.0f} tokens/CPU-s | reward {middle['reward']:.2f} | peak {middle['peak_mb']:,.0f} MB, "
            f"largest process {largest:,.0f} | {len(cpu)} steps, {min(cpu):.2f} to {max(cpu):.2f} CPU-s"
        )
        for part in found[side][0]["parts"]:
            wall, used = (statistics.median(step["parts"][part][i] for step in found[side]) for i in (0, 1))
            lines.append(f"         {part:8} {wall:6.2f} s, {used:6.2f} CPU-s")
    ours, trl = middles["ours"], middles["TRL"]
    ratios = {key: trl[key] / ours[key] for key in ("wall_s", "cpu_s", "peak_mb")}
    lines.append(
        f"  TRL / ours: seconds {ratios['wall_s']:.2f}, CPU-seconds {ratios['cpu_s']:.2f}, CPU-seconds a token "
        f"{ours['rate'] / trl['rate']:.2f}, peak memory {ratios['peak_mb']:.2f}"
    )
    return lines


def middle_of(steps: list[dict[str, Any]], peak_mb: float) -> dict[str, float]:
    """Medians over steps; rate: tokens per CPU-second."""
    middle = {key: statistics.median(step[key] for step in steps) for key in ("wall_s", "cpu_s", "tokens", "reward")}
    return {**middle, "rate": statistics.median(step["tokens"] / step["cpu_s"] for step in steps), "peak_mb": peak_mb}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trl-python", metavar="PATH", required=True, help="Python of an environment with TRL")
    parser.add_argument("--steps", type=int, default=2, help="counted steps of a turn")
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--limit", type=float, default=600, help="seconds that a turn may take")
    parser.add_argument("--only", metavar="LOAD/SIZE", default="", help="for example tail/large")
    parser.add_argument("--vocabulary", type=int, default=128, help="words that the model knows")
    parser.add_argument(
        "--model", metavar="DIR", type=Path, help="a pretrained model, on the task of config/smollm2.yaml"
    )
    parser.add_argument("--threads", type=int, help="of both sides; default: 1, with --model 2")
    parser.add_argument("--rows-per-pass", type=int, default=16, help="of a forward and backward pass of TRL")
    parser.add_argument("--keep", metavar="FOLDER", type=Path, help="where our runs' files stay")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if options.model:
            measure_model(folder, options)
            return
        for case in [f"{load}/{size}" for size in SIZES for load in ("tail", "uniform")]:
            if options.only in ("", case):
                measure_tiny(case, folder, options)


def measure_tiny(case: str, folder: Path, options: argparse.Namespace) -> None:
    """One load and size of the tiny model."""
    load, _, size = case.partition("/")
    model, threads = str(folder / f"{load}-model"), options.threads or 1
    make_model(model, load == "tail", options.vocabulary)
    texts = words(load == "tail", options.vocabulary)

    def ours(turn: int, here: Path, but: int) -> Turn:
        asked = turn_of(model, texts, SIZES[size], options.rows_per_pass, 1 + options.steps, turn, threads)
        return asked, run(prepared(asked, here), here, options.limit, but)

    measure(case, ours, folder, options, threads)


def measure_model(folder: Path, options: argparse.Namespace) -> None:
    """The pretrained model, after its supervised start."""
    threads = options.threads or 2
    start = vs_trl_model.make_start(options.model, folder / "start", threads)

    def ours(turn: int, here: Path, but: int) -> Turn:
        asked = vs_trl_model.asked_of(start, threads, options.rows_per_pass, turn)
        config = vs_trl_model.turn_configuration(asked, 1 + options.steps)
        found = run(config, here, options.limit, but)
        return {**asked, "prompts": vs_trl_model.prompts_of(config, here)}, found

    measure(f"arithmetic/{options.model.resolve().name}", ours, folder, options, threads)


def measure(
    case: str,
    ours: Callable[[int, Path, int], Turn],
    folder: Path,
    options: argparse.Namespace,
    threads: int,
) -> None:
    """All turns of a case, each side in turn; prints what came out.

    ours: runs our side of a turn in a folder, beside TRL's process.
    """
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "TRL": []}
    peaks: dict[str, list[float]] = {"ours": [], "TRL": []}
    trl = start_trl(options.trl_python, folder / "trl.log", threads)
    starts = []
    try:
        for turn in range(options.turns):
            here = folder / f"{case.replace('/', '-')}-{turn}"
            here.mkdir()
            asked, (steps, peak, start) = ours(turn, here, trl.pid)
            found["ours"] += steps
            peaks["ours"].append(peak)
            starts.append(start)
            steps, peak = ask(trl, asked, options.limit)
            found["TRL"] += steps
            peaks["TRL"].append(peak)
    except (TimeoutError, RuntimeError, subprocess.SubprocessError) as error:
        print(f"{case}: stopped: {error}\n{(folder / 'trl.log').read_text()[-2000:]}", file=sys.stderr, flush=True)
    finally:
        trl.kill()
        trl.wait()
    if all(found.values()):
        print("\n".join(lines_of(case, found, peaks)))
        print(f"  ours, once a run: {statistics.median(starts):.1f} s before the first iteration", flush=True)


if __name__ == "__main__":
    main()
