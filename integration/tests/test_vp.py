"""Viewport prediction from end to end, on the tiny backbone and generated head movement."""

import json
from dataclasses import replace

import netllm
import numpy as np
import pytest
from matplotlib.pyplot import imsave
from netllm.vp import VP
from netllm.vp.policy import Extended
from netllm.vp.windows import Sight, Windows
from netllm_adapt import Predictor
from netllm_baselines.vp import TRACKSaliency
from netllm_baselines.vp.weights_file import Weights, shipped
from netllm_sims.vp import rollout, setting, wrap_deg
from netllm_sims.vp.geometry import mirrored, to_yaw_pitch, turned

FLAGS = [
    *("--steps", "4", "--batch", "8", "--layers", "1", "--rank", "2"),
    *("--dtype", "float32", "--validate-every", "2"),
]


@pytest.fixture(scope="module")
def place():
    return setting("synthetic")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("vp") / "run"
    netllm.adapt(
        "vp",
        setting="synthetic",
        backbone="tiny-random",
        out=out,
        validation=2,
        **{"steps": 4, "batch": 8, "layers": 1, "dtype": "float32", "validate_every": 2, "rank": 2},
    )
    return out


def test_a_run_keeps_its_best_checkpoint_and_what_it_is_for(run):
    model = Predictor.from_pretrained(run / "best")
    assert (model.about["task"], model.about["setting"]) == ("vp", "synthetic")
    assert model.about["validation mae_deg"] > 0
    assert "target return" not in (run / "best" / "README.md").read_text()


def test_a_checkpoint_stands_beside_hold_last_and_is_drawn(run, netllm, tmp_path):
    out = tmp_path / "report"
    command = ("test", "vp", "--policy", "hold-last", "velocity", "--checkpoint", run)
    code, text, err = netllm(*command, "--setting", "synthetic", "--out", out, "--json")
    assert code == 0, err
    results = {one["policy"]: one for one in json.loads(text)["results"]}
    assert results[None]["metrics"]["mae_deg"]["mean"] == pytest.approx(
        results["hold-last"]["metrics"]["mae_deg"]["mean"], rel=0.3
    )
    assert {path.name for path in out.glob("*.png")} == {
        "cdf.png",
        "bars.png",
        "horizon.png",
        "example.png",
    }


def test_the_example_lies_on_the_frame_on_display_and_every_answer_ends_in_a_dot():
    from matplotlib.figure import Figure
    from netllm.vp import plots

    results = netllm.test(
        "vp", policy=["hold-last", "velocity"], setting="synthetic", episodes=1
    ).results
    ax = plots.example(Figure().subplots(), results, VP.metrics[0])
    (image,) = ax.images
    assert tuple(image.get_extent()) == (-180, 180, -90, 90)
    seen = results[0].episodes[0]["example"]
    shown = results[0].place.frames_of(seen["video"]).at(seen["time_s"]).astype(float)
    pale = np.asarray(image.get_array(), dtype=float)
    assert np.corrcoef(pale.ravel(), shown.ravel())[0, 1] > 0.99
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert len(dots) == 4  # seen, came, two answers
    last = to_yaw_pitch(np.array(seen["history_deg"][-1]))
    held = [(*dot.get_xdata(), *dot.get_ydata()) for dot in dots]
    assert any(np.allclose(dot, last, atol=0.1) for dot in held)
    saved = [replace(result, place=None) for result in results]
    assert not plots.example(Figure().subplots(), saved, VP.metrics[0]).images


def test_the_mean_counts_windows_not_pairs(place):
    from netllm_baselines.vp import HoldLast

    clips = place.clips("test")[:3]
    clips[0] = type(clips[0])(
        **{
            **vars(clips[0]),
            "history_deg": clips[0].history_deg[:2],
            "future_deg": clips[0].future_deg[:2],
            "time_s": clips[0].time_s[:2],
        }
    )
    outcome = VP().rollout(HoldLast(place), place, clips, seed=0)
    from netllm.report.intervals import mean_of
    from netllm_sims.vp.metrics import mae_deg

    predicted = rollout(HoldLast(place), place, clips).predicted_deg
    every = np.concatenate(
        [mae_deg(p, clip.future_deg) for p, clip in zip(predicted, clips, strict=True)]
    )
    assert mean_of(outcome.rows, "mae_deg").mean == pytest.approx(every.mean())


