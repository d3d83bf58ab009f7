"""Upload an export to the Hugging Face hub. The folder stays on disk, whatever happens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from extra_rl.errors import InputError
from extra_rl.export.adapter import HUB


def require_name(name: str) -> None:
    """Raise InputError for a name that no repository can have."""
    if not HUB.fullmatch(name):
        raise InputError(f"--push-to-hub {name}: name a repository as OWNER/NAME.")


def push(folder: Path, name: str, *, private: bool, api: Any = None) -> str:
    """Create the repository where it does not exist, upload the folder, and return the address of the commit.

    Args:
        folder: an export.
        name: OWNER/NAME.
        private: whether a new repository is private.
        api: a client of the hub; None: `open_hub`.
    Raises InputError, with the command that uploads later, without a network, a token or the right to write.
    """
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    require_name(name)
    try:
        used = open_hub() if api is None else api
        used.create_repo(repo_id=name, private=private, exist_ok=True)
        return str(used.upload_folder(repo_id=name, folder_path=str(folder), commit_message="Export from ExTra"))
    except (HfHubHTTPError, HFValidationError, LocalTokenNotFoundError, OSError, RuntimeError, ValueError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(
            f"the upload to {name} failed ({reason}). The export is whole in {folder}. Log in with `hf auth login`, "
            f"and upload it with `hf upload {name} {folder}`."
        ) from error


def open_hub() -> Any:
    """The client of the hub, with the token that `hf auth login` stored."""
    from huggingface_hub import HfApi

    return HfApi()
