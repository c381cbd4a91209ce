"""The GRU that knows the viewer's past and other viewers."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra netllm-baselines[learned] is not installed")

import torch
from netllm_baselines.vp import CrowdMedian, GRUSide
from netllm_baselines.vp.gru_side_network import ALIKE, network
from netllm_baselines.vp.gru_side_training import train_gru_side
from netllm_baselines.vp.training_recipe import Recipe
from netllm_sims.vp import mae_deg, rollout, setting

SMALL = Recipe(hidden=16, epochs=1, batch=64, train_stride=60, dropout=0.3)


@pytest.fixture(scope="module")
def place():
    return setting("synthetic", crowd=6, memory=30)


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("weights") / "side.npz"
    recipe = replace(SMALL, epochs=3, train_stride=10)
    return train_gru_side(place, out=out, recipe=recipe)


def test_it_learns_to_follow_viewers_who_see_the_same(place, trained):
    clips = place.clips("test")
    held = [np.repeat(clip.history_deg[:, -1:], 20, axis=1) for clip in clips]

    def error(answers):
        pairs = zip(answers, clips, strict=True)
        return np.mean([mae_deg(answer, clip.future_deg).mean() for answer, clip in pairs])

    answers = rollout(GRUSide(place, weights=trained), place, clips).predicted_deg
    assert error(answers) < 0.75 * error(held)


def test_the_shipped_weights_know_more_of_a_crowd_than_a_rule_does(place):
    clips = place.clips("valid")

    def error(policy):
        pairs = zip(rollout(policy, place, clips).predicted_deg, clips, strict=True)
        return np.mean([mae_deg(answer, clip.future_deg).mean() for answer, clip in pairs])

    assert error(GRUSide(place)) < 0.8 * error(CrowdMedian(place))


def test_one_file_of_shipped_weights_serves_all_that_settings_show(place):
    shown = [place, setting("synthetic", crowd=6), setting("synthetic", memory=30)]
    commands = {GRUSide(one).weights.meta["command"] for one in shown}
    assert len(commands) == 1
    assert "gru-side" in commands.pop()


def test_the_same_seed_gives_the_same_file(place, tmp_path):
    few = {"recipe": SMALL, "seed": 3}
    one, other = (train_gru_side(place, out=tmp_path / f"{n}.npz", **few) for n in "ab")
    with np.load(one) as first, np.load(other) as second:
        for name in first.files:
            if name != "meta":
                np.testing.assert_array_equal(first[name], second[name])


@pytest.mark.parametrize(
    "shown",
    [{}, {"crowd": 3}, {"memory": 7}, {"crowd": 9, "memory": 40, "horizon": 30}, {"horizon": 50}],
)
def test_it_answers_whatever_a_setting_shows(place, trained, shown):
    other = setting("synthetic", **shown)
    clips = other.clips("test")[:2]
    answers = rollout(GRUSide(other, weights=trained), other, clips).predicted_deg
    assert [answer.shape for answer in answers] == [(len(c), other.horizon, 3) for c in clips]
    assert all((np.abs(answer[..., 1]) <= 90).all() for answer in answers)


def test_viewers_and_points_that_are_not_known_change_nothing():
    generator = torch.Generator().manual_seed(0)
    net = network(hidden=8, horizon=4, memory=True, crowd=True, generator=generator).eval()
    side = {
        "memory_deg": torch.randn(2, 20, 3, generator=generator),
        "memory_known": torch.arange(20).repeat(2, 1) >= 10,
        "crowd_deg": torch.randn(2, 3, 14, 3, generator=generator),
        "crowd_known": torch.tensor([[True, False, True]] * 2),
    }
    history = torch.randn(2, 10, 3, generator=generator)
    before = net(history, side)
    side["memory_deg"][:, :10] = 55.0
    side["crowd_deg"][:, 1] = 55.0
    torch.testing.assert_close(net(history, side), before)


def test_a_history_may_be_shorter_than_what_is_compared():
    net = network(hidden=8, horizon=4, memory=False, crowd=True)
    side = {"crowd_deg": torch.zeros(1, 2, 7, 3), "crowd_known": torch.ones(1, 2).bool()}
    assert ALIKE > 3
    assert net(torch.zeros(1, 3, 3), side).shape == (1, 4, 3)


def test_a_setting_that_shows_neither_is_refused(tmp_path):
    with pytest.raises(ValueError, match="shows neither"):
        train_gru_side("synthetic", out=tmp_path / "x.npz")
    with pytest.raises(ValueError, match="shows neither"):
        GRUSide(setting("synthetic"))
