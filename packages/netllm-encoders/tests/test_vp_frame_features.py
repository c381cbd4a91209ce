import json
import logging
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from netllm_encoders import Viewport
from netllm_encoders.image import FrameFeatures
from netllm_encoders.image.cache import Cache

SMALL = {"model": "test_vit", "weights": "random", "image_size": (64, 128), "grid": (4, 8)}


def make(**settings) -> FrameFeatures:
    pytest.importorskip("timm", reason="needs timm: pip install 'netllm-encoders[vision]'")
    return FrameFeatures(**SMALL | settings)


def noise(count: int, *, seed: int = 0, size: tuple[int, int] = (64, 128)) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return list(rng.integers(0, 256, (count, *size, 3), dtype=np.uint8))


def discs(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of 64 x 128 with a bright disc of 5 pixels on a texture, and where its middle is."""
    rng = np.random.default_rng(0)
    coarse = torch.tensor(rng.normal(110, 25, (count, 3, 8, 16)))
    texture = torch.nn.functional.interpolate(coarse, (64, 128), mode="bilinear")
    frames = texture.permute(0, 2, 3, 1).numpy() + rng.normal(0, 10, (count, 64, 128, 3))
    row, column = rng.uniform(8, 56, count), rng.uniform(0, 128, count)
    y, x = np.mgrid[:64, :128] + 0.5
    dy = y - row[:, None, None]
    dx = (x - column[:, None, None] + 64) % 128 - 64  # round the seam
    frames[np.hypot(dx, dy) < 5] = 240
    return frames.clip(0, 255).astype(np.uint8), row, column


@pytest.mark.parametrize("seed", [0, 1])
def test_a_linear_map_of_a_cells_random_features_tells_whether_a_bright_disc_is_there(seed):
    """The cell where one ridge regression, shared by all cells, sees the disc most clearly."""
    frames, row, column = discs(250)
    grids = make(seed=seed)(frames).astype(np.float64)
    there = np.zeros((250, 4, 8))
    there[np.arange(250), (row / 16).astype(int), (column / 16).astype(int)] = 1
    x = grids[:200].reshape(-1, 64)
    mean = x.mean(0)
    gram = (x - mean).T @ (x - mean)
    gram += 1e-4 * np.trace(gram) / 64 * np.eye(64)
    weights = np.linalg.solve(gram, (x - mean).T @ there[:200].ravel())
    cell = ((grids[200:] - mean) @ weights).reshape(50, -1).argmax(1)
    row_error = np.abs(cell // 8 + 0.5 - row[200:] / 16)
    column_error = np.abs((cell % 8 + 0.5 - column[200:] / 16 + 4) % 8 - 4)
    # The middle of the right cell errs by a quarter of a cell on average, and half at most.
    assert row_error.mean() < 0.3
    assert column_error.mean() < 0.35
    assert ((row_error < 1) & (column_error < 1)).mean() > 0.95


def test_a_grid_holds_the_averaged_patch_tokens_of_the_frozen_model():
    features = make(grid=(2, 4))
    import timm

    frame = noise(1)[0]
    grids = features([frame])
    assert grids.shape == (1, 2, 4, 64)
    assert grids.dtype == np.float16
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=0, img_size=(64, 128)).eval()
    pixels = torch.tensor(frame).permute(2, 0, 1)[None].float() / 255
    mean, std = (torch.tensor(model.pretrained_cfg[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        tokens = model.forward_features((pixels - mean) / std)[0, model.num_prefix_tokens :]
    cells = tokens.view(2, 2, 4, 2, 64).mean((1, 3))  # 4 x 8 patches
    np.testing.assert_allclose(grids[0], cells.numpy(), atol=2e-3)
    assert not any(weight.requires_grad for weight in features.model.parameters())


def test_an_earlier_block_can_be_chosen():
    frames = noise(2)
    first, last, normed = (make(block=block)(frames) for block in (0, 5, None))
    assert first.shape == last.shape == (2, 4, 8, 64)
    assert not np.allclose(first, last, atol=0.05)
    assert not np.allclose(last, normed, atol=0.05)
    assert np.array_equal(make(block=-1)(frames), last)


def test_frames_of_any_size_are_resized():
    frame = noise(1, size=(4, 8))[0]
    large = frame.repeat(32, 0).repeat(32, 1)  # 128 x 256
    assert make()([frame, large, frame]).shape == (3, 4, 8, 64)
    flat = [np.full((h, w, 3), 77, np.uint8) for h, w in ((64, 128), (50, 200), (640, 1280))]
    grids = make()(flat).astype(np.float32)
    np.testing.assert_allclose(grids[1:], grids[:1].repeat(2, 0), atol=5e-3)


def test_features_are_what_the_viewport_encoder_takes():
    features = make()
    encoder = Viewport(width=16, history=10, image=features.image)
    image = torch.from_numpy(features(noise(2)))
    tokens = encoder.observe({"viewport_deg": torch.zeros(2, 10, 3), "image": image})
    assert tokens.shape == (2, 12, 16)


def test_batches_and_repeated_frames_change_nothing():
    frames = noise(5)
    expected = make()(frames)
    order = [0, 3, 3, 1, 4, 2, 0]
    grids = make(batch=2)(frames[index] for index in order)
    np.testing.assert_allclose(grids, expected[order], atol=2e-3)


def test_no_frames_give_no_grids():
    assert make()([]).shape == (0, 4, 8, 64)


def test_random_weights_are_the_seeds_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    frames = noise(1)
    first, again, other = (make(seed=seed)(frames) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other, atol=0.05)


def test_weights_come_from_a_file(tmp_path):
    from safetensors.torch import save_file

    random = make(seed=3)
    save_file(dict(random.model.state_dict()), tmp_path / "weights.safetensors")
    frames = noise(2)
    assert np.array_equal(make(weights=tmp_path / "weights.safetensors")(frames), random(frames))


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def pickled(payload: Payload, path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": payload}))


def saved(payload: Payload, path: Path) -> None:
    torch.save({"state_dict": payload}, path)


def saved_as_before(payload: Payload, path: Path) -> None:
    torch.save({"state_dict": payload}, path, _use_new_zipfile_serialization=False)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors", "weights.npz", "weights"])
@pytest.mark.parametrize("write", [pickled, saved, saved_as_before])
def test_a_pickle_as_weights_is_refused_and_runs_nothing(name, write, tmp_path):
    payload = Payload(tmp_path / "marker")
    write(payload, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: must hold weights.* no safetensors file"):
        make(weights=tmp_path / name)(noise(1))
    assert not payload.marker.exists()


def test_weights_without_a_tensor_are_refused_and_no_hub_is_asked(tmp_path):
    from safetensors.torch import save_file

    save_file({}, tmp_path / "none.safetensors")
    with pytest.raises(ValueError, match=r"none\.safetensors: must hold weights .* no weights"):
        make(weights=tmp_path / "none.safetensors")(noise(1))


@pytest.mark.parametrize("scheme", ["hf-hub:", "hf_hub:", "local-dir:", "file:", "", "../"])
def test_a_model_is_one_that_timm_brings_and_never_a_place(scheme, tmp_path):
    payload = Payload(tmp_path / "marker")
    saved(payload, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"architecture": "test_vit"}')
    for weights in (None, "random"):
        with pytest.raises(ValueError, match="must be a name that timm knows"):
            make(model=f"{scheme}{tmp_path}", weights=weights)(noise(1))
    assert not payload.marker.exists()


def test_cached_frames_need_no_model(tmp_path):
    frames = noise(5)
    grids = make(cache=tmp_path, batch=2)(frames)
    twin = make(cache=tmp_path)
    assert np.array_equal(twin(reversed(frames)), grids[::-1])
    assert "model" not in vars(twin)
    assert [path for path in tmp_path.rglob("*") if path.name.startswith(".")] == []
    assert len(list(tmp_path.rglob("*.npz"))) == 5


@pytest.mark.parametrize(
    "settings", [{"seed": 1}, {"block": 2}, {"grid": (2, 4)}, {"image_size": (128, 256)}]
)
def test_other_settings_find_none_of_the_cached_frames(settings, tmp_path):
    frames = noise(1)
    make(cache=tmp_path)(frames)
    other = make(**settings)(frames)
    assert np.array_equal(make(cache=tmp_path, **settings)(frames), other)
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_the_cache_tells_its_settings(tmp_path):
    features = make(cache=tmp_path)
    (path,) = tmp_path.rglob("settings.json")
    assert json.loads(path.read_text()) == features.settings
    assert features.settings["weights"].startswith("random, seed 0, torch ")


def test_a_full_disk_names_the_file_of_the_cache_and_leaves_no_half_of_it(tmp_path, room):
    cache = Cache(tmp_path, {})
    files = sorted(tmp_path.rglob("*.*"))
    with room(999), pytest.raises(OSError, match=r"Free space, .*ab12\.npz"):
        cache.write("ab12", np.zeros((9, 9, 9), np.float16))
    assert sorted(tmp_path.rglob("*.*")) == files


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "moved", "other"])
def test_a_damaged_file_is_computed_again(damage, tmp_path, caplog):
    frames = noise(3)
    grids = make(cache=tmp_path)(frames)
    path = sorted(tmp_path.rglob("*.npz"))[1]
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    if damage == "other":
        np.savez(path, features=np.zeros((2, 2)))
    else:
        offset = int.from_bytes(content[-6:-2], "little") + 8  # members lie before the file's start
        broken = {"empty": b"", "cut": content[:-100], "flipped": bytes(flipped), "text": b"hello"}
        broken["moved"] = content[:-6] + offset.to_bytes(4, "little") + content[-2:]
        path.write_bytes(broken[damage])
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(make(cache=tmp_path)(frames), grids, atol=2e-3)
    assert f"{path.name} is damaged" in caplog.text
    caplog.clear()
    make(cache=tmp_path)(frames)
    assert caplog.text == ""


def test_what_was_computed_before_a_crash_is_kept(tmp_path):
    def broken():
        yield from noise(3)
        raise OSError("frame 3 cannot be read")

    with pytest.raises(OSError, match="frame 3 cannot be read"):
        make(cache=tmp_path, batch=2)(broken())
    assert len(list(tmp_path.rglob("*.npz"))) == 2


def test_a_bar_is_shown_on_stderr_when_asked_for(capsys):
    make()(noise(2), progress=True)
    assert "| 2/2 [" in capsys.readouterr().err
    make()(noise(2))
    assert capsys.readouterr().err == ""


def test_without_timm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'pip install "./packages/netllm-encoders\[vision\]"'
    ):
        FrameFeatures(**SMALL)


def test_weights_that_timm_does_not_have_are_told_with_the_alternatives():
    features = make(model="vit_base_patch16_gap_224", weights=None, image_size=(64, 128))
    with pytest.raises(OSError, match=r"could not be had from timm .* `weights='random'`.*--image"):
        features(noise(1))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no file '.*absent\.pth'"):
        make(weights=tmp_path / "absent.pth")


def test_weights_of_another_model_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(
        ValueError, match=r"other\.safetensors: must hold weights of 'test_vit', got: "
    ):
        make(weights=path)(noise(1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model": "vit_tinny_patch16_224"}, "Did you mean 'vit_tiny_patch16_224'"),
        ({"model": "resnet18"}, "must be a ViT, which takes any size of image, got 'resnet18'"),
        ({"model": "swin_tiny_patch4_window7_224"}, "must be a ViT, a stack of blocks"),
        ({"image_size": (60, 128)}, "patches of 16 x 16 pixels, got 60 x 128"),
        ({"grid": (3, 8)}, r"divide the 4 x 8 patches of 'test_vit' .*, got 3 x 8"),
        ({"grid": (8, 16)}, "got 8 x 16"),
        ({"block": 6}, "one of the 6 blocks of 'test_vit', from 0 to 5, got 6"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make(**settings)(noise(1))


@pytest.mark.parametrize("settings", [{"batch": 0}, {"grid": (0, 8)}, {"image_size": (64, 0)}])
def test_settings_below_one_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1"):
        FrameFeatures(**SMALL | settings)


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((64, 128, 3), np.float32),
        np.zeros((64, 128), np.uint8),
        np.zeros((64, 128, 4), np.uint8),
        np.zeros((0, 128, 3), np.uint8),
    ],
)
def test_another_kind_of_frame_is_refused_and_numbered(frame, unchecked_shapes):
    with pytest.raises(ValueError, match=r"frame 1 must be uint8 of shape \(height, width, 3\)"):
        make()([*noise(1), frame])
