import gc
import warnings
import weakref

import gymnasium
import netllm_sims
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from netllm_sims.abr import Env, Simulator, VectorEnv, setting


def make(**arguments):
    assert netllm_sims
    return gymnasium.make("netllm/ABR-v0", **({"setting": "synthetic"} | arguments))


def test_the_environment_passes_gymnasiums_checker():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make().unwrapped, skip_render_check=True)
        other = make(part="test", latency_s=0.2, delay_noise=0.1).unwrapped
        check_env(other, skip_render_check=True)


def test_an_episode_is_that_of_the_simulator():
    env = make(part="test")
    seen, info = env.reset(seed=0, options={"session": 3})
    config = setting("synthetic")
    one = config.sessions("test")[3]
    simulator = Simulator(config, [one])
    expected = simulator.reset()
    assert info == {"session": one.id}
    for step in range(47):
        for name, value in expected.items():
            np.testing.assert_array_equal(np.ravel(seen[name]), np.ravel(value[0]))
        expected, reward, _ = simulator.step(np.array([step % 6]))
        seen, got, terminated, truncated, info = env.step(step % 6)
        assert got == reward[0]
        assert terminated == (step == 46)
        assert not truncated
        assert info["bitrate_mbps"] == pytest.approx(config.rates_kbps[step % 6] / 1000)
    assert seen["chunks_left"] == 0


def test_observations_are_not_reused():
    env = make()
    first, _ = env.reset(seed=1)
    kept = {name: value.copy() for name, value in first.items()}
    env.step(5)
    for name, value in kept.items():
        np.testing.assert_array_equal(first[name], value)


def test_training_draws_sessions_by_seed():
    env = make(part="train")
    first = [env.reset(seed=3)[1]["session"], env.reset()[1]["session"]]
    assert [env.reset(seed=3)[1]["session"], env.reset()[1]["session"]] == first
    assert first[0] != first[1]


def played(env):
    """The sessions of 20 resets: trace content, start and scale."""
    env.reset(seed=3)
    sessions = []
    for _ in range(20):
        env.reset()
        inner = env.unwrapped
        playing = inner.sessions if isinstance(inner, VectorEnv) else inner._simulator.sessions
        sessions += [(one.trace.digest, one.start_s, one.scale) for one in playing]
    return sessions


@pytest.mark.parametrize("create", [make, lambda **arguments: batch(num_envs=3, **arguments)])
def test_training_alters_the_share_that_the_setting_names(create):
    known = {one.trace.digest for one in setting("synthetic").sessions("train")}
    every, some = played(create(alter=1.0)), played(create(alter=0.3))
    assert not any(digest in known for digest, _, _ in every)
    assert all(0.5 <= scale <= 1.8 and scale != 1 for _, _, scale in every)
    assert 0 < sum(digest in known for digest, _, _ in some) < len(some)
    assert played(create(alter=1.0)) == every
    assert {digest for digest, _, _ in played(create())} <= known
    tests = {one.trace.digest for one in setting("synthetic").sessions("test")}
    assert {digest for digest, _, _ in played(create(part="test", alter=1.0))} <= tests


def test_sessions_without_alteration_are_those_of_earlier_versions():
    # drawn at commit 04156cc, before environments altered any
    env = make()
    ids = [env.reset(seed=3)[1]["session"], *(env.reset()[1]["session"] for _ in range(2))]
    assert ids == ["train-1742692732", "train-1720723811", "train-713397379"]
    env = batch(scale=(0.6, 1.6))
    env.reset(seed=3)
    env.reset()
    assert [(one.trace.id, one.start_s, one.scale) for one in env.sessions] == [
        ("train-129", 187.77554286020504, 1.0),
        ("train-227", 90.94437239961326, 1.0),
        ("train-286", 222.78911893444973, 0.6014900835088361),
        ("train-023", 95.48839136540022, 1.4917110704451573),
    ]


def test_altered_traces_are_not_kept():
    env = batch(alter=1.0, chunks=3)
    env.reset()
    first = weakref.ref(env.sessions[0].trace)
    for _ in range(2):
        env.reset()
    gc.collect()
    assert first() is None


