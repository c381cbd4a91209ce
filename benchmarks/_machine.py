"""What a measurement ran on, for its JSON."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """The processor as it names itself, what torch uses of it, and how many threads."""
    import torch  # the simulators' measurements do without

    return {
        "cpu": processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "bfloat16_tiles": torch.cpu._is_amx_tile_supported(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def processor() -> str:
    """As it names itself, and its family and model: rented ones often hide the rest."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    pairs = (line.split(":", 1) for line in reversed(lines) if ":" in line)
    told = {name.strip(): value.strip() for name, value in pairs}
    if "model name" not in told:
        return platform.processor() or platform.machine()
    numbers = [f"{key.split()[-1]} {told[key]}" for key in ("cpu family", "model") if key in told]
    return ", ".join([told["model name"], *numbers])
