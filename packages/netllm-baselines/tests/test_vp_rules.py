"""Hold-last, velocity and linear regression."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from netllm_baselines.vp import (
    HoldLast,
    LinearRegression,
    LinearRegressionUnwrapped,
    Velocity,
    VelocityUnwrapped,
)
from netllm_sims.vp import Setting, mae_deg, rmse_deg, rollout, setting

RULES = (HoldLast, Velocity, LinearRegression, VelocityUnwrapped, LinearRegressionUnwrapped)
REFERENCE = json.loads((Path(__file__).parent / "reference_vp.json").read_text())


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


@pytest.fixture(scope="module")
def real() -> Setting:
    data = os.environ.get("NETLLM_DATA")
    if not data or not Path(data, "vp").is_dir():
        pytest.skip("NETLLM_DATA names no folder with the real head movement")
    return setting("default", data=data)


def answers(policy, place: Setting) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and truth of all test windows."""
    clips = place.clips("test")
    run = rollout(policy, place, clips, seed=0)
    return np.concatenate(run.predicted_deg), np.concatenate([clip.future_deg for clip in clips])


def history(*yaws: float) -> dict[str, np.ndarray]:
    """One window that turns its head only."""
    seen = np.zeros((1, len(yaws), 3))
    seen[0, :, 2] = yaws
    return {"viewport_deg": seen}


@pytest.mark.parametrize(
    ("rule", "name"), [(Velocity, "velocity"), (LinearRegression, "linear-regression")]
)
def test_the_reference_is_matched_in_every_step_and_axis(real, rule, name):
    predicted, future = answers(rule(real), real)
    expected = REFERENCE[name]
    assert len(predicted) == 1698
    assert mae_deg(predicted, future).mean() == pytest.approx(expected["mae_deg"], abs=1e-3)
    per_step = mae_deg(predicted, future, per_step=True).mean(axis=0)
    assert per_step == pytest.approx(expected["mae_per_step_deg"], abs=1e-3)
    d = np.abs(predicted - future)
    per_axis = np.minimum(d, np.abs(d - 360)).mean(axis=(0, 1))
    assert per_axis == pytest.approx(list(expected["mae_per_axis_deg"].values()), abs=1e-3)
    rmse = np.sqrt(np.square(rmse_deg(predicted, future)).mean())
    assert rmse == pytest.approx(expected["rmse_deg"], abs=1e-3)


# The public project's own loader and metric, ORACLES: 9.763364, 16.07 and 17.50; Wu2017 11.12.
@pytest.mark.parametrize(
    ("rule", "expected", "within"),
    [
        (HoldLast, 9.763364, 1e-5),
        (VelocityUnwrapped, 16.07, 0.02),
        (LinearRegressionUnwrapped, 17.50, 0.02),
    ],
)
def test_other_rules_have_their_known_errors_on_jin2022(real, rule, expected, within):
    assert mae_deg(*answers(rule(real), real)).mean() == pytest.approx(expected, abs=within)


def test_holding_has_its_known_error_on_wu2017(real):
    wu = setting("unseen-dataset", data=real.data)
    assert mae_deg(*answers(HoldLast(wu), wu)).mean() == pytest.approx(11.12, abs=5e-3)


def test_a_line_is_the_least_squares_fit(synthetic):
    seen = np.random.default_rng(0).normal(0, 20, (7, synthetic.history, 3))
    time = np.arange(synthetic.history + synthetic.horizon)
    expected = [
        np.polynomial.Polynomial.fit(time[: synthetic.history], seen[b, :, axis], 1)(
            time[synthetic.history :]
        )
        for b in range(7)
        for axis in range(3)
    ]
    got = LinearRegression(synthetic).act({"viewport_deg": seen})
    assert np.allclose(got.transpose(0, 2, 1).reshape(21, -1), expected)


def test_refitting_on_its_own_answers_changes_nothing(synthetic):
    """As the reference does it, point by point."""
    place = setting("synthetic", history=4, horizon=6)
    seen = np.random.default_rng(1).normal(0, 20, (3, 4, 3))
    grown = seen
    one = LinearRegression(setting("synthetic", history=4, horizon=1))
    for _ in range(6):
        grown = np.concatenate([grown, one.act({"viewport_deg": grown})], axis=1)
    assert np.allclose(LinearRegression(place).act({"viewport_deg": seen}), grown[:, 4:])


def test_velocity_goes_on_with_the_mean_step():
    place = setting("synthetic", history=3, horizon=2)
    got = Velocity(place).act(history(0.0, 5.0, 6.0))
    assert got[0, :, 2].tolist() == [9.0, 12.0]


def test_without_unwrapping_a_crossing_is_a_jump():
    place = setting("synthetic", history=3, horizon=2)
    seen = history(170.0, 178.0, -174.0)
    assert Velocity(place).act(seen)[0, :, 2].tolist() == [-346.0, -518.0]
    assert VelocityUnwrapped(place).act(seen)[0, :, 2].tolist() == [-166.0, -158.0]
    assert LinearRegressionUnwrapped(place).act(seen)[0, :, 2] == pytest.approx([-166, -158])


@pytest.mark.parametrize("rule", [HoldLast, VelocityUnwrapped, LinearRegressionUnwrapped])
def test_unwrapped_answers_are_valid_viewports(synthetic, rule):
    rng = np.random.default_rng(2)
    seen = rng.uniform([-180, -90, -180], [180, 90, 180], (50, synthetic.history, 3))
    answer = rule(synthetic).act({"viewport_deg": seen})
    assert answer.shape == (50, synthetic.horizon, 3)
    assert (answer >= [-180, -90, -180]).all()
    assert (answer <= [180, 90, 180]).all()
    assert answer[..., [0, 2]].max() < 180


@pytest.mark.parametrize("rule", [Velocity, LinearRegression])
def test_unwrapping_leaves_histories_without_a_crossing_alone(synthetic, rule):
    seen = np.random.default_rng(3).uniform(-5, 5, (20, synthetic.history, 3))
    plain, unwrapped = (
        rule(synthetic, unwrap=u).act({"viewport_deg": seen}) for u in (False, True)
    )
    assert np.allclose(plain, unwrapped)


@pytest.mark.parametrize("rule", RULES)
def test_a_window_does_not_depend_on_its_batch(synthetic, rule):
    clips = synthetic.clips("test")[:2]
    seen = np.concatenate([clip.history_deg for clip in clips])
    policy = rule(synthetic)
    alone = [policy.act({"viewport_deg": window[None]})[0] for window in seen]
    assert np.array_equal(policy.act({"viewport_deg": seen}), alone)


@pytest.mark.parametrize("rule", [Velocity, LinearRegression])
def test_a_line_through_one_point_is_refused(rule):
    with pytest.raises(ValueError, match="at least 2 points of history"):
        rule(setting("synthetic", history=1))
    with pytest.raises(ValueError, match=r"at least 2 points.*got shape \(1, 1, 3\)"):
        rule(setting("synthetic")).act(history(1.0))


def test_an_unknown_name_is_an_attribute_error():
    import netllm_baselines.vp as rivals

    with pytest.raises(AttributeError, match="Flare"):
        rivals.Flare  # noqa: B018
