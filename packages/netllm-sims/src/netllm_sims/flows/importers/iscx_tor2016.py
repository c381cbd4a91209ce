"""ISCXTor2016: applications over Tor and without."""

from pathlib import Path

from netllm_sims.flows.importers import _cicflowmeter
from netllm_sims.flows.table import Flows

LAYOUT = _cicflowmeter.Layout(
    source="a CSV of ISCXTor2016",
    label="label",
    required=("Flow Duration", "Flow IAT Mean", "Fwd IAT Mean", "Active Mean", "Idle Min"),
)


def flows(path: Path) -> tuple[Flows, int]:
    """The flows of a file of scenario A or B, and how many of its rows are empty.

    Host is `Source IP`, class `label`; no time is told, so all days are one. All columns that are
    no addresses are statistics; Infinity and NaN become 0.

    Raises:
        ValueError: Another version, or a row that is no flow, with file and line.

    Source: Habibi Lashkari et al., Characterization of Tor Traffic Using Time Based Features
    (ICISSP 2017).
    """
    return _cicflowmeter.flows(path, LAYOUT)
