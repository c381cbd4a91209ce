"""ONNX graphs, run by onnxruntime, answer as torch does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import (
    LinearEncoder,
    LinearHead,
    ListEncoder,
    PickHead,
    SumEncoder,
    SumHead,
    make_episode,
)
from netllm_adapt import AdaptedModel, BackboneSpec, Predictor, add_lora, load_backbone
from netllm_adapt.batches import Segment, collate
from netllm_adapt.model.onnx import export_onnx
from torch import Tensor

pytest.importorskip("onnx", reason="needs netllm-adapt[onnx]")
pytest.importorskip("onnxscript", reason="needs netllm-adapt[onnx]")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")


class ScoringHead(LinearHead):
    """A head that gives scores too."""

    def distribution(self, hidden: Tensor, observation: Any) -> Tensor:
        return self.logits(hidden)


def make(architecture: str, encoder: Any, head: Any, kind: Any = AdaptedModel) -> Any:
    spec = BackboneSpec(f"tiny-random-{architecture}", layers=2, dtype="float32")
    backbone = add_lora(load_backbone(spec.name, layers=2, dtype=spec.dtype), rank=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, parameter in backbone.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.3)
        parts = {"encoder": encoder(64), "head": head(64)}
    options = {"window": 3, "segment": 24} if kind is AdaptedModel else {}
    return kind(backbone=backbone, **parts, spec=spec, **options).eval()


def run(file: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == inputs.keys()
    (found,) = session.run(None, inputs)
    return np.asarray(found)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt", "gemma3", "mistral"])
def test_scores_of_every_step_are_those_of_torch(architecture: str, tmp_path: Path) -> None:
    model = make(architecture, LinearEncoder, ScoringHead)
    example = {"x": torch.zeros(2, 3, 2), "unread": torch.zeros(2, 3)}
    file = export_onnx(model, tmp_path / "graphs" / "model.onnx", example)
    for rows, steps in ((1, 1), (3, 9), (2, 4)):
        cuts = [Segment(row, 0, 0, steps) for row in range(rows)]
        batch = collate([make_episode(steps, seed) for seed in range(rows)], cuts)
        with torch.no_grad():
            wanted = model.head.logits(model.hidden(batch))
        inputs = {"x": batch.observations["x"], "return_to_go": batch.returns}
        found = run(file, {n: v.numpy() for n, v in (inputs | {"action": batch.actions}).items()})
        np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_returns_have_no_effect_on_a_model_that_is_told_of_none(tmp_path: Path) -> None:
    model = make("llama", LinearEncoder, ScoringHead)
    model.target_return = None
    file = export_onnx(model, tmp_path / "model.onnx", {"x": torch.zeros(2, 3, 2)})
    batch = collate([make_episode(5, 0)], [Segment(0, 0, 0, 5)])
    with torch.no_grad():
        wanted = model.head.logits(model.hidden(batch))
    given = {"x": batch.observations["x"], "return_to_go": batch.returns + 5}
    inputs = {n: v.numpy() for n, v in (given | {"action": batch.actions}).items()}
    np.testing.assert_allclose(run(file, inputs), wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_a_predictor_gives_its_answer(tmp_path: Path) -> None:
    model = make("llama", SumEncoder, SumHead, Predictor)
    file = export_onnx(model, tmp_path / "model.onnx", {"numbers": torch.zeros(2, 3)})
    numbers = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wanted = model.head.answer(model.pass_through(model.input_of({"numbers": numbers})), {})
    found = run(file, {"numbers": numbers.numpy()})
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_ragged_steps_are_refused(tmp_path: Path) -> None:
    model = make("llama", ListEncoder, PickHead)
    with pytest.raises(ValueError, match="differ in their number of tokens, as ListEncoder"):
        export_onnx(model, tmp_path / "model.onnx", {})
    assert not [*tmp_path.iterdir()]
