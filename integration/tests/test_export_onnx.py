"""`netllm export` writes graphs that answer as the models do."""

import numpy as np
import pytest
import torch
from netllm import registry
from netllm.task.build_model import build_model
from netllm_adapt import Recipe
from netllm_adapt.batches import Batch

RECIPE = Recipe(layers=1, rank=2, dtype="float32")


@pytest.fixture
def checkpoint(tmp_path):
    def make(name, **overrides):
        task = registry.task(name)
        model = build_model(task, task.setting("synthetic", **overrides), "tiny-random", RECIPE)
        model.about |= {"task": name, "setting": "synthetic", "overrides": overrides}
        return model.save_pretrained(tmp_path / name), model.eval()

    return make


def run(file, inputs):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs netllm-adapt[onnx]")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == inputs.keys()
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


@pytest.mark.parametrize("name", ["abr", "vp"])
def test_a_graph_answers_as_the_model(name, checkpoint, netllm, tmp_path):
    pytest.importorskip("onnxscript", reason="needs netllm-adapt[onnx]")
    folder, model = checkpoint(name)
    file = tmp_path / "model.onnx"
    code, _, err = netllm("export", folder, "--out", file, "--format", "onnx")
    assert code == 0, err
    with torch.no_grad():
        if name == "vp":
            fields = {"viewport_deg": 360 * torch.rand(5, model.encoder.history, 3) - 180}
            hidden, extra = model.pass_through(model.input_of(fields)), {}
            wanted = model.head.answer(hidden, fields)
        else:
            shapes = {"sizes_mb": (6, 6), "throughput_mbps": (6,), "delay_s": (6,)}
            fields = {n: torch.rand(3, 7, *shapes.get(n, ())) for n in model.encoder.fields}
            extra = {"return_to_go": torch.rand(3, 7), "action": torch.randint(0, 6, (3, 7))}
            returns, actions = extra.values()
            batch = Batch(fields, returns, actions, actions, returns > -1)
            wanted = model.head.distribution(model.hidden(batch), fields)
    np.testing.assert_allclose(run(file, fields | extra), wanted.numpy(), atol=1e-4, rtol=1e-4)


def test_what_has_no_fixed_axes_or_format_is_refused(checkpoint, netllm, tmp_path):
    pytest.importorskip("onnxscript", reason="needs netllm-adapt[onnx]")
    folder, _ = checkpoint("cjs", num_jobs=6, num_executors=5)
    code, _, err = netllm("export", folder, "--out", tmp_path / "model.onnx")
    assert code == 2
    assert "cannot be one ONNX graph of fixed axes" in err
    code, _, err = netllm("export", folder, "--out", tmp_path / "m", "--format", "tflite")
    assert code == 2
    assert "Unknown format 'tflite'" in err
    code, _, err = netllm("export", tmp_path, "--out", tmp_path / "m")
    assert code == 2
    assert "holds no checkpoint" in err
    assert not (tmp_path / "model.onnx").exists()
