"""Write netllm's registry of data: the sha256 of every file of a complete data folder.

Usage: python tools/data_registry.py DATA

Only hashes are kept, in pooch's format; `netllm.data.download` knows which files are public, and
where.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

REGISTRY = Path(__file__).parents[1] / "integration/src/netllm/data/data_registry.txt"


def lines(data: Path) -> list[str]:
    """One `path sha256` per file below the folder's top level, where only notes lie."""
    files = (path for folder in data.iterdir() if folder.is_dir() for path in folder.rglob("*"))
    return [
        f"{file.relative_to(data).as_posix()} {hashlib.sha256(file.read_bytes()).hexdigest()}"
        for file in sorted(files)
        if file.is_file()
    ]


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    found = lines(Path(sys.argv[1]))
    REGISTRY.write_text("\n".join(found) + "\n", encoding="utf-8")
    print(f"{REGISTRY}: {len(found)} files")
