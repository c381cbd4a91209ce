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
    """As it names itself."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
