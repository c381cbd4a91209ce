"""What a file of weights says of how it was made."""

from pathlib import Path
from typing import Any

from netllm_baselines import _weights_files


def facts(file: Path) -> dict[str, Any]:
    """The metadata of a `.npz` of weights.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds something else.
    """
    return _weights_files.read_npz(file, "weights (.npz) that say how they were made")[1]
