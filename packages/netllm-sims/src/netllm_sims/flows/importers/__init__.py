"""Importers: captures and public data sets of flows, written in our own format.

    from netllm_sims.flows import importers

    importers.run("pcap", ["web.pcap", "ssh.pcap"], "mine")
    flows.setting("unseen-hosts", flows="mine")

`IMPORTERS` says what there is. Each is a module with one function, `flows(file)`, which gives the
flows of a file and how many rows or packets of it were left out. Their docstrings say where the
format is described, and how it is read.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from netllm_sims.files.imported import Imported
from netllm_sims.files.new_folder import new_folder
from netllm_sims.flows.flow_files import write_flows
from netllm_sims.setting_values import unknown


class Importer(NamedTuple):
    """One source of data."""

    module: str
    """Name of its module here."""
    summary: str
    """What it reads, in a line."""
    benign: str = ""
    """The class of the source that is no attack, where it has attacks."""
    makes: str = "flows"
    """What it writes."""


IMPORTERS = {
    "pcap": Importer("pcap", "captures (pcap or pcapng), a class per file: web.pcap, web-2.pcap"),
    "cic-ids2017": Importer(
        "cic_ids2017", "GeneratedLabelledFlows of CIC-IDS2017 (CICFlowMeter, CSV)", "BENIGN"
    ),
    "unsw-nb15": Importer("unsw_nb15", "UNSW-NB15_1.csv to _4.csv, which have no header", "Normal"),
    "iscx-tor2016": Importer("iscx_tor2016", "the CSV of ISCXTor2016, scenarios A and B"),
}
"""Importers by name."""


def run(name: str, files: Iterable[str | Path], out: str | Path) -> Imported:
    """Read files of a source, and write their flows into a new folder, a file for each.

    Args:
        name: A name of `IMPORTERS`.
        files: The files.
        out: The folder; it must not exist, or be empty. It appears when it is complete.

    Raises:
        ValueError: Unknown name, no files, two of one name, one without, or one that cannot be read
            or has no flows; names file, line and remedy.
        FileExistsError: The folder holds something.
        ModuleNotFoundError: The source needs an extra that is not installed.
    """
    if name not in IMPORTERS:
        raise ValueError(unknown("importer", name, list(IMPORTERS)))
    paths, out = [Path(file) for file in files], Path(out)
    names = [path.name.split(".")[0].strip() for path in paths]
    if not paths or len({*names}) < len(names):
        raise ValueError(
            f"`{name}` must be given files of different names, got "
            f"{', '.join(names) or 'none'}. Name them, and rename copies."
        )
    if wrong := [path for path, stem in zip(paths, names, strict=True) if not stem.isprintable()]:
        raise ValueError(f"{str(wrong[0])!r}: the file's name must have no line ends. Rename it.")
    if not all(names):
        raise ValueError(
            f"{paths[names.index('')]}: the file's name must begin with letters or digits, which "
            "name what is written. Rename it."
        )
    importer = IMPORTERS[name]
    module = import_module(f"{__name__}.{importer.module}")
    made, left_out, is_there = 0, 0, False
    with new_folder(out) as folder:
        for path, stem in zip(paths, names, strict=True):
            flows, without = module.flows(path)
            if not len(flows):
                raise ValueError(f"{path}: must hold flows, got none and {without} other rows.")
            write_flows(folder / f"{stem}.csv", flows)
            made, left_out = made + len(flows), left_out + without
            is_there = is_there or importer.benign in flows.label
    settings = {"flows": str(out)} | ({"benign": importer.benign} if is_there else {})
    return Imported(out, made, left_out, settings)
