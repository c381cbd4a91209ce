"""Sessions that the learned rivals are trained and validated on."""

import numpy as np
import pytest
from netllm_baselines.abr.session_recipe import SessionRecipe
from netllm_baselines.abr.training_sessions import training, validation, validation_worlds
from netllm_sims.abr import Session, Setting, Simulator, setting

PLAIN = SessionRecipe(validation_sessions=40, scale_share=0.0, alter_share=0.0)


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


def draw(place: Setting, count: int, recipe: SessionRecipe, seed: int = 0) -> list[Session]:
    return training(place, count, recipe=recipe, rng=np.random.default_rng(seed))


def test_without_alterations_the_sessions_are_the_settings_own(synthetic: Setting) -> None:
    own = {session.trace.digest for session in synthetic.sessions("train")}
    drawn = draw(synthetic, 40, PLAIN)
    assert len(drawn) == 40
    assert {session.trace.digest for session in drawn} <= own
    assert all(session.scale == 1 for session in drawn)


def test_altered_traces_are_new_and_playable(synthetic: Setting) -> None:
    own = {session.trace.digest for session in synthetic.sessions("train")}
    recipe = SessionRecipe(alter_share=1.0, splice_share=0.5, scale_share=1.0)
    drawn = draw(synthetic, 200, recipe)
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
        [(s.trace.digest, s.start_s, s.scale) for s in draw(synthetic, 9, SessionRecipe(), seed)]
        for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_a_share_is_played_in_randomised_worlds_and_the_rest_altered_as_ever(
    synthetic: Setting,
) -> None:
    recipe = SessionRecipe(worlds="wide", worlds_share=0.25)
    drawn = draw(synthetic, 200, recipe)
    wide = [session for session in drawn if session.video is not None]
    assert 30 <= len(wide) <= 70
    others = [session.scale for session in drawn if session.video is None]
    assert all(scale == 1 or recipe.scale_low <= scale <= recipe.scale_high for scale in others)
    assert max(session.scale for session in wide) > recipe.scale_high


def test_worlds_to_validate_on_are_the_validation_sessions_and_always_the_same(
    synthetic: Setting,
) -> None:
    recipe = SessionRecipe(validation_sessions=6, worlds="wide")
    plain = validation(synthetic, recipe=recipe)
    one, two = (validation_worlds(synthetic, recipe=recipe) for _ in range(2))
    assert [session.id for session in one] == [session.id for session in plain]
    assert [session.video and session.video.digest for session in one] == [
        session.video and session.video.digest for session in two
    ]
    assert all(session.video is not None for session in one)


def test_only_traces_with_the_given_text_are_used(synthetic: Setting) -> None:
    name = synthetic.sessions("train")[7].trace.id
    recipe = SessionRecipe(traces=name, scale_share=0.0, alter_share=0.0)
    assert {session.trace.id for session in draw(synthetic, 500, recipe)} == {name}


def test_a_text_that_no_trace_has_is_refused(synthetic: Setting) -> None:
    with pytest.raises(ValueError, match=r"`traces` must be part of the names.*'nowhere'"):
        validation(synthetic, recipe=SessionRecipe(traces="nowhere"))
