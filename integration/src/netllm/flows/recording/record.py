"""`netllm record flows`: traffic of real programs, as flows with their classes."""

from __future__ import annotations

import json
import logging
import select
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from netllm.flows.recording import namespace
from netllm.flows.recording.hosts import HOSTS
from netllm.flows.recording.known_programs import PROGRAMS
from netllm.flows.recording.machine import found

_log = logging.getLogger(__name__)
_LEAST_S, _MOST_S = 3.0, 3_600.0


class Recorded(NamedTuple):
    """What a recording wrote."""

    out: Path
    """The folder."""
    made: dict[str, int]
    """Flows of each class."""
    left_out: int
    """Packets that belong to no flow."""
    settings: dict[str, str]
    """Fields of a setting that use the result."""


def record(out: str | Path, *, seconds: float, only: Sequence[str] = ()) -> Recorded:
    """Record what 25 hosts do with real programs, and write it as flows, a file for each class.

    Hosts and servers are addresses of loopback (127.0.0.0/8) in a network namespace that has no
    other device, so nothing can reach or leave it. A flow's class is the program whose server it
    goes to. Each host has habits and a line of its own, the same in every recording.

    Args:
        out: The folder; it must not exist, or be empty. It appears when it is complete.
        seconds: How long to record, in s.
        only: Classes, names of `PROGRAMS`; all whose programs are installed if empty.

    Raises:
        ValueError: Unknown classes, or a time out of range.
        FileNotFoundError: A program is missing.
        FileExistsError: The folder holds something.
        PermissionError: The system forbids namespaces.
        ModuleNotFoundError: dpkt is missing.
        RuntimeError: A program fails.
    """
    from netllm_sims.files.new_folder import new_folder
    from netllm_sims.flows.flow_files import write_flows
    from netllm_sims.flows.importers import pcap

    if not _LEAST_S <= seconds <= _MOST_S:
        raise ValueError(f"`seconds` must lie in [{_LEAST_S:g}, {_MOST_S:g}], got {seconds:g}.")
    classes = _classes(only)
    pcap.dpkt_module()
    namespace.check()
    out, made, hosts = Path(out), {}, [host.address for host in HOSTS]
    with new_folder(out) as folder, tempfile.TemporaryDirectory(prefix="netllm-") as scratch:
        told = _recorded(Path(scratch), seconds, classes)
        left_out = told["others"]
        for name in classes:
            flows, others = pcap.flows(Path(scratch) / f"{name}.pcap")
            flows = flows[np.isin(flows.host, hosts)]  # of others the beginning was lost
            if not len(flows):
                raise RuntimeError(f"{name}: must have flows after {seconds:g} s, got none.")
            write_flows(folder / f"{name}.csv", flows)
            made[name], left_out = len(flows), left_out + others
    benign = [name for name in classes if not PROGRAMS[name].attack]
    settings = {"flows": str(out)} | ({"benign": ",".join(benign)} if benign else {})
    return Recorded(out, made, left_out, settings)


def _classes(only: Sequence[str]) -> list[str]:
    """The classes that can be recorded here, of those that were asked for.

    Raises:
        ValueError: There is no such class.
        FileNotFoundError: A program of one that was asked for is missing.
    """
    from netllm_sims.setting_values import unknown

    for name in only:
        if name not in PROGRAMS:
            raise ValueError(unknown("class to record", name, list(PROGRAMS)))
    classes = []
    for name in dict.fromkeys(only) or PROGRAMS:
        missing = [one for one in PROGRAMS[name].needs if found(one) is None]
        if not missing:
            classes.append(name)
        elif only:
            raise FileNotFoundError(
                f"{name} cannot be recorded without {', '.join(missing)}: install it, or leave "
                f"{name} out."
            )
        else:
            _log.warning("%s is left out: %s is not installed.", name, ", ".join(missing))
    return classes


def _recorded(scratch: Path, seconds: float, classes: Sequence[str]) -> dict[str, Any]:
    """What was told about a recording, whose captures are in a folder.

    Raises:
        RuntimeError: It failed.
    """
    errors = scratch / "errors.txt"
    module = f"{__package__}.within"
    command = [sys.executable, "-P", "-m", module, str(scratch), str(seconds), *classes]
    with namespace.within(command, errors) as output:
        said = _awaited(output, round(seconds))
    if not said:
        told = errors.read_text(errors="replace").strip()
        raise RuntimeError(f"The recording failed: {told[-1000:] or 'it was ended.'}")
    document: dict[str, Any] = json.loads(said)
    for what in document["denied"]:
        _log.warning("Not imitated: %s.", what)
    if document["lost"]:
        _log.warning(
            "%d packets were lost, since this machine is slow or busy: some flows have gaps.",
            document["lost"],
        )
    return document


def _awaited(output: IO[bytes], seconds: int) -> bytes:
    """All that is written in the end, while a bar shows the time."""
    from tqdm import tqdm

    with tqdm(total=seconds, desc="record", unit="s", disable=None) as bar:
        while not select.select([output], [], [], 1)[0]:
            if bar.n < seconds:
                bar.update()
    return output.read()
