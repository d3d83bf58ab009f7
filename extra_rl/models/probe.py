"""Compare fast paths with the model's own forward pass before they are used.

The reference is `model(input_ids)` of transformers: one sequence, without cache and padding, with the attention that
the model was loaded with. A path (the sampler's decoding, a layout of scoring) computes logprobs and entropies of a few
short random sequences. It may be used if they are within the tolerance of the reference. Sampling and scoring pass
their paths, the best first, to `Probe.first_that_holds`; the result is a `fast` path, a `plain` one (the family's own
forward pass, slower), or a ModelError.

The names of the chosen paths are stored in the policy's manifest, with a key of everything that decides which code
runs: configuration, versions, type and device. For other weights with the same key, the comparison uses fewer and
shorter sequences (`BRIEF`). Source: our decision (docs/decisions/0015-any-family.md).
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from extra_rl.errors import ModelError
from extra_rl.models import family
from extra_rl.models.attention import ignored_arguments, own_attention
from extra_rl.models.measure import TOLERANCE, Measurement, Path, Rank, Sequences, measured, own_statistics
from extra_rl.models.protocol import CausalLM

PROMPTS = (6, 6, 3, 9)
RESPONSES = (2, 3, 4, 2)
"""Lengths of the probe's sequences in tokens; the first two share their prompt. If the configuration has an attention
window within reach, the last prompt is longer than the window."""
ROUNDED = ((11, 11, 5, 17), (5, 3, 6, 4))
"""The same for weights below float32: more tokens, because rounding hides small errors."""
BRIEF = ((4, 4, 2), (2, 1, 2))
"""The same where the paths of an equal architecture are known."""
VERSION = 1
"""Part of the key of stored paths; to be raised when the code of a path changes."""
REACH = 2.5e10
"""Limit of parameters times tokens of the longest sequence; the probe does not reach longer windows."""
LONGEST = 512
"""Limit of the longest prompt in tokens."""


@dataclass(frozen=True)
class Decision:
    """The path for a purpose (`what`: `sampling` or `scoring`).

    reason: why no better path is used. known: the path was stored for an equal architecture and compared on fewer
    sequences.
    """

    what: str
    path: str
    rank: Rank
    reason: str
    known: bool = False


@contextmanager
def exact_products() -> Iterator[None]:
    """Compute matrix products of float32 in float32 within the context.

    TF32, which `compute.precision: bfloat16` allows on a GPU, has ten bits of mantissa; two ways of computing the same
    numbers would then differ by more than the tolerance of float32 weights.
    """
    import torch

    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(allowed)


@dataclass
class Probe:
    """The measurements and decisions of one loaded model.

    name, dtype, attention: of the model, its weights, and the attention implementation that it was loaded with.
    head: None where its logits are not explained by a scale and a soft cap.
    key: digest of its architecture.
    sequences, brief: (prompt, response) of the whole and of the brief probe, in token ids.
    unreached: attention windows in the configuration that are longer than the sequences.
    known: path for each purpose, as stored for an equal architecture.
    ignored: arguments that the model passes to its attention and that the implementation of transformers ignores.
    """

    name: str
    dtype: str
    attention: str
    head: family.Head | None
    key: str
    sequences: Sequences
    brief: Sequences
    unreached: list[int]
    known: Mapping[str, str]
    ignored: list[str] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    decisions: dict[str, Decision] = field(default_factory=dict)
    seconds: float = 0.0
    _reference: dict[tuple[int, ...], tuple[list[float], list[float]]] = field(default_factory=dict)

    @property
    def tolerance(self) -> tuple[float, float]:
        """Allowed largest and mean difference in nats."""
        return TOLERANCE.get(self.dtype, TOLERANCE["float32"])

    def first_that_holds(self, what: str, model: CausalLM, paths: Sequence[Path]) -> str:
        """Name of the first path that is within the tolerance; later calls return it without measuring.

        Raises ModelError where no path is, NumericalError where the reference is not finite.
        """
        self._reference.clear()
        known = next((path for path in paths if path.name == self.known.get(what)), None)
        if what not in self.decisions and known and self.measure(model, known, brief=True).holds(self.tolerance):
            self._decide(Decision(what, known.name, known.rank, "as for an earlier policy", known=True))
        if what not in self.decisions:
            tried: list[Measurement] = []
            for path in paths:
                tried.append(self.measure(model, path))
                if tried[-1].holds(self.tolerance):
                    self._decide(Decision(what, path.name, path.rank, "; ".join(m.text for m in tried[:-1])))
                    self._warn_of(ignored_arguments(model))
                    break
            else:
                raise ModelError(
                    f"{self.name}: {what} with this model is refused, because no path agrees with its own "
                    f"forward pass (allowed: {self.tolerance[0]:g} nats): {'; '.join(m.text for m in tried)}. "
                    "`extra doctor MODEL` shows what was measured; docs/models.md lists families that work."
                )
        return self.decisions[what].path

    def holds(self, model: CausalLM, path: Path) -> bool:
        """Whether a path that the user requests by name is within the tolerance; measured once."""
        self._reference.clear()
        found = next((m for m in self.measurements if m.path == path.name), None) or self.measure(model, path)
        return found.holds(self.tolerance)

    def measure(self, model: CausalLM, path: Path, *, brief: bool = False) -> Measurement:
        """Measure the difference of a path from the reference. brief: on fewer sequences."""
        with exact_products():
            found = measured(model, path, self.brief if brief else self.sequences, self.reference)
        self.measurements.append(found)
        self.seconds += found.seconds
        return found

    def reference(
        self, model: CausalLM, prompt: Sequence[int], response: Sequence[int]
    ) -> tuple[list[float], list[float]]:
        """Logprob and entropy of each response token by the model's own forward pass, in nats at temperature 1.

        Computed once for all paths that are compared. Raises NumericalError where a logit is not finite.
        """
        tokens = (*prompt, *response)
        key = (len(prompt), *tokens)
        if key not in self._reference:
            self._reference[key] = own_statistics(model, tokens, self.name, len(prompt))
        return self._reference[key]

    def to_remember(self) -> dict[str, Any]:
        """For the manifest of a policy of this architecture: the key and the chosen or known paths."""
        paths = {**self.known, **{what: decision.path for what, decision in self.decisions.items()}}
        return {"key": self.key, "paths": dict(sorted(paths.items()))}

    def summary(self) -> dict[str, Any]:
        """For the run record: measurements, decisions, and time."""
        return {
            "model": self.name,
            "dtype": self.dtype,
            "attention": self.attention,
            "attention_ignores": self.ignored,
            "logits": self.logits,
            "windows_not_reached": self.unreached,
            "tolerance": self.tolerance,
            "measurements": [asdict(m) for m in self.measurements],
            "decisions": {what: asdict(decision) for what, decision in self.decisions.items()},
            "seconds": self.seconds,
        }

    @property
    def logits(self) -> str:
        """The transform of the head's output, in words."""
        if self.head is None:
            return "own"
        scale = "" if self.head.scale == 1 else f"scale {self.head.scale:g}"
        cap = "" if self.head.cap is None else f"soft cap {self.head.cap:g}"
        return ", ".join(filter(None, (scale, cap))) or "as they are"

    def _decide(self, decision: Decision) -> None:
        """Store a decision. One for a slower path is printed, but not again for later policies."""
        self.decisions[decision.what] = decision
        if decision.rank != "fast" and not decision.known:
            text = f"{self.name}: {decision.what} by the path `{decision.path}`, slower: {decision.reason}."
            print(text, file=sys.stderr, flush=True)

    def _warn_of(self, ignored: set[str]) -> None:
        """Warn once that the attention implementation of transformers ignores arguments of the model."""
        if ignored and not self.ignored:
            self.ignored = sorted(ignored)
            print(
                f"WARNING: {self.name}: transformers' `{self.attention}` attention, with which it loads this model, "
                f"ignores {', '.join(self.ignored)}. Sampling, scoring and update agree with it and with each "
                "other, but not with engines that use it (docs/models.md).",
                file=sys.stderr,
                flush=True,
            )