def test_a_longer_horizon_is_rolled_out_and_a_longer_history_cut(run, place):
    model = Predictor.from_pretrained(run / "best")
    longer = setting("synthetic", history=20, horizon=30)
    clip = longer.clips("test")[0]
    observation = {"viewport_deg": clip.history_deg}
    answer = Extended(model, longer).act(observation)
    assert answer.shape == (len(clip), 30, 3)
    first = Extended(model, place).act({"viewport_deg": clip.history_deg[:, -10:]})
    np.testing.assert_allclose(answer[:, :20], first, atol=1e-4)
    second = Extended(model, place).act({"viewport_deg": first[:, -10:]})
    np.testing.assert_allclose(answer[:, 20:], second[:, :10], atol=1e-3)


def test_a_front_elsewhere_turns_the_world(run, place):
    model = Predictor.from_pretrained(run / "best")
    assert model.state["front_deg"] == 0
    seen_deg = place.clips("test")[0].history_deg
    plain = Extended(model, place).act({"viewport_deg": turned(seen_deg, 180)})
    answer = Extended(model, setting("synthetic", front_deg=180)).act({"viewport_deg": seen_deg})
    np.testing.assert_allclose(wrap_deg(turned(answer, 180) - plain), 0, atol=1e-3)


def test_windows_to_learn_from_come_with_their_mirror_images(place):
    clips = place.clips("train")[:2]
    windows = Windows(clips, front_deg=90)
    count = sum(map(len, clips))
    assert len(windows) == 2 * count
    for angles in (windows.observations["viewport_deg"], windows.labels):
        np.testing.assert_array_equal(angles[count:], mirrored(angles[:count], 90))


def test_every_answer_is_a_valid_orientation(run, place):
    clips = place.clips("test")[:4]
    policy = Extended(Predictor.from_pretrained(run / "best"), place)
    answers = np.concatenate(rollout(policy, place, clips).predicted_deg)
    assert (np.abs(answers[..., 1]) <= 90).all()
    assert ((answers >= -180) & (answers < 180)).all()


def test_a_multimodal_model_sees_the_frame_on_display(netllm, tmp_path, monkeypatch):
    pytest.importorskip("timm", reason="multimodal models need timm: netllm-encoders[vision]")
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    command = ("adapt", "vp", "--setting", "synthetic", "--backbone", "tiny-random", "--out", out)
    images = ("--multimodal", "--image-model", "test_vit", "--image-weights", "random")
    code, _, err = netllm(*command, *FLAGS, *images, "--validation", "2")
    assert code == 0, err
    model = Predictor.from_pretrained(out / "best")
    assert model.encoder.config()["image"] == {"rows": 4, "columns": 8, "channels": 64}
    place = setting("synthetic")
    clip = place.clips("test")[0]
    observation = {
        "viewport_deg": clip.history_deg,
        "video": np.repeat(clip.video, len(clip)),
        "time_s": clip.time_s,
    }
    policy = Extended(model, place)
    answers = policy.act(observation)
    assert answers.shape == clip.future_deg.shape
    assert_turned_alike(lambda here: Extended(model, here), tmp_path)
    elsewhere = policy.act({**observation, "video": np.repeat("synthetic/video60", len(clip))})
    assert not np.array_equal(answers, elsewhere)


def test_saliency_sees_a_turned_world_turned(tmp_path):
    weights = Weights.load(shipped("track-saliency-synthetic"), kind="track", train="")
    there = replace(weights, meta=weights.meta | {"front_deg": 0.0})
    assert_turned_alike(lambda here: TRACKSaliency(here, weights=there), tmp_path)


def assert_turned_alike(build, folder):
    """A policy that learned with the front at 0 answers alike in a world turned by 90°."""
    answers = []
    for turn in (0, 90):
        here = own_world(folder / f"{turn}", turn)
        clip = here.clips("test")[0]
        seen = {
            "viewport_deg": clip.history_deg,
            "video": np.repeat(clip.video, len(clip)),
            "time_s": clip.time_s,
        }
        answers.append(turned(build(here).act(seen), -turn))
    np.testing.assert_allclose(wrap_deg(answers[1] - answers[0]), 0, atol=0.05)


