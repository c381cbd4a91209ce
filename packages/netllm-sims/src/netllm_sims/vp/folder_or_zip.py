"""Files of a data set in a folder or in a zip, by their paths within it."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from netllm_sims.files import reading, zips
from netllm_sims.files.reading import Block


class Tree:
    """The files below a folder or in a zip archive, hidden ones left out.

    Args:
        root: The folder or zip.

    Raises:
        FileNotFoundError: There is neither.
        ValueError: The archive is damaged, or one that `archives` refuses.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        if root.is_dir():
            # a pipe or a link to nothing is no folder: it is refused by its name, not passed over
            files = (p for p in root.rglob("*") if not p.is_dir())
            names = [p.relative_to(root).as_posix() for p in files]
        elif root.exists():
            with zips.opened(root) as archive:
                names = [*archive.names]
        else:
            raise FileNotFoundError(f"{root}: there is no such folder or zip archive.")
        self.names = sorted(name for name in names if not _hidden(name))
        """Paths of the files, sorted, with `/` between folders."""

    def path(self, name: str) -> Path:
        """The file `name`, for messages: one in a zip is named like one in a folder."""
        return self.root / name

    def read(self, names: Sequence[str]) -> Iterator[tuple[Path, Iterator[Block]]]:
        """Path and lines of each of the files, in this order; to be read one after another.

        Raises:
            ValueError: A file or the archive is damaged, or larger than `reading` admits.
        """
        if self.root.is_dir():
            for name in names:
                with reading.opened(self.path(name)) as stream:
                    yield self.path(name), reading.blocks(stream, self.path(name))
            return
        with zips.opened(self.root) as archive:
            for name in names:
                with archive.stream(name) as stream:
                    yield self.path(name), reading.blocks(stream, self.path(name))


def _hidden(name: str) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