_MADE: list[Probe] = []


def probes_made() -> list[Probe]:
    """The probes of this process since `forget_probes`, in the order of their creation."""
    return list(_MADE)


def forget_probes() -> None:
    """Clear the list of `probes_made`; the probes of loaded models stay with their models."""
    _MADE.clear()


def remember(model: CausalLM, remembered: Mapping[str, Any] | None) -> None:
    """Store the paths of a policy's manifest (`Probe.to_remember`) with the loaded model, before `probe_of`.

    A value of another form is ignored, so the whole probe runs.
    """
    usable = isinstance(remembered, Mapping) and isinstance(remembered.get("paths"), Mapping)
    model.__dict__["extra_remembered"] = remembered if usable else {}


def probe_of(model: CausalLM, tokens: int | None = None) -> Probe:
    """The model's probe. The first call creates it, stores it with the model, and measures the head only.

    tokens: length of the longest prompt, at the first call; None: up to the limit REACH.
    """
    found: Probe | None = model.__dict__.get("extra_probe")
    if found is None:
        started = time.perf_counter()
        found = _new_probe(model, tokens)
        found.seconds = time.perf_counter() - started
        model.__dict__["extra_probe"] = found
        _MADE.append(found)
    return found


def known_head(model: CausalLM) -> family.Head:
    """The model's head; ModelError where the transform of its logits is neither a scale nor a soft cap."""
    head = probe_of(model).head
    if head is None:
        raise ModelError("what the model does to its logits is neither a scale nor a soft cap")
    return replace(head, module=model.get_output_embeddings())  # the module may have been replaced since the probe