def own_world(folder, turn_deg):
    """24 s of one viewer before frames with a spot, all turned about the vertical."""
    (folder / "heads" / "film").mkdir(parents=True)
    (folder / "frames" / "film").mkdir(parents=True)
    heads = [f"{t / 5},{10 * np.sin(t / 9) + turn_deg},{5 * np.cos(t / 7)}" for t in range(120)]
    text = "time,yaw,pitch\n" + "\n".join(heads) + "\n"
    (folder / "heads" / "film" / "viewer.csv").write_text(text)
    for number in range(120):
        frame = np.full((64, 128, 3), 40, np.uint8)
        frame[20:28, 60 + number % 20 : 70 + number % 20] = (250, 220, 30)
        frame = np.roll(frame, turn_deg * 128 // 360, axis=1)
        imsave(folder / "frames" / "film" / f"{number:06d}.png", frame)
    return setting(
        "default", trajectories=folder / "heads", frames=folder / "frames", front_deg=turn_deg
    )


def test_images_where_there_are_no_frames_are_refused(netllm, tmp_path):
    pytest.importorskip("timm", reason="multimodal models need timm: netllm-encoders[vision]")
    place = setting("synthetic")
    recorded = type(place)(name="mine", dataset="mine", trajectories=tmp_path)
    with pytest.raises(ValueError, match="has no frames, which a multimodal model must see"):
        Sight(recorded, {"weights": "random"})


def test_another_rate_than_the_learned_one_is_refused_unless_the_checkpoint_is_silent(run):
    model = Predictor.from_pretrained(run / "best")
    assert model.state["rate_hz"] == 5
    other = setting("synthetic", rate_hz=10)
    with pytest.raises(ValueError, match=r"adapted to 5 points per second.*has 10.*rate_hz=5, "):
        Extended(model, other)
    del model.state["rate_hz"]
    Extended(model, other)
    with pytest.raises(ValueError, match=r"reads a history of 10 points.*has 5.*--set history=10"):
        Extended(model, setting("synthetic", history=5))


def test_a_checkpoint_of_own_data_names_their_folder_and_a_test_elsewhere_says_so(netllm, tmp_path):
    for user in ("a", "b", "c", "d", "e", "f"):
        rows = "\n".join(f"{i / 5:.1f},{i % 90},0" for i in range(100))
        (tmp_path / "heads" / "v").mkdir(parents=True, exist_ok=True)
        (tmp_path / "heads" / "v" / f"{user}.csv").write_text(f"time,yaw,pitch\n{rows}\n")
    out, own = tmp_path / "run", ("--set", f"trajectories={tmp_path / 'heads'}")
    learn = ("adapt", "vp", "--backbone", "tiny-random", "--out", out)
    code, text, err = netllm(*learn, *own, "--set", "train_stride=5", *FLAGS)
    assert code == 0, err
    assert text.startswith("The last checkpoint is ")
    facts = Predictor.from_pretrained(out / "best").about
    assert facts["overrides"] == {"trajectories": "heads", "train_stride": 5}
    assert (
        "| overrides | trajectories=heads, train_stride=5 |"
        in (out / "best" / "README.md").read_text()
    )
    test = ("test", "vp", "--checkpoint", out, "--json")
    _, there, _ = netllm(*test, *own)
    _, elsewhere, _ = netllm(*test, "--setting", "synthetic", "--episodes", "1")
    note = "was adapted with --set trajectories=heads, which this test does not have"
    assert note in " ".join(json.loads(elsewhere)["provenance"]["notes"])
    assert json.loads(there)["provenance"]["overrides"] == {"trajectories": "heads"}
    assert "was adapted with" not in " ".join(json.loads(there)["provenance"]["notes"])


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        (("rl-collect", "vp", "--policy", "hold-last", "--out", "x"), "netllm adapt vp"),
        (("adapt", "vp", "--pool", "x", "--out", "y", *FLAGS), "takes no pool"),
        (("test", "vp", "--policy", "hold-lst"), "Did you mean hold-last"),
        (("test", "vp", "--setting", "unseen-horzon"), "Did you mean unseen-horizon"),
        (("train-baseline", "vp", "grru", "--out", "x"), "Did you mean gru"),
    ],
)
def test_what_cannot_be_is_said_with_what_can(netllm, tmp_path, command, hint):
    backbone = ("--backbone", "tiny-random") if command[0] == "adapt" else ()
    code, _, err = netllm(*command, *backbone)
    assert code == 2
    assert hint in " ".join(err.split())


def test_training_windows_begin_at_every_point_unless_told_otherwise():
    assert VP().setting("synthetic").train_stride == 1
    assert VP().setting("synthetic", train_stride=15).train_stride == 15


def test_the_recipe_sees_no_images_unless_asked():
    assert not VP().recipe("smollm2-135m").multimodal
    assert replace(VP().recipe("tiny-random"), multimodal=True).image_weights == ""


def test_scratch_trains_as_many_parameters_as_the_adapter_within_a_tenth(place):
    from netllm.task.build_model import build_model, trainable

    task = VP()
    recipe = task.recipe("smollm2-135m")
    usual = build_model(task, place, "random-smollm2-135m", recipe)
    scratch = build_model(task, place, "scratch", replace(recipe, layers=None))
    assert scratch.spec.name.startswith("scratch-")
    assert abs(trainable(scratch) - trainable(usual)) < 0.1 * trainable(usual)
