"""Opens vLLM's server for a policy: loads the policy where needed, and checks that the engine samples from it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from extra_rl.algorithms.mismatch import TOLERANCE
from extra_rl.config.sections import ComputeConfig, SamplingConfig
from extra_rl.errors import ConfigError, ModelError
from extra_rl.models.probe import Probe, probe_of
from extra_rl.sampling.base import Sampler
from extra_rl.sampling.text import StopStrings
from extra_rl.sampling.vllm import run_engine, weights
from extra_rl.sampling.vllm.arguments import engine_arguments, environment
from extra_rl.sampling.vllm.probe import policy_logprobs, probe_sequences, refuse_another_policy

if TYPE_CHECKING:
    from extra_rl.models.policy import Policy

CPU_HEAD_DIM = 32
"""Smallest head_dim that the CPU kernels support."""


@contextmanager
def open_engine(
    directory: Path,
    digest: str | None,
    read: Callable[[], Policy],
    config: SamplingConfig,
    compute: ComputeConfig,
    device: str,
    longest: int | None,
    stops: StopStrings | None = None,
) -> Iterator[Sampler]:
    """The sampler of a policy, until the end of the block.

    Raises ConfigError without vLLM or for contexts that are longer than the model reads, ModelError where an engine
    cannot run the policy, NumericalError where the logprobs of engine and policy differ.

    Args:
        directory: of the policy.
        digest: of the policy; None: an engine is never assumed to have its weights already.
        read: loads the policy, which scores the probe and is freed before an engine takes its memory.
        config: the section `sampling`.
        compute: the section `compute`.
        device: `cuda` or `cpu`.
        longest: largest number of tokens of a context and its response together; None: unknown.
        stops: of the policy's tokenizer, for `config.stop`.
    """
    require_vllm()
    shape = _shape(directory, device)
    context = _context(longest, config, shape.max_position_embeddings, directory)
    arguments = engine_arguments(config, compute, device, context)
    variables = environment(config, compute, device)
    tolerance = config.probe_tolerance or TOLERANCE[compute.precision]
    probe = probe_sequences(shape.vocab_size, context)
    measured: list[Probe] = []

    def lay_out(view: Path) -> tuple[list[list[float]], tuple[int, ...]]:
        """Lay the policy out for vLLM; return its own logprobs of the probe, and the ids that end a response."""
        policy = read()
        weights.link_view(directory, view)
        if device == "cpu":
            weights.write_head(view, policy.model)
        expected, eos = policy_logprobs(policy.model, probe), policy.eos_token_ids
        measured.append(probe_of(policy.model))
        del policy
        _free(device)
        return expected, eos

    def compare(found: list[list[float]], expected: list[list[float]]) -> None:
        """Refuse an engine that does not give the policy's logprobs; record the difference."""
        measured[-1].measurements.append(refuse_another_policy(expected, found, tolerance, directory))

    if device == "cuda":
        arguments["enable_sleep_mode"] = True
    version = digest or uuid4().hex
    with run_engine.engines_folder() as (folder, logs):
        engine = run_engine.take(folder, logs, device)
        try:
            noted = engine.loaded(arguments)
            if noted.get("version") == version:
                eos = tuple(noted["eos"])
                _wake(engine, device)
            else:
                if not noted:
                    require_build_for(device, variables)
                view = engine.view(version)
                expected, eos = lay_out(view)  # before the engine wakes: a GPU may not fit both
                if noted:
                    _wake(engine, device)
                    engine.reload(view)
                else:
                    print(f"starting vLLM: {engine.log}", file=sys.stderr, flush=True)
                    engine.start(view, arguments, variables, folder / run_engine.ALIVE)
                compare(engine.client().score(probe), expected)
                engine.note_loaded(version, eos)
            yield engine.client(version, eos, stops)
            if device == "cuda":
                engine.client().post("/sleep?level=1")  # frees its memory for the update
        finally:
            run_engine.give_back(engine)


def _wake(engine: run_engine.Engine, device: str) -> None:
    if device == "cuda":
        engine.client().post("/wake_up")


def require_vllm() -> None:
    """Raise ConfigError where vLLM is not installed."""
    if importlib.util.find_spec("vllm") is None:
        raise ConfigError(
            "sampling.backend is vllm, which is not installed here: pip install -e '.[vllm]' (CUDA), or make "
            ".venv-vllm/ready (its CPU build), see docs/vllm.md. Or use sampling.backend: transformers."
        )


def require_build_for(device: str, variables: Mapping[str, str]) -> None:
    """Raise ConfigError where the installed vLLM is built for another device.

    Another process imports it, because the import changes torch's threads.
    """
    command = "from vllm.platforms import current_platform as found; print(found.device_type)"
    done = subprocess.run(
        [sys.executable, "-c", command], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    built_for = done.stdout.split()[-1] if done.returncode == 0 and done.stdout.split() else ""
    if built_for != device:
        raise ConfigError(
            f"compute.device is {device}, but the vLLM that is installed is built for "
            f"{built_for or 'no device of this machine'}. Install the other build (docs/vllm.md), or use "
            "sampling.backend: transformers."
        )


def _shape(directory: Path, device: str) -> Any:
    """Return the model's configuration; ModelError for heads that the CPU kernels do not support."""
    from transformers import AutoConfig

    if not (directory / "config.json").is_file():
        raise ModelError(
            f"{directory}: vLLM reads directories with a config.json, but this has none (an adapter?). Start a run "
            "from it, whose warm start merges it, or use sampling.backend: transformers."
        )
    shape = AutoConfig.from_pretrained(directory)
    head_dim = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    if device == "cpu" and head_dim < CPU_HEAD_DIM:
        raise ModelError(
            f"{directory}: vLLM's CPU kernels need heads of at least {CPU_HEAD_DIM} dimensions, this model has "
            f"{head_dim}. Use sampling.backend: transformers, or another model.shape.head_dim."
        )
    return shape


def _context(longest: int | None, config: SamplingConfig, reads: int, directory: Path) -> int:
    """Return the tokens for which an engine is started: as configured, or the next power of two, at most `reads`.

    A power of two, so that a slightly longer call can use the same engine. reads: longest input of the model.
    """
    configured = config.engine.max_model_len
    largest = min(configured or reads, reads)
    if longest is not None and longest > largest:
        what = (
            f"{directory} reads {reads:,} tokens"
            if largest == reads
            else f"sampling.engine.max_model_len is {largest:,}"
        )
        raise ConfigError(
            f"a context and its response may have {longest:,} tokens together, but {what}: lower max_response_tokens"
            + (", or raise it." if largest < reads else ".")
        )
    return configured or min(reads, 1 << ((longest or reads) - 1).bit_length())


def _free(device: str) -> None:
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
