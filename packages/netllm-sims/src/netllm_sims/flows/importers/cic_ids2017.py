"""CIC-IDS2017: benign traffic and attacks of five days."""

from datetime import date
from pathlib import Path

from netllm_sims.flows.importers import _cicflowmeter
from netllm_sims.flows.table import Flows


def flows(path: Path) -> tuple[Flows, int]:
    """The flows of a file of GeneratedLabelledFlows, and how many of its rows are empty.

    Host is `Source IP`, day the date of `Timestamp` (day/month/year), class `Label`. All columns
    that are no addresses are statistics, but for `Fwd Header Length`, which occurs twice. A rate
    over no time, Infinity or NaN there, is 0 here. The files of MachineLearningCVE have no
    addresses, so hosts could not be told apart: they are refused.

    Raises:
        ValueError: Another version, or a row that is no flow, with file and line.

    Source: Sharafaldin et al., Toward Generating a New Intrusion Detection Dataset (ICISSP 2018).
    """
    return _cicflowmeter.flows(path, LAYOUT)


def _day(path: Path, line: int, cell: str) -> str:
    try:
        day, month, year = map(int, cell.split()[0].split("/"))
        return date(year, month, day).isoformat()
    except (ValueError, IndexError):
        raise ValueError(
            f"{path}:{line}: `Timestamp` must be day/month/year and a time, as 3/7/2017 8:55, got "
            f"{cell!r:.60}. Correct or remove the line."
        ) from None


LAYOUT = _cicflowmeter.Layout(
    source="a file of GeneratedLabelledFlows of CIC-IDS2017; those of MachineLearningCVE have no "
    "addresses, and so no hosts",
    label="Label",
    times="Timestamp",
    day=_day,
    required=("Flow Duration", "Total Fwd Packets", "Total Backward Packets", "Idle Min"),
)
