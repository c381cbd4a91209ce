"""`netllm quickstart`."""

from __future__ import annotations

from pathlib import Path

from netllm.adapting import DEFAULT_BACKBONE


def quickstart(
    *, out: Path = Path("runs/quickstart"), backbone: str = DEFAULT_BACKBONE, jobs: int = 1
) -> int:
    """Collect, adapt and test on synthetic traces, in some ten minutes on two cores.

    Args:
        out: Folder of everything it writes.
        backbone: The language model; pulled if it is not there yet.
        jobs: Pieces of the test that run at once.
    """
    from netllm.quickstart import quickstart
    from netllm.table import show

    show(quickstart(out=out, backbone=backbone, jobs=jobs))
    print(f"{out} holds results.json, cdf.png, bars.png, the model card and the checkpoint.")
    return 0
