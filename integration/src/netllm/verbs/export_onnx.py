"""Export: a checkpoint's model as one file for other runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.verbs.checkpoint_folder import existing_checkpoint

if TYPE_CHECKING:
    from netllm_adapt import Adapted
    from torch import Tensor

    from netllm.task import Task

FORMATS = ("onnx",)


def export(
    checkpoint: str | Path,
    *,
    out: str | Path,
    format: str = "onnx",
    data: str | Path | None = None,
) -> Path:
    """Write the model of a checkpoint as one graph, from an observation's fields to its answer.

    See `netllm_adapt.model.onnx.export_onnx` for inputs and outputs. Fields are those that the
    task's policy shows the model: of `vp`, angles that are turned to the video's front.

    Args:
        checkpoint: Folder of a run or a checkpoint, of abr or vp.
        out: The file to write.
        format: What is written: onnx.
        data: Folder of real data, for the setting that the checkpoint was adapted to.

    Raises:
        ValueError: for another format, a folder without a checkpoint, or a model that has no fixed
            axes (`cjs`).
        ModuleNotFoundError: if onnx or onnxscript is missing.
    """
    if format not in FORMATS:
        raise registry.unknown("format", format, FORMATS)
    from netllm_adapt import Adapted
    from netllm_adapt.model.onnx import check_exportable, export_onnx

    model = Adapted.from_pretrained(existing_checkpoint(Path(checkpoint)))
    check_exportable(model)
    if "task" not in model.about:
        raise ValueError(
            f"{checkpoint}: does not say what task it is for. Export it in Python: "
            "netllm_adapt.model.onnx.export_onnx."
        )
    task = registry.task(model.about["task"])
    place = task.setting(
        model.about.get("setting", "default"), data=data, **model.about.get("overrides", {})
    )
    return export_onnx(model, out, example(task, model, place))


def example(task: Task, model: Adapted, setting: Any) -> dict[str, Tensor]:
    """What a policy of the model first shows its encoder, for two rows, of three steps if any."""
    from netllm_adapt import AdaptedModel

    shown: list[Mapping[str, Any]] = []
    usual = model.encoder.observe

    def observe(observation: Mapping[str, Any], *rest: Any, **options: Any) -> Any:
        shown.append(dict(observation))
        return usual(observation, *rest, **options)

    policy = task.policy(model, setting)
    model.encoder.observe = observe
    try:
        task.rollout(policy, setting, task.episodes(setting, "valid", count=1, seed=0), seed=0)
    finally:
        del model.encoder.observe
    steps = {1: 3} if isinstance(model, AdaptedModel) else {}
    found = {}
    for name, field in shown[0].items():
        one = field[:1].clone()
        for axis, count in ({0: 2} | steps).items():
            one = one.repeat_interleave(count, axis)
        found[name] = one
    return found
