"""The model card of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from netllm_adapt.backbone._catalogue import find

_OWN = {
    "window": "window, steps",
    "segment": "segment, tokens",
    "target_return": "target return",
}


def _rows(values: Mapping[str, Any]) -> str:
    told = {name: value for name, value in values.items() if value not in ("", [], {}, None)}
    return "\n".join(f"| {name} | {_cell(value)} |" for name, value in told.items())


def _cell(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return ", ".join(f"{name}={one}" for name, one in value.items())


def _where(merged: bool) -> str:
    if merged:
        return "They are folded\ninto the weights of the backbone, in the folder `backbone`."
    return "The frozen backbone is\nnot in this folder; `config.json` says which it is."


def model_card(config: Mapping[str, Any], *, merged: bool = False) -> str:
    """A README in Markdown with the front matter that model hubs read.

    `config["task"]` may hold any facts of the run: task, setting, data, seed, metrics, command; its
    `own data`, if there are any, are in the title, its `identity` is left out.
    """
    backbone, task = config["backbone"], dict(config["task"])
    command = task.pop("command", None)
    task.pop("identity", None)  # digests for programs
    own = f" / {data}" if (data := task.pop("own data", None)) else ""
    facts = {label: config[name] for name, label in _OWN.items() if name in config}
    if quantise := backbone.get("quantise"):
        facts["frozen weights"] = f"in {quantise}, by netllm-adapt[quantised]"
    known = find(backbone["name"])
    weights = known.weights if known else None
    note = f"\nThe backbone was {weights.precision}; {weights.licence}.\n" if weights else ""
    how = f"\nMade by\n\n```\n{command}\n```\n" if command else ""
    return f"""---
library_name: netllm
base_model: {backbone["name"]}
tags: [netllm, networking, {task.get("task", "decision-making")}]
---

# {task.get("task", "Networking")}{own} on {backbone["name"]}

A networking model adapted with NetLLM: encoder, head and low-rank matrices. {_where(merged)}
{how}{note}
| fact | value |
|---|---|
| layers kept | {backbone["layers"] or "all"} |
{_rows(facts | task)}
"""
