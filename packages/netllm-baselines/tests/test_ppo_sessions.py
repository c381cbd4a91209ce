"""Sessions that PPO is trained and validated on."""

import numpy as np
import pytest
from netllm_baselines.abr.ppo_recipe import PPORecipe
from netllm_baselines.abr.ppo_sessions import training, validation
from netllm_sims.abr import Session, Setting, Simulator, setting

PLAIN = PPORecipe(sessions=40, validation_sessions=40, scale_share=0.0, alter_share=0.0)


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


def draw(place: Setting, recipe: PPORecipe, seed: int = 0) -> list[Session]:
    return training(place, recipe=recipe, rng=np.random.default_rng(seed))


def test_without_alterations_the_sessions_are_the_settings_own(synthetic: Setting) -> None:
    own = {session.trace.digest for session in synthetic.sessions("train")}
    drawn = draw(synthetic, PLAIN)
    assert len(drawn) == 40
    assert {session.trace.digest for session in drawn} <= own
    assert all(session.scale == 1 for session in drawn)


def test_altered_traces_are_new_and_playable(synthetic: Setting) -> None:
    own = {session.trace.digest for session in synthetic.sessions("train")}
    recipe = PPORecipe(sessions=200, alter_share=1.0, splice_share=0.5, scale_share=1.0)
    drawn = draw(synthetic, recipe)
    assert not {session.trace.digest for session in drawn} & own
    scales = np.array([session.scale for session in drawn])
    assert recipe.scale_low <= scales.min() < 0.7
    assert 1.5 < scales.max() <= recipe.scale_high
    simulator = Simulator(synthetic, drawn)
    simulator.reset()
    for _ in range(synthetic.chunks - 1):
        observation, reward, _ = simulator.step(np.zeros(200, dtype=np.int64))
    assert np.isfinite(reward).all()
    assert (observation["throughput_mbps"] > 0).all()


def test_the_same_seed_draws_the_same_sessions(synthetic: Setting) -> None:
    first, again, other = (
        [(s.trace.digest, s.start_s, s.scale) for s in draw(synthetic, PPORecipe(sessions=9), seed)]
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_only_traces_with_the_given_text_are_used(synthetic: Setting) -> None:
    name = synthetic.sessions("train")[7].trace.id
    recipe = PPORecipe(sessions=500, traces=name, scale_share=0.0, alter_share=0.0)
    assert {session.trace.id for session in draw(synthetic, recipe)} == {name}


def test_a_text_that_no_trace_has_is_refused(synthetic: Setting) -> None:
    with pytest.raises(ValueError, match=r"`traces` must be part of the names.*'nowhere'"):
        validation(synthetic, recipe=PPORecipe(traces="nowhere"))
