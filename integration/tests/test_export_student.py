"""A student as an ONNX graph: in onnxruntime, and in a page by onnxruntime-web."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil

import numpy as np
import pytest
from netllm import registry
from netllm.abr.student_graph import example
from netllm.abr.student_training import Training
from netllm.real.browser import browser, program
from netllm.real.player_library import Library, library_file
from netllm.verbs.distilling.states import Asked
from netllm.verbs.export_onnx import export
from netllm.vp.student_training import Training as ViewportTraining
from netllm_sims.vp import wrap_deg

RUNTIME = {
    name: Library("onnxruntime-web", "1.30.0", f"dist/{name}", sha256)
    for name, sha256 in {
        "ort.wasm.bundle.min.mjs": (
            "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90"
        ),
        "ort-wasm-simd-threaded.wasm": (
            "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
        ),
    }.items()
}
"""What a page needs of onnxruntime-web to compute on the processor."""
KINDS = {".mjs": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}
SITE = "http://student.test"
ASK = """
async (fields) => {
  const ort = await import("/ort.wasm.bundle.min.mjs");
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = { wasm: "/ort-wasm-simd-threaded.wasm" };
  const student = await ort.InferenceSession.create("/student.onnx");
  const inputs = {};
  for (const [name, { values, shape }] of Object.entries(fields))
    inputs[name] = new ort.Tensor("float32", Float32Array.from(values), shape);
  const { probabilities } = await student.run(inputs);
  return { values: Array.from(probabilities.data), shape: probabilities.dims };
}
"""


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    """The file of a student that has learned a little, states to ask it about, and itself."""
    task = registry.task("abr")
    place = task.setting("synthetic", chunks=12)
    asked = Asked(registry.policy("abr", "ppo", place), epsilon=0.3)
    task.rollout(asked, place, task.episodes(place, "train", count=8, seed=0), seed=0)
    states = asked.states()
    wanted = states.pop("wanted")
    training = Training(place, seed=0)
    training.learn(states, wanted)
    file = tmp_path_factory.mktemp("student") / "student.npz"
    training.save(file, {"kind": "student", "task": "abr"})
    return file, states, training.policy()


@pytest.fixture(scope="module")
def graph(student):
    """The student's graph; what is put in; the student's own probabilities."""
    pytest.importorskip("onnxscript", reason="needs netllm-adapt[onnx]")
    file, states, policy = student
    fields = {name: states[name].astype(np.float32) for name in example(6)}
    assert (fields["throughput_mbps"] == 0).any()  # sessions that begin
    assert (fields["sizes_mb"] == 0).any()  # and that come to their end
    wanted = policy.probabilities(states)
    assert wanted.std() > 0.05
    return export(file, out=file.with_suffix(".onnx")), fields, wanted


def test_a_graph_of_opset_18_gives_the_probabilities_from_the_fields_seen(graph):
    onnx = pytest.importorskip("onnx", reason="needs netllm-adapt[onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs netllm-adapt[onnx]")
    file, fields, wanted = graph
    assert [one.version for one in onnx.load(file).opset_import if not one.domain] == [18]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,) = session.run(["probabilities"], fields)
    np.testing.assert_allclose(given, wanted, atol=1e-5)


@pytest.fixture(scope="module")
def runtime():
    """The files of onnxruntime-web; skips unless there is all that a page needs."""
    missing = [] if shutil.which("npm") else ["npm"]
    try:
        program()
    except FileNotFoundError:
        missing.append("chromium")
    if importlib.util.find_spec("playwright") is None:
        missing.append("playwright")
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    try:
        return {name: library_file(one) for name, one in RUNTIME.items()}
    except ConnectionError as error:
        pytest.skip(str(error))


async def asked_in_a_page(files, fields):
    """What a page answers that loads these files."""

    async def give(route):
        name = route.request.url.removeprefix(f"{SITE}/") or "page.html"
        if name == "page.html":
            await route.fulfill(
                body="<!doctype html><title>student</title>", content_type="text/html"
            )
        elif name in files:
            file = files[name]
            kind = KINDS.get(file.suffix, "application/octet-stream")
            await route.fulfill(body=file.read_bytes(), content_type=kind)
        else:
            await route.fulfill(status=404)

    async with browser() as opened:
        page = await opened.new_page()
        await page.route("**/*", give)
        await page.goto(f"{SITE}/")
        return await page.evaluate(ASK, fields)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of playwright's pipes
@pytest.mark.usefixtures("collected")
def test_a_page_gives_the_same_probabilities(graph, runtime):
    file, fields, wanted = graph
    plain = {
        name: {"values": value.ravel().tolist(), "shape": list(value.shape)}
        for name, value in fields.items()
    }
    given = asyncio.run(asked_in_a_page({**runtime, "student.onnx": file}, plain))
    assert given["shape"] == list(wanted.shape)
    np.testing.assert_allclose(np.reshape(given["values"], wanted.shape), wanted, atol=1e-5)


def test_weights_that_are_no_students_are_not_exported(student, netllm, tmp_path):
    pytest.importorskip("onnxscript", reason="needs netllm-adapt[onnx]")
    student[2].actor.save(tmp_path / "other.npz")
    code, _, err = netllm("export", tmp_path / "other.npz", "--out", tmp_path / "x.onnx")
    assert code == 2
    assert "must be a student's file" in err


def test_the_graph_of_a_student_of_viewports_predicts_as_the_student(tmp_path):
    pytest.importorskip("onnxscript", reason="needs netllm-adapt[onnx]")
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs netllm-adapt[onnx]")
    task = registry.task("vp")
    place = task.setting("synthetic", train_stride=40)
    clips = task.episodes(place, "train", count=4, seed=0)
    training = ViewportTraining(place, seed=0)
    asked = Asked(registry.policy("vp", "velocity", place))
    task.rollout(asked, place, clips, seed=0)
    states = asked.states()
    training.learn(states, states.pop("wanted"))
    training.save(tmp_path / "student.npz", {"task": "vp"})
    file = export(tmp_path / "student.npz", out=tmp_path / "student.onnx")
    known = states["viewport_deg"].astype(np.float32)
    (given,) = onnxruntime.InferenceSession(str(file)).run(["answer"], {"viewport_deg": known})
    wanted = training.policy().act({"viewport_deg": known})
    assert abs(known).max() > 150  # so that some answers lie beyond the border
    assert abs(wrap_deg(given - wanted)).max() < 1e-2