def _new_probe(model: CausalLM, tokens: int | None) -> Probe:
    """A probe with its sequences drawn and its head read."""
    from extra_rl.seeding import generator

    parameters = sum(p.numel() for p in model.parameters())
    dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
    prompt_lengths, response_lengths = (PROMPTS, RESPONSES) if dtype == "float32" else ROUNDED
    # The longest prompt that leaves space for a response within the context, and is cheap enough for the model's size.
    within = min(tokens or min(LONGEST, int(REACH / parameters)), _context(model) - max(response_lengths))
    named = family.windows(model)
    reached = [window for window in named if window + 4 <= within]
    longest = max(prompt_lengths[-1], tokens or 0, *(window + 4 for window in reached))
    prompts = [max(1, min(length, within)) for length in (*prompt_lengths[:-1], longest)]
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    random = generator(0, "probe", vocabulary)
    drawn = [tuple(random.integers(0, vocabulary, length).tolist()) for length in (*prompts, *response_lengths)]
    # The first two sequences share their prompt, as the rollouts of a group do.
    contexts, responses = [drawn[0], drawn[0], *drawn[2:4]], drawn[4:]
    brief = [(contexts[0][:p], responses[i][:r]) for i, (p, r) in enumerate(zip(*BRIEF, strict=True))]
    key, remembered = _key(model), model.__dict__.get("extra_remembered", {})
    attention = own_attention(model)
    try:
        head = family.read_head(model)
    except Exception as error:  # the family's code can raise anything; the model can still use the plain path
        print(f"{_name(model)}: the head cannot be read ({type(error).__name__}: {error}).", file=sys.stderr)
        head = None
    return Probe(
        name=_name(model),
        dtype=dtype,
        attention=attention,
        head=head,
        key=key,
        sequences=list(zip(contexts, responses, strict=True)),
        brief=brief,
        known=remembered.get("paths", {}) if remembered.get("key") == key else {},
        unreached=[window for window in named if window not in reached],
    )


def _key(model: CausalLM) -> str:
    """Digest of everything that decides which code runs for a model, independent of its weights."""
    from importlib.metadata import version

    written = ("transformers_version", "architectures", "dtype")  # added by save_pretrained, without effect here
    parts = {
        "version": VERSION,
        "packages": {name: version(name) for name in ("torch", "transformers")},
        "class": type(model).__name__,
        "config": {k: v for k, v in model.config.to_dict().items() if k[0] != "_" and k not in written},
        "dtype": str(next(model.parameters()).dtype),
        "device": next(model.parameters()).device.type,
        "attention": own_attention(model),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _name(model: CausalLM) -> str:
    """The directory or hub name of a model, else its class, for messages."""
    return str(getattr(model.config, "_name_or_path", "") or type(model).__name__)


def _context(model: CausalLM) -> int:
    """The longest sequence of the model in tokens; a default where it has no limit."""
    return family.context(model.config) or LONGEST * 2
