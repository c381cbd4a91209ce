"""What happened in sessions, chunk by chunk, in the simulator and in real players; as pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from netllm_sims.abr.session_picture import Chunk, draw

from netllm.real.kept_plays import file_name
from netllm.real.play_log import pictured

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from netllm_sims.abr import Setting

    from netllm.real.play_log import Log

WIDTH, ROW_HEIGHT = 11.0, 3.2
"""Of a picture and of a policy's row in it, in inches."""
Sessions = Mapping[str, Sequence[Chunk]]
"""What happened in sessions, by their ids."""


def real_sessions(logs: Mapping[str, Log], setting: Setting) -> Sessions:
    """What players told of sessions."""
    return {name: pictured(log, setting) for name, log in logs.items()}


def save(
    simulated: Mapping[str, Sessions], real: Mapping[str, Sessions], setting: Setting, folder: Path
) -> list[Path]:
    """Draw each session into a PNG file: a policy in each row, simulated and real.

    Args:
        simulated: by policy what happened in the simulator.
        real: the same in real players, with the same policies and sessions.
        setting: that they were played in.
        folder: where the files are written, each when it is complete.
    """
    from matplotlib.figure import Figure
    from netllm_adapt.files.writing import new_file

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name in next(iter(real.values()), {}):
        figure = Figure(figsize=(WIDTH, ROW_HEIGHT * len(real)), layout="constrained")
        rows = figure.subfigures(len(real), 2, squeeze=False)
        for who, (left, right) in zip(real, rows, strict=True):
            for place, kind, some in ((left, "simulated", simulated), (right, "real", real)):
                draw(some[who][name], place, total=setting.video.chunks, cap_s=setting.buffer_cap_s)
                place.suptitle(f"{who}, {kind}", x=0.02, ha="left", fontsize="medium")
        _share_scale([part.axes[0] for part in rows.flat])
        figure.suptitle(f"{setting.name} / {name}", fontsize="medium")
        path = folder / f"{file_name(name)}.png"
        with new_file(path) as work:
            figure.savefig(work, dpi=120, format="png")
        paths.append(path)
    return paths


def _share_scale(some: Sequence[Axes]) -> None:
    """Give axes the same height, the greatest of all."""
    top = max(one.get_ylim()[1] for one in some)
    for one in some:
        one.set_ylim(0, top)
