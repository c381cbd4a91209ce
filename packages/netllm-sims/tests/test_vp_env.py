import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from netllm_sims.vp import Env, mae_deg, setting


def test_the_environment_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(Env(setting="synthetic", part="test"), skip_render_check=True)


def test_an_episode_is_the_windows_of_one_pair_and_its_reward_the_error():
    env = Env(setting="synthetic", part="test")
    clip = setting("synthetic").clips("test")[2]
    seen, info = env.reset(seed=0, options={"clip": 2})
    assert info == {"clip": clip.id}
    for window in range(len(clip)):
        np.testing.assert_allclose(seen["viewport_deg"], clip.history_deg[window], atol=1e-4)
        assert seen["time_s"] == pytest.approx([clip.time_s[window]])
        held = np.repeat(seen["viewport_deg"][-1:], env.setting.horizon, axis=0)
        seen, reward, terminated, truncated, info = env.step(held)
        wanted = mae_deg(held[None].astype(float), clip.future_deg[window : window + 1])[0]
        assert reward == pytest.approx(-wanted)
        np.testing.assert_array_equal(info["future_deg"], clip.future_deg[window])
        assert terminated == (window == len(clip) - 1)
        assert not truncated
    with pytest.raises(RuntimeError, match="must not follow the end"):
        env.step(held)


def test_pairs_are_drawn_by_seed():
    env = Env(setting="synthetic", part="train")
    first = [env.reset(seed=1)[1]["clip"], env.reset()[1]["clip"]]
    assert [env.reset(seed=1)[1]["clip"], env.reset()[1]["clip"]] == first
    assert first[0] != first[1]


def test_answers_of_another_shape_or_not_finite_are_refused():
    env = Env(setting="synthetic", part="test")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"must be \(20, 3\) finite degrees, got shape \(3, 3\)"):
        env.step(np.zeros((3, 3)))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full((20, 3), np.nan))
    with pytest.raises(ValueError, match="between 0 and"):
        env.reset(options={"clip": 10**6})
