"""Files of a data set in a folder or in a zip, by their paths within it."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class Tree:
    """The files below a folder or in a zip archive, hidden ones left out.

    Args:
        root: The folder or zip.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: The archive is damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if root.is_dir():
            files = (p for p in root.rglob("*") if p.is_file())
            names = [p.relative_to(root).as_posix() for p in files]
        elif root.is_file():
            with self._archive() as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
        else:
            raise FileNotFoundError(f"{root}: there is no such folder or zip archive.")
        self.names = sorted(name for name in names if not _hidden(name))
        """Paths of the files, sorted, with `/` between folders."""

    def path(self, name: str) -> Path:
        """The file `name`, for messages: one in a zip is named like one in a folder."""
        return self.root / name

    def read(self, names: Sequence[str]) -> Iterator[tuple[Path, bytes]]:
        """Path and content of each of the files, in this order.

        Raises:
            ValueError: The archive is damaged.
        """
        if self.root.is_dir():
            for name in names:
                yield self.path(name), self.path(name).read_bytes()
            return
        with self._archive() as archive:
            for name in names:
                try:
                    content = archive.read(name)
                except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
                    raise ValueError(
                        f"{self.path(name)}: the zip archive is damaged here: {error}. Fetch it "
                        "again."
                    ) from None
                except (RuntimeError, NotImplementedError) as error:  # encrypted; odd compression
                    raise ValueError(
                        f"{self.root}: the zip archive cannot be read: {error}. Unpack it, and "
                        "give the folder."
                    ) from None
                yield self.path(name), content

    @contextmanager
    def _archive(self) -> Iterator[zipfile.ZipFile]:
        try:
            archive = zipfile.ZipFile(self.root)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ValueError(
                f"{self.root}: must be a folder or a whole zip archive, got another or damaged "
                f"file: {error}. Fetch it again."
            ) from None
        with archive:
            yield archive


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
