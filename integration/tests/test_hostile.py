"""A checkpoint of a stranger, through the program: it can do nothing but be a model."""

import json
import pickle
import shutil

import pytest
import torch
from netllm.registry import task
from netllm.task.build_model import build_model
from netllm.vp.task import ImageRecipe
from netllm_adapt import Predictor
from safetensors.torch import load_file, save_file

RECIPE = ImageRecipe(dtype="float32", rank=2)
FILES = [
    "config.json",
    "digests.json",
    "adapter_config.json",
    "adapter_model.safetensors",
    "encoder.safetensors",
    "head.safetensors",
]


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def write_pickle(payload, path):
    path.write_bytes(pickle.dumps({"state_dict": payload}))


def write_zip(payload, path):
    torch.save({"state_dict": payload}, path)


def write_tar(payload, path):
    torch.save({"state_dict": payload}, path, _use_new_zipfile_serialization=False)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    vp = task("vp")
    model = build_model(vp, vp.setting("synthetic"), "tiny-random", RECIPE)
    model.about["task"] = "vp"
    return model.save_pretrained(tmp_path_factory.mktemp("honest") / "checkpoint")


@pytest.fixture
def hostile(honest, tmp_path):
    return shutil.copytree(honest, tmp_path / "hostile")


@pytest.fixture
def refused(netllm, hostile, tmp_path):
    """Test the checkpoint, which must end in one clear error and have run nothing."""

    def run(*says):
        asked = ("test", "vp", "--checkpoint", hostile, "--setting", "synthetic", "--episodes", 1)
        code, _, err = netllm(*asked)
        assert code == 2, err
        assert "Traceback" not in err
        assert any(one in err for one in says), err
        assert not (tmp_path / "marker").exists()

    return run


def change(hostile, part="state", **facts):
    (hostile / "digests.json").unlink(missing_ok=True)
    path = hostile / "config.json"
    config = json.loads(path.read_text())
    config[part] |= facts
    path.write_text(json.dumps(config))


def test_the_honest_one_is_tested(honest, netllm):
    asked = ("test", "vp", "--checkpoint", honest, "--setting", "synthetic", "--episodes", 1)
    code, _, err = netllm(*asked)
    assert code == 0, err


@pytest.mark.parametrize("write", [write_pickle, write_zip, write_tar])
def test_a_pickle_in_any_file_runs_nothing(write, hostile, refused, tmp_path):
    for name in FILES:
        kept = (hostile / name).read_bytes() if (hostile / name).exists() else None
        write(Payload(tmp_path / "marker"), hostile / name)
        refused(name)
        (hostile / "digests.json").unlink(missing_ok=True)
        if name != "digests.json":
            refused(name)
            (hostile / name).write_bytes(kept)


@pytest.mark.parametrize("write", [write_pickle, write_zip, write_tar])
@pytest.mark.parametrize("place", ["weights.pth", "hostile/weights.bin", "hostile/w.safetensors"])
def test_weights_of_frames_run_nothing(write, place, hostile, refused, tmp_path):
    write(Payload(tmp_path / "marker"), tmp_path / place)
    for weights in (str(tmp_path / place), f"../{place}", (tmp_path / place).name):
        change(hostile, frames={"model": "test_vit", "weights": weights})
        refused("config.json: `weights` must be null, 'random' or 'frames.safetensors'")


def test_weights_of_frames_must_be_among_the_checkpoints_files(hostile, refused):
    change(hostile, frames={"model": "test_vit", "weights": "frames.safetensors"})
    refused("does not list it among its files (`attached`)")


@pytest.mark.parametrize(
    "model", ["hf-hub:somebody/model", "hf_hub:somebody/model", "local-dir:/tmp", "../model", ""]
)
def test_models_of_frames_are_names_and_never_places(model, hostile, refused):
    change(hostile, frames={"model": model, "weights": "random"})
    refused("config.json: Expected `str` matching regex")


def test_a_model_that_timm_does_not_bring_is_refused(hostile, refused):
    pytest.importorskip("timm", reason="multimodal models need timm: netllm-encoders[vision]")
    change(hostile, frames={"model": "nothing_such", "weights": "random"})
    refused("must be a name that timm knows")


@pytest.mark.parametrize(
    ("part", "facts"),
    [
        ("about", {"teachers": "everybody"}),
        ("about", {"overrides": []}),
        ("state", {"front_deg": "north"}),
        ("state", {"rate_hz": 0}),
        ("state", {"frames": {"model": "test_vit", "cache": "/tmp"}}),
        ("state", {"frames": {"model": "test_vit", "image_size": [10**9, 10**9]}}),
        ("identity", {"learned": 5}),
    ],
)
def test_facts_that_cannot_be_name_file_and_field(part, facts, hostile, refused):
    change(hostile, part, **facts)
    refused(*(f"{part}.{name}" for name in facts))


def test_a_backbone_from_elsewhere_needs_the_users_word(hostile, refused):
    for name in ("somebody/model", "/etc", "..", "random-somebody/model"):
        (hostile / "digests.json").unlink(missing_ok=True)
        path = hostile / "config.json"
        config = json.loads(path.read_text())
        config["backbone"]["name"] = name
        path.write_text(json.dumps(config))
        refused("add --trust-backbone")


def test_weights_of_ones_own_travel_in_the_checkpoint(tmp_path, monkeypatch):
    timm = pytest.importorskip("timm", reason="multimodal models need netllm-encoders[vision]")
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    weights = tmp_path / "mine.safetensors"
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), weights)
    images = {"multimodal": True, "image_model": "test_vit", "image_weights": str(weights)}
    vp = task("vp")
    place = vp.setting("synthetic")
    model = build_model(vp, place, "tiny-random", ImageRecipe(dtype="float32", rank=2, **images))
    folder = model.save_pretrained(tmp_path / "checkpoint")
    assert str(tmp_path) not in (folder / "config.json").read_text()
    same = load_file(weights)
    weights.unlink()
    loaded = Predictor.from_pretrained(folder)
    held = load_file(folder / "frames.safetensors")
    assert all(torch.equal(held[name], value) for name, value in same.items())
    outcome = vp.rollout(vp.policy(loaded, place), place, place.clips("test")[:1], seed=0)
    assert len(outcome.rows) == 1
