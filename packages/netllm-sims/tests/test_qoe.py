from dataclasses import replace

import numpy as np
import pytest
from netllm_sims.abr import QoE, load_video, rollout, setting


def test_qoe_is_bitrate_less_weighted_rebuffering_and_change():
    # by hand: 1.2 - 4.3 * 0.5 - 0.9 and 0.3 - 0 - 2 * 0.9
    parts = np.array([1.2]), np.array([0.5]), np.array([0.9])
    assert QoE()(*parts) == pytest.approx([-1.85])
    calm = QoE(rebuffering=0, smoothness=2)
    assert calm(np.array([0.3]), np.array([7.0]), np.array([-0.9])) == pytest.approx([-1.5])


@pytest.mark.parametrize("weights", [{"rebuffering": -1.0}, {"smoothness": float("nan")}])
def test_weights_must_be_finite_and_not_negative(weights):
    with pytest.raises(ValueError, match=next(iter(weights))):
        QoE(**weights)


def qualities(kind, **fields):
    place = setting("synthetic", chunks=10, quality=kind, **fields)
    return place.chunk_quality[0], place.rebuffering


def test_qualities_and_weights_are_those_of_pensieve():
    # Its table 1.
    linear, weight = qualities("linear")
    assert (linear.tolist(), weight) == ([0.3, 0.75, 1.2, 1.85, 2.85, 4.3], 4.3)
    log, weight = qualities("log")
    assert log == pytest.approx(np.log([1, 2.5, 4, 37 / 6, 9.5, 43 / 3]))
    assert weight == 2.66
    assert (qualities("hd")[0].tolist(), qualities("hd")[1]) == ([1, 2, 3, 12, 15, 20], 8.0)
    assert qualities("log", rebuffering=5)[1] == 5


def test_a_quality_that_cannot_be_had_is_refused():
    with pytest.raises(ValueError, match=r"value of `quality` 'log2'. Did you mean log"):
        setting("synthetic", quality="log2")
    with pytest.raises(ValueError, match=r"'hd' is defined for the rates .* got 400, 1000"):
        setting("synthetic", quality="hd", rates_kbps="400,1000")
    with pytest.raises(
        ValueError, match=r"'table', but video `synthetic.*` has none.*video_quality_0"
    ):
        setting("synthetic", quality="table")


@pytest.mark.parametrize("kind", ["linear", "log", "hd", "table"])
def test_a_chunk_earns_its_quality_less_stall_and_change(kind):
    plain = setting("synthetic", chunks=12)
    numbers = np.random.default_rng(0).uniform(5, 20, plain.video.sizes_bytes.shape)
    place = replace(
        plain, quality=kind, video=replace(plain.video, quality=numbers), rebuffering=2.0
    )
    run = rollout(Climb(), place, place.sessions("test")[:3])
    levels = np.concatenate([np.zeros((3, 1), int), run.actions], axis=1)
    worth = place.chunk_quality[np.arange(12), levels]
    expected = place.qoe(worth[:, 1:], run.rebuffer_s, np.diff(worth, axis=1))
    np.testing.assert_allclose(run.rewards, expected, atol=1e-12)


class Climb:
    """Up the ladder and from the top to the bottom."""

    def reset(self, seed):
        pass

    def act(self, observation):
        return (observation["level"] + 1) % 6


def test_a_video_reads_its_qualities_beside_its_sizes(tmp_path):
    for level in range(2):
        (tmp_path / f"video_size_{level}").write_text("1000\n2000\n" if level else "500\n900\n")
        (tmp_path / f"video_quality_{level}").write_text(f"{10 + level}.5\n{-level}\n")
    place = setting("synthetic", video=tmp_path, rates_kbps="400,1000", quality="table")
    assert place.chunk_quality.tolist() == [[10.5, 11.5], [0.0, -1.0]]
    assert place.rebuffering == 100
    assert place.video.digest != replace(place.video, quality=None).digest


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"video_quality_0": "1\n2\n"}, "one quality file per size file, got 1 and 2"),
        ({"video_quality_0": "1\n2\n", "video_quality_1": "1\n"}, r"video_quality_1:2: .*1 lines"),
        ({"video_quality_0": "1\n", "video_quality_1": "1\n"}, r"video_quality_0:2: .*of the 2"),
        ({"video_quality_0": "1\nx\n", "video_quality_1": "1\n2\n"}, "video_quality_0:2"),
        ({"video_quality_1": "1\n2\n"}, r"video_quality_0, .* without a gap, got numbers \[1\]"),
        ({"video_quality_0": "", "video_quality_1": "1\n2\n"}, "video_quality_0:1: .*empty file"),
    ],
)
def test_qualities_that_do_not_fit_the_sizes_are_refused(tmp_path, files, says):
    for level in range(2):
        (tmp_path / f"video_size_{level}").write_text("1000\n2000\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        load_video(tmp_path, rates_kbps=(400.0, 1000.0))
