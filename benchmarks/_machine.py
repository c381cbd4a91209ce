"""What a measurement ran on, for its JSON."""

from __future__ import annotations

from typing import Any

from netllm_adapt.processor import processor


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
