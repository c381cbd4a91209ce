"""Checkpoints on a model hub: fetched as data, file by name, and pushed as they are saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from netllm_adapt.checkpoint.config import CARD, MERGED, OWN_FILES, Config, read_config
from netllm_adapt.files.digests import FILE as DIGESTS
from netllm_adapt.files.reading import first_line

FILES = (
    "config.json",
    DIGESTS,
    CARD,
    "adapter_config.json",
    *sorted(OWN_FILES),
    f"{MERGED}/config.json",
    f"{MERGED}/generation_config.json",
    f"{MERGED}/model*.safetensors",
    f"{MERGED}/model.safetensors.index.json",
)
"""What a checkpoint may hold, beside the files that its `config.json` attaches: none that runs."""
_BESIDE = {".gitattributes", CARD, "LICENSE", "LICENSE.md"}
"""What a repository may hold before its first checkpoint."""
_FAULTS: tuple[type[Exception], ...] = (
    OSError,
    *(one for one in HfHubHTTPError.__mro__ if one.__name__ == "HTTPError"),
)
"""What the hub's client raises; each of its major releases has another HTTP library."""


def is_repo(name: str | Path, *, home: Path | None = None) -> bool:
    """Whether a name is a model's on the hub, `owner/name`, and none of a folder here.

    A name is one of a folder if it is a `Path`, or if a folder `owner` is here: a misspelt folder
    is not looked for on the hub.
    """
    if not isinstance(name, str) or name.count("/") != 1:
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not ((home or Path()) / name.split("/")[0]).exists()


def folder_of(name: str | Path, *, revision: str | None = None) -> Path:
    """Where a checkpoint lies: the folder of that name, or the one that it is fetched to.

    Raises:
        ValueError: if `revision` is given with a folder, or the hub's model is no checkpoint.
        FileNotFoundError: if the name is neither a folder's nor a model's on the hub.
        ConnectionError: if the hub cannot be reached, and the model was not fetched before.
    """
    if is_repo(name):
        return fetch(str(name), revision=revision)
    if revision is not None:
        raise ValueError(
            f"`revision` must be None for a folder, got {revision!r} with {name}. Leave it out, or "
            "give a model's name on the hub, owner/name."
        )
    return Path(name)


def fetch(repo: str, *, revision: str | None = None) -> Path:
    """The folder in the hub's cache to which a checkpoint is fetched; nothing of it is run.

    Offline it is what was fetched before.

    Args:
        repo: `owner/name`.
        revision: a branch, tag or commit; the main branch if None.

    Raises:
        ValueError: if it is no checkpoint; then nothing but its configuration is fetched.
        FileNotFoundError: if there is no such model, or you may not see it.
        ConnectionError: if the hub cannot be reached, and the model was not fetched before.
    """
    commit, config = _configured(repo, revision)  # the same one, even if somebody pushes now
    with _explained(repo):
        patterns = [*FILES, *config.attached]
        return Path(snapshot_download(repo, revision=commit, allow_patterns=patterns))


def push(
    folder: Path,
    repo: str,
    *,
    private: bool | None = None,
    commit_message: str = "Add a checkpoint of netllm-adapt",
) -> str:
    """The address of the hub's model to which a checkpoint's folder is pushed, in one commit.

    No other file goes along, and those of an earlier checkpoint there are deleted.

    Args:
        folder: with the checkpoint, and with its card as you edited it.
        repo: `owner/name`; it is made if it is not there.
        private: whether a new one is private; the owner's default if None.
        commit_message: of the commit.

    Raises:
        ValueError: if the folder is no checkpoint.
        FileExistsError: if the hub's model of that name holds something else than a checkpoint.
        ConnectionError: if the hub cannot be reached, or refuses.
    """
    own = [*FILES, *read_config(folder).attached]
    with _explained(repo):
        hub = HfApi()
        made = hub.create_repo(repo, private=private, exist_ok=True)
        there = set(hub.list_repo_files(made.repo_id)) - _BESIDE
    try:
        before = _configured(made.repo_id)[1].attached if there else []
    except ValueError as error:
        raise FileExistsError(
            f"{made.repo_id} must be new, empty or a checkpoint on the hub, got something else, "
            "which would be mixed with one. Choose another name."
        ) from error
    with _explained(repo):
        hub.upload_folder(
            repo_id=made.repo_id,
            folder_path=folder,
            commit_message=commit_message,
            allow_patterns=own,
            delete_patterns=[*FILES, *before],
        )
    return str(made)


def _configured(repo: str, revision: str | None = None) -> tuple[str, Config]:
    """A model's commit, and its configuration, which alone is fetched."""
    with _explained(repo):
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns="config.json"))
    try:
        return folder.name, read_config(folder)
    except ValueError as error:
        raise ValueError(
            f"{repo}: the hub's model of this name is no checkpoint of netllm-adapt: {error}"
        ) from error


@contextmanager
def _explained(repo: str) -> Iterator[None]:
    """Turn what the hub's client raises into what to do."""
    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FileNotFoundError(
            f"{repo!r} must be a folder here, or a model on the hub that you may see (with such a "
            f"`revision`, if you gave one). {first_line(error)}. For a private model, log in with "
            "`hf auth login` or set HF_TOKEN."
        ) from error
    except _FAULTS as error:
        if getattr(error, "errno", None) and not isinstance(error, ConnectionError):
            raise  # a full disk, say
        raise ConnectionError(
            f"{repo!r} is no folder here, and the hub cannot be reached, or refuses: "
            f"{first_line(error)}. Check the name, the network and HF_HUB_OFFLINE; to write, log "
            "in with `hf auth login` or set HF_TOKEN."
        ) from error