def test_a_session_number_beyond_the_part_is_refused():
    with pytest.raises(ValueError, match=r"between 0 and 99, got 100"):
        make(part="test").reset(options={"session": 100})


def test_a_ready_setting_takes_no_overrides():
    config = setting("synthetic", chunks=10)
    assert Env(setting=config).setting is config
    with pytest.raises(ValueError, match="Override when building it"):
        Env(setting=config, latency_s=1.0)


def batch(**arguments):
    return VectorEnv("synthetic", **({"num_envs": 4, "seed": 7} | arguments))


def test_the_vector_environment_is_made_by_gymnasium_too():
    env = gymnasium.make_vec("netllm/ABR-v0", num_envs=3, setting="synthetic", chunks=5)
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert env.single_observation_space["sizes_mb"].shape == (6, 6)
    seen, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen)
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP


def test_the_vector_environment_plays_its_sessions_as_the_simulator_does():
    env = batch(scale=(0.6, 1.6), scale_share=1.0)
    seen, _ = env.reset()
    simulator = Simulator(env.setting, env.sessions)
    np.testing.assert_array_equal(simulator.reset()["reward"], seen["reward"][:, 0])
    for _ in range(10):
        _, reward, _, _, infos = env.step(np.array([0, 1, 2, 3]))
        np.testing.assert_array_equal(simulator.step(np.array([0, 1, 2, 3]))[1], reward)
        np.testing.assert_array_equal(simulator.parts["rebuffer_s"], infos["rebuffer_s"])


def test_sessions_end_together_and_fresh_ones_begin_in_the_same_step():
    env = batch(chunks=5)
    env.reset()
    before = [one.trace.id for one in env.sessions]
    for _ in range(3):
        _, _, terminated, _, infos = env.step(np.zeros(4, int))
        assert not terminated.any()
        assert "final_obs" not in infos
    seen, reward, terminated, truncated, infos = env.step(np.ones(4, int))
    assert terminated.all()
    assert not truncated.any()
    assert infos["_final_obs"].all()
    np.testing.assert_array_equal(infos["final_obs"]["reward"][:, 0], reward)
    np.testing.assert_array_equal(infos["final_obs"]["chunks_left"], np.zeros((4, 1)))
    np.testing.assert_array_equal(seen["chunks_left"], np.full((4, 1), 4))
    np.testing.assert_array_equal(seen["level"], np.zeros(4))
    assert [one.trace.id for one in env.sessions] != before


def test_a_seed_fixes_all_episodes():
    def rewards(env, seed=None):
        env.reset(seed=seed)
        return np.stack([env.step(np.full(4, 2))[1] for _ in range(12)])

    first = rewards(batch(chunks=5))
    np.testing.assert_array_equal(first, rewards(batch(chunks=5)))
    env = batch(chunks=5, seed=8)
    other = rewards(env)
    assert (first != other).any()
    np.testing.assert_array_equal(rewards(env, 1), rewards(batch(chunks=5), 1))


def test_the_bandwidth_of_a_share_of_sessions_is_scaled():
    env = batch(num_envs=1000, scale=(0.6, 1.6), scale_share=0.5)
    env.reset()
    scales = np.array([one.scale for one in env.sessions])
    scaled = scales[scales != 1]
    assert len(scaled) == pytest.approx(500, abs=60)
    assert 0.6 <= scaled.min() < 0.65
    assert 1.55 < scaled.max() <= 1.6
    assert {one.scale for one in batch().sessions} == {1.0}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_envs": 0}, "`num_envs` must be at least 1"),
        ({"scale": (0.0, 1.0)}, "`scale` must be a range"),
        ({"scale": (1e-300, 1.0)}, "`scale` must be a range"),
        ({"scale": (2.0, 1.0)}, "`scale` must be a range"),
        ({"scale_share": 1.5}, "`scale_share` must lie in"),
    ],
)
def test_a_vector_environment_refuses_bad_arguments(wrong, message):
    with pytest.raises(ValueError, match=message):
        batch(**wrong)
    with pytest.raises(ValueError, match="one integer for the whole batch"):
        batch().reset(seed=[1, 2, 3, 4])
