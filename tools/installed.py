"""Exit with 1 unless wheels are what is installed here: `python tools/installed.py dist/*.whl`.

A package index may have a package of the same name and version: every file is compared.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile


def differences(wheel: Path) -> Iterator[str]:
    """Yield the files of a wheel that are not installed as they are in it."""
    installed = distribution(wheel.name.split("-")[0])
    with ZipFile(wheel) as archive:
        for name in archive.namelist():
            file = Path(str(installed.locate_file(name)))
            # Installers add to RECORD what they write themselves.
            written = name.endswith(".dist-info/RECORD")
            if not written and not (file.is_file() and file.read_bytes() == archive.read(name)):
                yield f"{file} must be {name} of {wheel}, but is missing or another one"


def main() -> int:
    """Print what differs."""
    found = [line for wheel in sys.argv[1:] for line in differences(Path(wheel))]
    print(*found, sep="\n", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
