"""The environments under the real Stable-Baselines3 and sb3-contrib."""

from functools import partial

import gymnasium
import netllm_sims
import numpy as np
import pytest
import sb3_contrib as contrib
import stable_baselines3 as sb3

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("netllm/ABR-v0", {}),
        ("netllm/VP-v0", {"part": "test"}),
        ("netllm/CJSTable-v0", {"num_jobs": 4, "num_executors": 5}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*We recommend you to:UserWarning")
def test_its_checker_finds_no_fault(name, arguments):
    from stable_baselines3.common.env_checker import check_env

    assert netllm_sims
    check_env(gymnasium.make(name, setting="synthetic", **arguments).unwrapped)


def fast_link(tmp_path):
    """A folder of traces of which every one bears the highest rate at all times."""
    for part in ("train", "valid", "test"):
        (tmp_path / part).mkdir()
        lines = (f"{second} {30 + len(part) * 0.01}" for second in range(400))
        (tmp_path / part / "fast").write_text("\n".join(lines))
    return tmp_path


def episode(env, choose, **options):
    """Reward of one whole episode in which `choose` answers."""
    seen, _ = env.reset(seed=1, options=options)
    total, done = 0.0, False
    while not done:
        seen, reward, done, _, info = env.step(choose(seen))
        assert "invalid" not in info
        total += float(reward)
    return total


def test_ppo_learns_that_a_fast_link_bears_high_rates(tmp_path):
    """The lowest rate all along gives 47 x 0.3 = 14; the highest 47 x 4.3 less one switch = 198."""
    from stable_baselines3.common.env_util import make_vec_env

    arguments = {"setting": "synthetic", "traces": str(fast_link(tmp_path))}
    envs = make_vec_env("netllm/ABR-v0", n_envs=4, env_kwargs=arguments)
    numbers = {"n_steps": 47, "batch_size": 94, "learning_rate": 3e-3, "gamma": 0.9, "seed": 0}
    model = sb3.PPO("MultiInputPolicy", envs, device="cpu", **numbers)
    model.learn(3760)
    env = gymnasium.make("netllm/ABR-v0", part="test", **arguments)
    assert episode(env, lambda seen: model.predict(seen, deterministic=True)[0]) > 100


def test_maskable_ppo_learns_to_share_executors_among_jobs():
    """Jobs end much sooner than under random valid actions."""
    arguments = {"num_jobs": 8, "num_executors": 10, "mean_interarrival_ms": 1000.0, "rows": 16}
    make = partial(gymnasium.make, "netllm/CJSTable-v0", setting="synthetic", **arguments)
    numbers = {"n_steps": 512, "batch_size": 128, "learning_rate": 1e-3, "seed": 0}
    model = contrib.MaskablePPO("MultiInputPolicy", make(), device="cpu", **numbers)
    model.learn(2048)
    env, rng = make(part="test"), np.random.default_rng(0)
    masks = env.unwrapped.action_masks

    def learnt(seen):
        return model.predict(seen, deterministic=True, action_masks=masks())[0]

    def random(_):
        return [rng.choice(np.flatnonzero(some)) for some in np.split(masks(), [17])]

    ours, theirs = (
        sum(episode(env, choose, episode=number) for number in range(10))
        for choose in (learnt, random)
    )
    assert ours > 0.85 * theirs  # both are negative
