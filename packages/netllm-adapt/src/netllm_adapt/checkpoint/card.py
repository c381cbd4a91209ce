"""The model card of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from netllm_adapt.backbone.catalogue import find

_OWN = {"window": "window, steps", "segment": "segment, tokens", "target_return": "target return"}
_KINDS = {"decisions": ("AdaptedModel", "Policy"), "predictions": ("Predictor", "Forecast")}


_WHERE = {
    True: "They are folded\ninto the weights of the backbone, in the folder `backbone`.",
    False: "The frozen backbone is\nnot in this folder; `config.json` says which it is.",
}


def _table(values: Mapping[str, Any]) -> str:
    shown = {name: value for name, value in values.items() if value not in ("", [], {}, None)}
    for name, value in shown.items():
        if isinstance(value, Mapping):
            shown[name] = ", ".join(f"{key}={one}" for key, one in value.items())
    return "\n".join(f"| {name} | {value} |" for name, value in shown.items())


def model_card(config: Mapping[str, Any], *, merged: bool = False) -> str:
    """A README in Markdown with the front matter that model hubs read.

    `config["about"]` may hold any facts of the run: task, setting, data, seed, metrics, command;
    its `own data`, if there are any, are in the title.
    """
    backbone, about = config["backbone"], dict(config["about"])
    command = about.pop("command", None)
    own = f" / {data}" if (data := about.pop("own data", None)) else ""
    facts = {label: config[name] for name, label in _OWN.items() if name in config}
    if quantise := backbone.get("quantise"):
        facts["frozen weights"] = f"in {quantise}, by netllm-adapt[quantised]"
    known = find(backbone["name"])
    weights = known.weights if known else None
    note = f"\nThe backbone was {weights.precision}; {weights.licence}.\n" if weights else ""
    how = f"\nMade by\n\n```\n{command}\n```\n" if command else ""
    name = about.get("task", "Networking")
    state = {name.replace("_", " "): value for name, value in config["state"].items()}
    content = f"""---
{_front(config, name)}
---

# {name}{own} on {backbone["name"]}

A networking model adapted with NetLLM: encoder, head and low-rank matrices. {_WHERE[merged]}
{how}{note}
In the folder of this card:

```python
{_snippet(config)}
```

## Limits

{_limits(about)}

## Facts

| fact | value |
|---|---|
| layers kept | {backbone["layers"] or "all"} |
{_table(facts | state | about)}
"""
    return str(ModelCard(content, ignore_metadata_errors=True).content)


def _front(config: Mapping[str, Any], name: str) -> str:
    """The front matter: licence, base model, tags, and what validation reached."""
    backbone = config["backbone"]["name"]
    known = find(backbone)
    weights = known.weights if known else None
    data = ModelCardData(
        library_name="netllm",
        license=weights.hub_licence if weights else None,
        base_model=(weights.hub_name if weights else None) or backbone,
        tags=["netllm", "networking", name],
        model_name=f"{name} on {backbone}",
        eval_results=[*_reached(config["about"], name)] or None,
    )
    return str(data.to_yaml())


def _reached(about: Mapping[str, Any], name: str) -> Iterator[EvalResult]:
    """The figures of validation, which chose the checkpoint: no test results."""
    for fact, value in about.items():
        if fact.startswith("validation ") and isinstance(value, int | float):
            yield EvalResult(
                task_type=name,
                dataset_type=str(about.get("setting", "unknown")),
                dataset_name=f"{about.get('setting', 'unknown')}, validation part",
                dataset_split="validation",
                metric_type=fact.removeprefix("validation "),
                metric_name=f"{fact}, which chose this checkpoint: no test result",
                metric_value=value,
            )


def _snippet(config: Mapping[str, Any]) -> str:
    """How the model is read, and made a policy."""
    kind, policy = _KINDS[config["kind"]]
    own = [
        config[part]["name"]
        for part in ("encoder", "head")
        if not entry_points(group=f"netllm.{part}s", name=config[part]["name"])
    ]
    parts = f", parts=[{', '.join(own)}]" if own else ""
    note = "  # your own classes, which no package brings" if own else ""
    return f"""from netllm_adapt import {kind}, {policy}

model = {kind}.from_pretrained("."{parts}){note}
policy = {policy}(model)
policy.reset(seed=0)  # then policy.act(observation), step after step"""


def _limits(about: Mapping[str, Any]) -> str:
    kind = {"real": "recorded", "synthetic": "generated"}.get(str(about.get("data")), "some")
    place = about.get("setting", "its data set")
    teachers = ", ".join(map(str, about.get("teachers") or []))
    taught = f" It imitates {teachers}, and so their mistakes." if teachers else ""
    return (
        f"It learned from {kind} data, of {place}.{taught} Elsewhere (other networks, videos, "
        "clusters or users) nothing is known of it: measure it there beside simple rules first, "
        "with `netllm test`. It is for research, and has no guard against observations unlike "
        "those that it learned from."
    )
