"""An adapted model as one ONNX graph: from what is observed to the head's scores or answers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from netllm_adapt.attention import run_backbone
from netllm_adapt.batches import Batch
from netllm_adapt.checkpoint.merged_weights import merged_backbone
from netllm_adapt.files.reading import first_line
from netllm_adapt.files.writing import new_file
from netllm_adapt.model.base import Adapted
from netllm_adapt.model.decider import AdaptedModel

RETURNS, ACTIONS = "return_to_go", "action"
"""Inputs of a model that decides step after step, beside its observation's fields."""


OPSET = 18
"""The version of ONNX's operators that graphs are written in."""


class _Graph(nn.Module):
    """The full pass over a window, with the adapter folded into weights of float32."""

    def __init__(self, model: Adapted) -> None:
        super().__init__()
        self.model = model
        self.scores = hasattr(model.head, "distribution")

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The scores of every answer, or the answers of heads that give no scores."""
        model: Any = self.model
        if isinstance(model, AdaptedModel):
            returns, actions = inputs[RETURNS], inputs[ACTIONS]
            learn = torch.ones_like(returns, dtype=torch.bool)
            given = model.backbone_input(Batch(inputs, returns, actions, actions, learn))
        else:
            given = model.input_of(inputs)
        hidden = run_backbone(model.backbone, given.tokens, given.mask, given.position)
        read = model.head.distribution if self.scores else model.head.answer
        answers: Tensor = read(given.read_of(hidden), inputs)
        return answers


def export_onnx(model: Adapted, file: str | Path, observation: Mapping[str, Tensor]) -> Path:
    """Write a model as one ONNX graph, in float32, for any number of rows and steps.

    Inputs are the fields of `observation`; of a model that decides step after step also
    `return_to_go` (row, step), without effect if it is told of none, and `action` (row, step, …),
    what was done at each step, of which the last has no effect. The output `scores` holds the
    log-odds of every answer at every step; a head without scores gives its `answer`. A row is the
    last steps of one episode, at most as many as its window and segment hold: feed the last
    `window` of them, and read the last step.

    Args:
        model: in eval mode; it is left as it is.
        file: what is written, complete or not at all.
        observation: an example of each field with its leading axes: two rows at least, and three
            steps where there are steps.

    Raises:
        ValueError: if the model's tokens differ in number from step to step, or the example does
            not fit.
        ModuleNotFoundError: if onnx or onnxscript is missing.
    """
    check_exportable(model)
    graph = _Graph(_folded(model)).eval()
    example = _read_fields(graph, observation)
    steps = isinstance(model, AdaptedModel)
    free = {0: torch.export.Dim("row"), **({1: torch.export.Dim("step")} if steps else {})}
    parts = f"{type(model.encoder).__name__} and {type(model.head).__name__}"
    return write_graph(
        graph,
        example,
        file,
        output="scores" if graph.scores else "answer",
        free=free,
        what=f"this model, of {parts} over {model.spec.name!r},",
    )


def write_graph(
    graph: nn.Module,
    inputs: Mapping[str, Tensor],
    file: str | Path,
    *,
    output: str,
    free: Mapping[int, Any],
    what: str,
) -> Path:
    """Write a module as one ONNX graph of opset `OPSET`.

    Args:
        graph: is called with a mapping named `inputs`.
        inputs: an example of each.
        file: what is written, complete or not at all.
        output: what the result is called.
        free: by axis a `torch.export.Dim`, where inputs may have any length.
        what: it is, for messages.

    Raises:
        RuntimeError: if torch cannot write it.
    """
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with new_file(target) as work, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own parts
        try:
            torch.onnx.export(
                graph,
                (),
                str(work),
                kwargs={"inputs": dict(inputs)},
                dynamo=True,
                input_names=[*inputs],
                output_names=[output],
                dynamic_shapes={"inputs": dict.fromkeys(inputs, free)},
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise RuntimeError(
                f"torch cannot write {what} as ONNX: {first_line(error.__cause__ or error)}"
            ) from error
    return target


def check_exportable(model: Adapted) -> None:
    """Raise unless a model can be written as an ONNX graph here.

    Raises:
        ValueError: if its steps differ in their number of tokens.
        ModuleNotFoundError: if onnx or onnxscript is missing.
    """
    check_exporter()
    if getattr(model.encoder, "tokens", 0) is None:
        raise ValueError(
            f"A model whose steps differ in their number of tokens, as "
            f"{type(model.encoder).__name__} gives them, cannot be one ONNX graph of fixed axes. "
            "Models of abr and vp can; serve this one with netllm_adapt.Policy."
        )


def check_exporter() -> None:
    """Raise ModuleNotFoundError unless what writes ONNX graphs is installed."""
    for name in ("onnx", "onnxscript"):
        if find_spec(name) is None:
            raise ModuleNotFoundError(
                f"ONNX export needs {name!r}. "
                "In a clone: pip install './packages/netllm-adapt[onnx]'"
            )


def _folded(model: Adapted) -> Adapted:
    """The same model in float32, with plain weights."""
    fields = {name: getattr(model, name) for name in model.fields}
    return type(model)(
        backbone=merged_backbone(model, torch.float32),
        encoder=copy.deepcopy(model.encoder),
        head=copy.deepcopy(model.head),
        spec=model.spec,
        **fields,
    )


class _Fields(dict[str, Any]):
    """Fields that remember which of them were read."""

    read: frozenset[str] = frozenset()

    def __getitem__(self, name: str) -> Any:
        self.read |= {name}
        return super().__getitem__(name)


@torch.no_grad()
def _read_fields(graph: _Graph, observation: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The example's fields that encoder and head read, and what else the graph takes.

    Raises:
        ValueError: as encoder and head do, if the example does not fit.
    """
    fields = _Fields(observation)
    if isinstance(graph.model, AdaptedModel):
        shape = next(iter(observation.values())).shape[:2]
        fields[RETURNS] = torch.zeros(shape)
        fields[ACTIONS] = torch.zeros(shape, dtype=torch.int64)
    graph(fields)
    return {name: value for name, value in fields.items() if name in fields.read}
