"""Load a causal language model and its tokenizer from a directory, a GGUF file, an adapter with its base, or the hub.

A model is either complete (every tensor comes from its checkpoint, has the right shape, and is finite) or refused with
a ModelError of one line. The result is an ordinary trainable model without traces of adapters or quantisation.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

from extra_rl.errors import ExtraError, ModelError
from extra_rl.models import adapter, generation_config
from extra_rl.models.checks import require_causal, require_complete, require_finite, require_float
from extra_rl.models.digests import is_weights, listed_files, require_listed, with_files
from extra_rl.models.files import (
    ADAPTER_CONFIG,
    CONFIG,
    FETCH_AGAIN,
    has_weights,
    listed,
    one_line,
    packaged,
    read_json,
    require_readable,
)
from extra_rl.models.protocol import CausalLM
from extra_rl.models.removed import refuse_removed

TOKENIZER_JSON = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
DIVERGED = "The update that wrote them diverged: lower update.learning_rate and run again from an earlier iteration."


def load_model(
    source: Path | str,
    revision: str | None = None,
    *,
    device: str = "cpu",
    precision: str = "float32",
    gguf_file: str | None = None,
) -> Any:
    """The causal language model in a directory or on the hub, in evaluation mode, on `device`.

    Args:
        source: directory, name on the hub, path of a .gguf file, or `package:NAME` (`files.packaged`). A directory with
            a run's manifest.json is checked against its digests; an adapter is merged into its base.
        revision: on the hub.
        device: of the weights.
        precision: of the weights, `float32` or `bfloat16`.
        gguf_file: name of a GGUF file in `source`, which is de-quantised.
    Raises ModelError where the model is not complete, InputError where a file differs from the manifest or retention
    has removed it.
    """
    return _load(source, revision, device, precision, gguf_file, ())


def load_tokenizer(source: Path | str, revision: str | None = None, gguf_file: str | None = None) -> Any:
    """The tokenizer of the model that `load_model` loads with the same arguments.

    For an adapter it is that of the adapter's directory if there is one, else that of its base.
    Raises the errors of `load_model`.
    """
    place, gguf = place_of(source, gguf_file)
    if isinstance(place, Path):
        require_listed(place, lambda name: not is_weights(name))
    if gguf is None:
        found = adapter.find(place, revision)
        if found is not None and not found.has_tokenizer():
            return load_tokenizer(found.base, found.base_revision)
        place = found.directory if found is not None else place
        if isinstance(place, Path):
            for name in TOKENIZER_JSON:
                if (place / name).exists():
                    read_json(place / name)
    from transformers import AutoTokenizer

    options = {} if gguf is None else {"gguf_file": readable_gguf(gguf)}
    with _reading(place if gguf is None else Path(place) / gguf, "tokenizer"):
        return AutoTokenizer.from_pretrained(place, revision=revision, trust_remote_code=False, **options)


def read_config(source: Path | str, gguf_file: str | None = None, revision: str | None = None) -> dict[str, Any]:
    """The configuration of a model, of an adapter's base, or of a GGUF file's header."""
    from transformers import AutoConfig

    place, gguf = place_of(source, gguf_file)
    found = None if gguf else adapter.find(place, revision)
    if found is not None:
        return read_config(found.base, None, found.base_revision)
    options = {"revision": revision} if gguf is None else {"gguf_file": readable_gguf(gguf)}
    with _reading(place, "configuration"):
        config: dict[str, Any] = AutoConfig.from_pretrained(place, trust_remote_code=False, **options).to_dict()
        return config


def _load(
    source: Path | str,
    revision: str | None,
    device: str,
    precision: str,
    gguf_file: str | None,
    over: tuple[str, ...],
) -> Any:
    """`load_model`, for the base of an adapter too.

    Args:
        source, revision, device, precision, gguf_file: as for `load_model`.
        over: directories of the adapters that this model is the base of, to detect a cycle.
    """
    place, gguf = place_of(source, gguf_file)
    if isinstance(place, Path):
        refuse_removed(place)
        require_listed(place, lambda name: True)
    found = None if gguf else adapter.find(place, revision)
    if found is not None:
        if str(found.directory) in over:
            raise ModelError(f"{found.directory}: the adapter's base leads back to the adapter itself.")
        if found.embedded:
            with adapter.without_adapter(found.directory) as whole:
                base = _read(whole, None, precision, None)
        else:
            over = (*over, str(found.directory))
            base = _load(found.base, found.base_revision, "cpu", precision, None, over)
        with _reading(place, "adapter"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns about another base directory and about tied layers
            model = _plain(*adapter.merge(base, found), precision)
    elif isinstance(place, Path) and (place / ADAPTER_CONFIG).exists():
        with adapter.without_adapter(place) as whole:
            model = _read(whole, None, precision, None, name=str(place))
    else:
        model = _read(place, revision, precision, gguf)
    model = model.to(device)
    require_finite(str(source), model, _cause(place))
    require_causal(str(source), model)
    return model.requires_grad_(True).eval()


def _read(place: Path | str, revision: str | None, precision: str, gguf: str | None, name: str | None = None) -> Any:
    """A complete checkpoint on the CPU, with a generation config that can be saved.

    Args:
        place: directory or name on the hub.
        revision: on the hub.
        precision: of the weights.
        gguf: name of a GGUF file in `place`.
        name: of the model, for messages, if it is not `place`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    label = name or str(place)
    options: dict[str, Any] = {}
    if gguf is None and isinstance(place, Path):
        require_checkpoint(place)
        require_readable(place)
    if gguf is not None:
        options |= _gguf_options(gguf)
    else:
        with _reading(label, "generation config"):
            repaired = generation_config.read_repaired(place, revision)
        options |= {} if repaired is None else {"generation_config": repaired}
    quiet = redirect_stderr(io.StringIO()) if gguf else nullcontext()  # a progress bar without a switch
    with _reading(label if gguf is None else Path(label) / gguf, "causal language model"), quiet:
        model, report = AutoModelForCausalLM.from_pretrained(
            place,
            revision=revision,
            dtype=getattr(torch, precision),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # the loading report lists them, the library's error does not
            trust_remote_code=False,
            **options,
        )
    require_complete(label if gguf is None else f"{label}/{gguf}", model, report)
    require_float(label, model)
    if getattr(model, "hf_quantizer", None) is not None:
        with _reading(label, "causal language model"):
            model = _plain(model, model.config.tie_word_embeddings, precision)
    generation_config.repair(model, label)
    return model


