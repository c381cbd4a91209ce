"""What was played, kept file by file, so that a run that was cut off goes on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from netllm.real.play_log import Log

if TYPE_CHECKING:
    from netllm_sims.abr import Session


class KeptPlays:
    """The logs of plays in a folder: of whole ones in `plays`, of others in `failed`.

    Args:
        folder: where; made if it is missing.
        how: what all of them have in common, such as the setting.

    Raises:
        ValueError: if the folder holds plays that have something else in common.
        OSError: if it cannot be written.
    """

    def __init__(self, folder: Path, how: Mapping[str, Any]) -> None:
        from netllm.verbs.check_writable import check_folder

        check_folder(folder)
        self.folder = folder
        file = folder / "plays.json"
        if not file.exists():
            _write(file, how)
            return
        before = _read(file, dict)
        differing = [name for name in {**before, **how} if before.get(name) != how.get(name)]
        if differing:
            was, now = ({name: some.get(name) for name in differing} for some in (before, how))
            raise ValueError(f"{folder} holds plays of {was}, these are of {now}. Choose another.")

    def read(self, who: str, session: Session) -> Log | None:
        """What was played to its end; None if it was not yet.

        Raises:
            ValueError: if the file is damaged.
        """
        file = self._file("plays", who, session)
        return _read(file, Log) if file.exists() else None

    def write(self, who: str, session: Session, log: Log) -> Path:
        """The file in which it is kept now."""
        failed = self._file("failed", who, session)
        if not log.error:
            failed.unlink(missing_ok=True)
        return _write(failed if log.error else self._file("plays", who, session), log)

    def _file(self, kind: str, who: str, session: Session) -> Path:
        return self.folder / kind / file_name(who) / f"{file_name(session.id)}.json"


def file_name(name: str) -> str:
    """A name that a file can have, and no other name has."""
    safe = quote(name, safe=" ")
    return f"%2E{safe[1:]}" if safe.startswith(".") else safe


def _read(file: Path, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(file.read_bytes(), type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} cannot be read: {error}. Delete it, and play again.") from error


def _write(file: Path, content: Any) -> Path:
    from netllm_adapt.files.writing import new_file

    file.parent.mkdir(parents=True, exist_ok=True)
    with new_file(file) as work:
        work.write_bytes(msgspec.json.encode(content))
    return file
