"""Evaluate a policy on benchmarks: pass@k and maj@k with intervals, lengths and rates. Samples are cached.

extra evaluate results/qwen/extra/s0/iteration_0299/policy
extra evaluate Qwen/Qwen3-1.7B --benchmarks aime24,math500 --samples 16
extra evaluate ./my_model --folder data/benchmarks --limit 20
extra evaluate ./my_model --config config/qwen3-1.7b.yaml --samples 32

It can be interrupted at any time; the same command continues where it stopped (docs/evaluation.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ConfigError

if TYPE_CHECKING:
    from extra_rl.evaluation import Evaluation
    from extra_rl.evaluation.policies import EvaluatedPolicy
    from stages.evaluate import Config

HELP = "pass@k and maj@k of any model on benchmarks"
SUFFIX = "\nPlease reason step by step, and put your final answer within \\boxed{}."
DEFAULTS: dict[str, Any] = {"temperature": 0.7, "top_p": 0.9, "samples": 16, "max_response_tokens": 4096}
"""The paper's evaluation (docs/method.md 5)."""
BATCH_ROWS = 32
OF_TASK = ("folder", "thinking")
OF_EVALUATE = ("samples", "temperature", "top_p", "top_k", "max_response_tokens", "stop", "seed", "cache")
SHARED = ("task", "sampling", "verifier", "compute")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="policy of a run, transformers directory, or hub name")
    parser.add_argument("--revision", help="commit, tag or branch on the hub")
    parser.add_argument("--benchmarks", metavar="NAMES", help="comma-separated names (default: the paper's six)")
    parser.add_argument("--folder", metavar="DIR", help="local benchmark files, <name>.parquet or .jsonl")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N problems of each benchmark")
    parser.add_argument("--config", type=Path, metavar="FILE", help="take task, sampling, verifier, evaluate from it")
    parser.add_argument("--samples", type=int, help="samples per problem (default 16)")
    parser.add_argument("--temperature", type=float, help="sampling temperature (default 0.7)")
    parser.add_argument("--top-p", type=float, help="nucleus (default 0.9)")
    parser.add_argument("--top-k", type=int, help="most likely tokens to sample from; 0: all (default 0)")
    parser.add_argument("--max-response-tokens", type=int, help="limit of a response (default 4096)")
    parser.add_argument("--stop", action="append", metavar="TEXT", help="text that ends a response; repeat for several")
    parser.add_argument("--thinking", action=argparse.BooleanOptionalAction, help="thinking mode of the chat template")
    parser.add_argument("--seed", type=int, help="seed of the samples (default 0)")
    parser.add_argument("--cache", metavar="DIR", help="folder of cached samples (default results/evaluations)")
    parser.add_argument("--no-cache", action="store_true", help="do not cache samples")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="default: <cache>/<policy digest>/<benchmarks, settings>",
    )
    parser.add_argument("--batch-rows", type=int, help=f"sequences decoded together (default {BATCH_ROWS})")
    parser.add_argument("--workers", type=int, help="judging processes (default 1)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), help="default: auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of the weights (default: float32)")


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    kept = (
        f"Samples are cached in {config.cache}; the same command continues."
        if config.cache
        else "No samples are cached."
    )
    try:
        return evaluate_and_write(arguments, config)
    except KeyboardInterrupt:
        print(f"\nStopped. {kept}", flush=True)
        return 130


def evaluate_and_write(arguments: argparse.Namespace, config: Config) -> int:
    """Evaluate the policy, write both tables, and return the exit code."""
    from extra_rl.evaluation.policies import find_policy
    from extra_rl.models.policy import load_tokenizer
    from extra_rl.problems.prepared import benchmark_problems, problems_frame
    from extra_rl.run.progress import Console
    from stages.evaluate import evaluated

    policy = find_policy(arguments.model, arguments.revision)
    problems = problems_frame(benchmark_problems(config.task, load_tokenizer(policy.directory)))
    with Console(None) as console:
        console.say(f"evaluate: {policy.name} ({policy.digest[:16]}), {len(problems):,} problems x {config.samples}")
        made = evaluated(problems, policy, config, console, "evaluate")
    out = arguments.out or default_out(policy, config, arguments.limit)
    write(made, policy, config, out)
    print(f"wrote {out}/evaluate.parquet and {out}/evaluate_figures.parquet")
    return 0


def config_of(arguments: argparse.Namespace) -> Config:
    """Return the section `evaluate`: the paper's or that of --config, with the options of the command line."""
    from extra_rl.config.files import read_yaml
    from extra_rl.config.section import parse_config
    from stages.evaluate import Config

    if arguments.config:
        raw = read_yaml(arguments.config)
        section = {**(raw.get("evaluate") or {}), **{name: dict(raw.get(name) or {}) for name in SHARED}}
    else:
        task = {"name": "math", "benchmarks": list(paper_benchmarks()), "suffix": SUFFIX}
        section = {**DEFAULTS, "task": task, "sampling": {"batch_rows": BATCH_ROWS}, "verifier": {}, "compute": {}}
    if section["task"].get("name", "signed_sum") != "math":
        raise ConfigError(
            f"{arguments.config}: `extra evaluate` reads benchmarks of the task math; for a generated task use "
            "`snakemake evaluate` (docs/evaluation.md)."
        )
    section |= {name: value for name in OF_EVALUATE if (value := getattr(arguments, name)) is not None}
    section |= {"cache": None} if arguments.no_cache else {}
    section["task"] |= {name: value for name in OF_TASK if (value := getattr(arguments, name)) is not None}
    section["task"]["benchmarks"] = chosen(section["task"].get("benchmarks"), arguments.benchmarks, arguments.limit)
    section["task"].pop("train", None)  # training data is not needed
    for shared, key, value in (
        ("sampling", "batch_rows", arguments.batch_rows),
        ("verifier", "workers", arguments.workers),
        ("compute", "device", arguments.device),
        ("compute", "precision", arguments.precision),
    ):
        section[shared] |= {} if value is None else {key: value}
    config: Config = parse_config(Config, section, "evaluate")
    return config


def paper_benchmarks() -> tuple[str, ...]:
    """Return the names of the paper's benchmarks."""
    from extra_rl.config.benchmarks import PAPER_BENCHMARKS

    return PAPER_BENCHMARKS


def chosen(configured: Any, names: str | None, limit: int | None) -> dict[str, Any]:
    """Return benchmarks by name with their configuration; --benchmarks selects, --limit shortens."""
    known = dict(configured) if isinstance(configured, dict) else dict.fromkeys(configured or ())
    wanted = [name.strip() for name in names.split(",") if name.strip()] if names else list(known)
    if not wanted:
        raise ConfigError("no benchmarks: name some with --benchmarks, for example aime24,math500.")
    shorter = {} if limit is None else {"limit": limit}
    return {name: {**(known.get(name) or {}), **shorter} for name in wanted}


def default_out(policy: EvaluatedPolicy, config: Config, limit: int | None) -> Path:
    """Return `<cache>/<policy digest>/<benchmarks and settings>`, next to the policy's samples."""
    from extra_rl.evaluation.store import SHORT

    words = ["_".join(config.task.benchmarks), f"n{config.samples}", f"t{config.temperature:g}", f"p{config.top_p:g}"]
    words += [f"k{config.top_k}"] if config.top_k else []
    words += [f"{config.max_response_tokens}tokens", f"seed{config.seed}"]
    words += [f"stop{stops_digest(config.stops)}"] if config.stops else []
    words += [f"limit{limit}"] if limit else []
    return Path(config.cache or "results/evaluations") / policy.digest[:SHORT] / "-".join(words)


def stops_digest(stop: list[str]) -> str:
    """Return a name for stop strings, which can contain characters that a folder's name cannot."""
    return hashlib.sha256(json.dumps(sorted(set(stop))).encode()).hexdigest()[:8]


def write(made: Evaluation, policy: EvaluatedPolicy, config: Config, out: Path) -> None:
    """Write both tables with the footers of a stage.

    Args:
        made: tables of the evaluation.
        policy: its name and digest are part of the footer.
        config: the resolved section.
        out: folder of the tables.
    """
    from extra_rl.run.execute import provenance
    from extra_rl.run.stage import Job
    from extra_rl.tables.files import write_table
    from stages.evaluate import STAGE

    job = Job(STAGE.name, STAGE.version, 0, config.model_dump(mode="json"))
    footer = provenance(job, {"policy": {"name": policy.name, "digest": policy.digest}})
    for name, frame in (("evaluate", made.samples), ("evaluate_figures", made.figures)):
        write_table(frame, out / f"{name}.parquet", STAGE.writes[name], {**footer, "name": f"{out.name}/{name}"})  # type: ignore[arg-type]