def _plain(model: CausalLM, tied: bool, precision: str) -> Any:
    """An ordinary model of the same class with the same weights, without remains of quantisers and adapters.

    tied: whether its head is tied to its embedding.
    """
    import copy

    import torch

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.tie_word_embeddings = tied
    family: Any = type(model)
    made, report = family.from_pretrained(
        None, config=config, state_dict=model.state_dict(), dtype=getattr(torch, precision), output_loading_info=True
    )
    require_complete(str(model.name_or_path), made, report)
    made.generation_config = model.generation_config
    return made


def place_of(source: Path | str, gguf_file: str | None) -> tuple[Path | str, str | None]:
    """A directory (Path) or a name on the hub (str), and the name of the GGUF file in it; None for safetensors.

    A directory whose manifest refers to a previous policy (`same_as`) is replaced by that one's.
    """
    text = str(packaged(source) or source)
    if text.endswith(".gguf"):
        if gguf_file not in (None, Path(text).name):
            raise ModelError(f"{text} and gguf_file {gguf_file}: name one GGUF file.")
        source, gguf_file = Path(text).parent, Path(text).name
    path = Path(source)
    if path.is_dir():
        if gguf_file is not None and not (path / gguf_file).is_file():
            present = sorted(file.name for file in path.glob("*.gguf"))
            raise ModelError(
                f"{path / gguf_file}: there is no such file"
                + (
                    f"; the directory has {listed(present)}."
                    if present
                    else ", and no other GGUF file in that directory."
                )
            )
        return with_files(path), gguf_file
    if path.exists():
        raise ModelError(f"{path} is a file. Name the model's directory, or a .gguf file.")
    if text.startswith((".", "/", "~")) or len(path.parts) > 2:
        raise ModelError(f"{source}: there is no such directory. Check the path of the model.")
    return str(source), gguf_file


def require_checkpoint(directory: Path) -> None:
    """Raise ModelError where a directory has no config.json or no weights."""
    if not (directory / CONFIG).exists():
        if listed_files(directory):
            raise ModelError(
                f"{directory} holds a tokenizer and no weights: its rollouts were imported without a model. Import "
                "them again with --score and the model that sampled them."
            )
        ggufs = sorted(path.name for path in directory.glob("*.gguf"))
        hint = (
            f"It contains {listed(ggufs)}: set model.gguf_file to the one to read."
            if ggufs
            else "Name a directory that save_pretrained wrote, or a name on the hub."
        )
        raise ModelError(f"{directory / CONFIG}: there is no such file, so this is not a model directory. {hint}")
    if not has_weights(directory):
        raise ModelError(f"{directory}: has a {CONFIG} but no weights (model.safetensors or its shards). {FETCH_AGAIN}")


def readable_gguf(gguf: str) -> str:
    """The name of a GGUF file; ModelError if the package that reads it is not installed."""
    if importlib.util.find_spec("gguf") is None:
        raise ModelError(f"{gguf}: reading GGUF files needs the package gguf: pip install gguf")
    return gguf


def _gguf_options(gguf: str) -> dict[str, Any]:
    """Arguments of from_pretrained that de-quantise a GGUF file."""
    import transformers

    options: dict[str, Any] = {"gguf_file": readable_gguf(gguf)}
    if hasattr(transformers, "GgufConfig"):  # newer versions may keep the blocks packed
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return options


def _cause(place: Path | str) -> str:
    """The cause of weights that are not finite: the files of a run's policy are those that `update` wrote."""
    return DIVERGED if isinstance(place, Path) and listed_files(place) else f"The checkpoint is damaged. {FETCH_AGAIN}"


@contextmanager
def _reading(source: Path | str, what: str) -> Iterator[None]:
    """Turn any error of the libraries into one ModelError, and keep their reports off the terminal."""
    from transformers.utils import logging

    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except (ExtraError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(source, what, error) from error
    finally:
        logging.set_verbosity(verbosity)


def _unreadable(source: Path | str, what: str, error: Exception) -> ModelError:
    """One line for an error of the libraries, whose messages span many."""
    reason = one_line(error).rstrip(".")
    if "Unrecognized configuration class" in reason:
        kind = reason.split("Unrecognized configuration class", 1)[1].split(" for this kind")[0].strip()
        reason = f"{kind} is not the configuration of a causal language model. Name a decoder-only language model"
    elif "does not recognize this architecture" in reason:
        reason = reason.split(" This could be", 1)[0].rstrip(".") + ". Upgrade transformers, or name another model"
    elif "trust_remote_code" in reason:
        reason = "it needs its own code (trust_remote_code), which ExTra does not run. Use a model of transformers"
    if Path(source).exists():
        kind = "directory" if Path(source).is_dir() else "file"
        return ModelError(f"{source}: cannot load a {what} from this {kind}: {reason}.")
    return ModelError(f"{source}: there is no such directory, and no {what} of that name on the hub: {reason}.")
