"""Importers: public data sets of traces and videos, written in our own formats.

    from netllm_sims.abr import importers

    importers.run("norway", ["report.2010-09-13_1003CEST.log"], "mine")
    abr.setting("default", traces="mine")

`IMPORTERS` says what there is. Each is a module with one function: `traces(files)` gives traces,
`video(file)` one video. Their docstrings say where the format is described, and how it is read.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from netllm_sims.abr.importers._output_folder import write_traces, write_video
from netllm_sims.files.imported import Imported
from netllm_sims.setting_values import unknown


class Importer(NamedTuple):
    """One source of data."""

    module: str
    """Name of its module here."""
    makes: str
    """`traces` or `video`."""
    summary: str
    """What it reads, in a line."""


IMPORTERS = {
    "sabre": Importer("sabre", "traces", "sabre's JSON network traces"),
    "sabre-movie": Importer("sabre", "video", "sabre's JSON movie"),
    "puffer": Importer(
        "puffer", "traces", "Puffer's video_sent CSV, with client_buffer or without"
    ),
    "norway": Importer("norway", "traces", "HSDPA logs of Norway (Riiser et al. 2013)"),
    "ghent": Importer("ghent", "traces", "4G logs of Ghent (van der Hooft et al. 2016)"),
    "lumos5g": Importer("lumos5g", "traces", "the CSV of Lumos5G 1.0, a trace per run"),
    "4gdataset": Importer("fivegdataset", "traces", "CSV of the 4G dataset of UCC (G-NetTrack)"),
    "5gdataset": Importer("fivegdataset", "traces", "CSV of the 5G dataset of UCC (G-NetTrack)"),
    "dash": Importer("dash", "video", "a DASH manifest (MPD) with the sizes of its segments"),
}
"""Importers by name."""


def run(name: str, files: Iterable[str | Path], out: str | Path) -> Imported:
    """Read files of a source, and write what they hold into a new folder.

    Args:
        name: A name of `IMPORTERS`.
        files: The files; a video takes one. Packed ones (gzip, bzip2, xz) are read as they are.
        out: The folder; it must not exist, or be empty. It appears when it is complete.

    Raises:
        ValueError: Unknown name, no files or too many, or one that cannot be read; names file, line
            and remedy.
        FileExistsError: The folder holds something.
    """
    if name not in IMPORTERS:
        raise ValueError(unknown("importer", name, list(IMPORTERS)))
    paths = [Path(file) for file in files]
    importer = IMPORTERS[name]
    module = import_module(f"{__name__}.{importer.module}")
    if not paths or (importer.makes == "video" and len(paths) > 1):
        wanted = "one file" if importer.makes == "video" else "at least one file"
        raise ValueError(f"`{name}` must be given {wanted}, got {len(paths)}.")
    out = Path(out)
    if importer.makes == "video":
        video = module.video(paths[0])
        if video.levels < 2:
            raise ValueError(
                f"{paths[0]}: a video must have at least two rates to choose from, got one of "
                f"{video.rates_kbps[0]:g} kbit/s. Encode it at several."
            )
        write_video(out, video)
        rates = ",".join(f"{rate:.10g}" for rate in video.rates_kbps)
        numbers = {"chunk_s": f"{video.chunk_s:.10g}", "chunks": str(video.chunks)}
        return Imported(out, 1, 0, {"video": str(out), "rates_kbps": rates, **numbers})
    made, left_out = write_traces(out, module.traces(paths))
    return Imported(out, made, left_out, {"traces": str(out)})
