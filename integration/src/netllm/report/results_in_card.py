"""Results of a test in the model card of a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm.report.report import Report
from netllm.report.result import Result

if TYPE_CHECKING:
    from huggingface_hub import EvalResult


def write_results(card: Path, report: Report, *, command: str | None = None) -> None:
    """Write a report into a card: a section per setting, and the figures in its front matter.

    What the card tells of an earlier test in the same setting, on the same part and with the same
    overrides, is replaced; all else stays.

    Args:
        card: file in Markdown; made if it is missing.
        report: of one checkpoint's test, or of several.
        command: that made the report.

    Raises:
        ValueError: naming the card, if its front matter cannot be read.
        BlockingIOError: if somebody else is writing it.
        OSError: if it cannot be written.
    """
    from netllm_adapt.files.locks import locked
    from netllm_adapt.files.writing import new_file

    with locked(card, file=True):
        text = card.read_text(encoding="utf-8") if card.exists() else ""
        try:
            changed = with_results(text, report, folder=card.parent, command=command)
        except ValueError as error:
            raise ValueError(
                f"{card}: its front matter must be that of a model card, but {error}. Correct the "
                "lines between the first two `---`."
            ) from error
        with new_file(card) as work:
            work.write_text(changed, encoding="utf-8")


def with_results(
    text: str, report: Report, *, folder: Path | None = None, command: str | None = None
) -> str:
    """A card's text with the results of a report; see `write_results`.

    Args:
        text: of the card.
        report: what is added.
        folder: of the checkpoint that the front matter is about; the only one's if None.
        command: that made the report.

    Raises:
        ValueError: if the front matter cannot be read.
    """
    for setting in report.settings():
        text = _with_section(text, _key(report, setting), _section(report, setting, command))
    return _with_figures(text, report, folder)


def _key(report: Report, setting: str) -> str:
    """What tells a test from others: setting, part and overrides."""
    overrides = report.provenance.get("overrides", {})
    words = [setting, report.provenance.get("part", "test")]
    return " ".join([*words, *(f"{name}={value}" for name, value in overrides.items())])


def _with_section(text: str, key: str, section: str) -> str:
    begin, end = (f"<!-- netllm test, {key}: {edge} -->" for edge in ("begin", "end"))
    block = f"{begin}\n{section}\n{end}"
    known = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if known.search(text):
        return known.sub(lambda _: block, text, count=1)
    return f"{text.rstrip()}\n\n{block}\n".lstrip()


def _section(report: Report, setting: str, command: str | None) -> str:
    """One setting's tables and comparisons, and what they were made with."""
    own = replace(
        report,
        results=report.settings()[setting],
        comparisons=[one for one in report.comparisons if one.setting == setting],
        recipes=[one for one in report.recipes if one.setting == setting],
    )
    made = f"\n\nMade by\n\n```\n{command}\n```" if command else ""
    return (
        f"## Test results, {_key(report, setting)}\n\n{own.markdown()}{made}\n\n"
        f"{'; '.join(_made_with(report, setting))}."
    )


def _made_with(report: Report, setting: str) -> Iterator[str]:
    """Data, seeds, device and versions; no date, so that the same test gives the same text."""
    told = report.provenance
    yield f"Data: {told.get('data', {}).get(setting, 'unknown')}"
    yield f"seeds: {', '.join(map(str, told.get('seeds', {}).get(setting, [])))}"
    if "device" in told:
        yield f"device: {told['device']}"
    if "machine" in told:
        yield f"machine: {told['machine']}"
    if versions := told.get("versions"):
        yield ", ".join(f"{name} {version}" for name, version in versions.items())


def _with_figures(text: str, report: Report, folder: Path | None) -> str:
    """The text whose front matter has the figures that model hubs show."""
    import yaml  # type: ignore[import-untyped]
    from huggingface_hub import ModelCard

    own = [one for one in report.results if one.checkpoint]
    if folder is not None:
        places = [Path(str(one.checkpoint)).resolve() for one in own]
        here = [folder.resolve() in (place, place / "best") for place in places]
        own = [*compress(own, here)]
    if not own:
        return text
    try:
        card = ModelCard(text, ignore_metadata_errors=False)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    figures = [one for result in own for one in _figures(report, result)]
    replaced = {(one.dataset_type, one.dataset_split) for one in figures}
    data: Any = card.data
    before = [
        one
        for one in data.eval_results or []
        if (one.dataset_type, one.dataset_split) not in replaced
    ]
    data.model_name = data.model_name or own[0].label
    data.eval_results = [*before, *figures]
    return str(card)


def _figures(report: Report, result: Result) -> Iterator[EvalResult]:
    from huggingface_hub import EvalResult

    key, part = _key(report, result.setting), report.provenance.get("part", "test")
    for metric in (one for one in report.metrics if one.key in result.metrics):
        yield EvalResult(
            task_type=result.task,
            dataset_type=key,
            dataset_name=f"{result.task} {key}",
            dataset_split=part,
            metric_type=metric.key,
            metric_name=metric.label,
            metric_value=result.metrics[metric.key].mean,
        )
