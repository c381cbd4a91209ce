import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces.utils import flatten
from gymnasium.utils.env_checker import check_env
from netllm_sims import cjs

SMALL = {"setting": "synthetic", "num_jobs": 6, "num_executors": 5}


def fair_action(env):
    """The first schedulable stage, and half of the executors that are free."""
    masks = env.action_masks()
    rows = np.flatnonzero(masks[: env.rows])
    free = masks[env.rows + 1 :].sum()
    return np.array([rows[0], (free - 1) // 2])


def test_the_environment_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(cjs.TableEnv(**SMALL), skip_render_check=True)


def test_rewards_of_an_episode_sum_to_minus_its_mean_completion_time():
    env = cjs.TableEnv(**SMALL, part="test")
    seen, _ = env.reset(seed=0, options={"episode": 1})
    total, done = 0.0, False
    while not done:
        assert env.observation_space.contains(seen)
        seen, reward, done, _, info = env.step(fair_action(env))
        assert "invalid" not in info
        total += reward
    assert total == pytest.approx(-info["jct_s"])
    assert info["makespan_s"] > info["jct_s"] > 0
    assert 0 < info["utilisation"] <= 1


def test_masks_mark_exactly_the_actions_that_the_simulator_takes():
    env = cjs.TableEnv(**SMALL, rows=4)
    env.reset(seed=3)
    for _ in range(20):
        masks = env.action_masks()
        before = env.simulator.decisions
        valid_row, valid_count = masks[:5], masks[5:]
        for action in np.argwhere(~valid_row[:, None] | ~valid_count[None]):
            if valid_row[action[0]] and action[0] == 4:
                continue  # whoever waits may name any number
            _, reward, _, _, info = env.step(action)
            assert (reward, env.simulator.decisions) == (-1.0, before)
            assert "invalid" in info
        _, _, done, _, info = env.step(fair_action(env))
        assert "invalid" not in info
        if done:
            break


def test_the_table_shows_the_first_stages_and_their_jobs():
    env = cjs.TableEnv(**SMALL, rows=3)
    seen, _ = env.reset(seed=3)
    full = env.simulator.observe()
    chosen = np.flatnonzero(full["schedulable"])[:3]
    wanted = np.hstack([full["stages"][chosen], full["jobs"][full["stage_job"][chosen]]])
    shown = np.sign(seen["stages"]) * np.expm1(np.abs(seen["stages"]))
    np.testing.assert_allclose(shown[: len(chosen)], wanted, rtol=1e-4, atol=1e-3)
    assert not shown[len(chosen) :].any()
    assert np.expm1(seen["cluster"][0]) == pytest.approx(full["committable"][0], rel=1e-4)


def test_the_graph_environment_is_flattened_in_little_memory():
    env = cjs.Env(setting="synthetic", num_jobs=50)
    seen, _ = env.reset(seed=1)
    flat = flatten(env.observation_space, seen)
    sizes = [value.nbytes for value in flat.values()]
    assert sum(sizes) < 2**20
    np.testing.assert_array_equal(flat["stage_job"].argmax(axis=1), seen["stage_job"])


def test_a_table_without_rows_is_refused():
    with pytest.raises(ValueError, match="`rows` must be at least 1, got 0"):
        gymnasium.make("netllm_sims:netllm/CJSTable-v0", setting="synthetic", rows=0)
