"""Export: a checkpoint's model, or a student, as one file for other runtimes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.deciders.checkpoint_folder import existing_checkpoint

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
    task's policy shows the model: of `vp`, angles that are turned to the video's front. A student's
    graph takes the fields of its observation in float32, (row, …) each, and gives the
    `probabilities` of the answers.

    Args:
        checkpoint: Folder of a run or a checkpoint, of abr or vp; or a student's file.
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
    if Path(checkpoint).suffix in registry.WEIGHTS:
        return _export_student(Path(checkpoint), Path(out))
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


def _export_student(file: Path, out: Path) -> Path:
    """Write a student's graph."""
    from netllm_adapt.model.onnx import check_exporter, write_graph
    from netllm_baselines.facts import facts
    from torch.export import Dim

    check_exporter()
    told = facts(file)
    if told.get("kind") != "student" or told.get("task") not in registry.tasks():
        raise ValueError(
            f"{file}: must be a student's file to be exported, written by `netllm distil`, or a "
            "folder with a checkpoint."
        )
    graph = resolve_name(registry.task(told["task"]).student).graph(file)
    return write_graph(
        graph.module,
        graph.inputs,
        out,
        output=graph.output,
        free={0: Dim("row")},
        what=f"{file}",
    )


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
