"""Training the PPO actor in randomised worlds, on few synthetic sessions."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from netllm_sims.abr import Setting, rollout, setting

torch = pytest.importorskip("torch", reason="PPO is trained with the extra `learned`")

from netllm_baselines._ppo_update import scaled  # noqa: E402
from netllm_baselines._recipes_and_best_weights import few_threads, keep_best  # noqa: E402
from netllm_baselines.abr.ppo import PPO  # noqa: E402
from netllm_baselines.abr.ppo_imitation import imitate  # noqa: E402
from netllm_baselines.abr.ppo_learner import Learner  # noqa: E402
from netllm_baselines.abr.ppo_top_rule import TopRule  # noqa: E402
from netllm_baselines.abr.ppo_wide_recipe import PPOWideRecipe  # noqa: E402
from netllm_baselines.abr.ppo_wide_training import Run, train_ppo_wide  # noqa: E402
from netllm_baselines.abr.training_sessions import validation, validation_worlds  # noqa: E402

SMALL = PPOWideRecipe(
    hidden=24,
    sessions=24,
    rounds=2,
    round_sessions=24,
    critic_first=1,
    validate_every=2,
    validation_sessions=8,
)
STEPS = 7 * 24 * 47


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


def logged(weights: Path) -> list[dict[str, float]]:
    lines = weights.with_suffix(".jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def test_a_stopped_training_goes_on_to_the_same_weights(synthetic: Setting, tmp_path: Path) -> None:
    whole = train_ppo_wide(synthetic, out=tmp_path / "a.npz", steps=STEPS, seed=3, recipe=SMALL)
    for stop in (3, 5):  # in the first stage, and in the second; between two validations
        with few_threads(1):
            part = Run(synthetic, SMALL, steps=STEPS, seed=3, out=tmp_path / "b.npz", command="")
            keep_best(islice(part.updates(), stop - part.done), part.out, lines=part.done)
    again = train_ppo_wide(synthetic, out=tmp_path / "b.npz", steps=STEPS, seed=3, recipe=SMALL)
    assert [line["update"] for line in logged(again)] == [1, 2, 3, 4, 5, 6, 7]
    assert logged(again) == logged(whole)
    one, two = (PPO(synthetic, weights=path).actor for path in (whole, again))
    assert all((a == b).all() for a, b in zip(one.matrices, two.matrices, strict=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.jsonl",
        "a.npz",
        "b.jsonl",
        "b.npz",
    ]


def test_the_state_of_another_training_is_refused(synthetic: Setting, tmp_path: Path) -> None:
    part = Run(synthetic, SMALL, steps=STEPS, seed=3, out=tmp_path / "a.npz", command="")
    keep_best(islice(part.updates(), 3), part.out)
    with pytest.raises(ValueError, match=r"a\.state\.npz: .*with other numbers"):
        train_ppo_wide(synthetic, out=tmp_path / "a.npz", steps=STEPS, seed=4, recipe=SMALL)


def test_the_file_remembers_both_validations_of_the_best_update(
    synthetic: Setting, tmp_path: Path
) -> None:
    path = train_ppo_wide(
        "synthetic", out=tmp_path / "p.npz", steps=STEPS, recipe=SMALL, command="mine"
    )
    actor = PPO(synthetic, weights=path).actor
    (best,) = [line for line in logged(path) if line["update"] == actor.meta["update"]]
    assert best["valid_qoe"] == max(line.get("valid_qoe", -np.inf) for line in logged(path))
    assert actor.meta["valid_qoe"] == (best["valid_plain"] + best["valid_wide"]) / 2
    assert (actor.meta["steps"], actor.meta["command"]) == (STEPS, "mine")
    recipe = SMALL.stages()[0]
    for name, draw in (("valid_plain", validation), ("valid_wide", validation_worlds)):
        sessions = draw(synthetic, recipe=recipe)
        again = rollout(PPO(synthetic, weights=actor), synthetic, sessions).qoe.mean()
        assert again == pytest.approx(best[name], abs=1e-6)


def test_an_actor_that_imitated_is_nearer_to_the_teacher_than_random_levels(
    synthetic: Setting,
) -> None:
    teacher = TopRule(synthetic)
    actor = imitate(teacher, synthetic, recipe=replace(SMALL, round_passes=20), seed=0)
    sessions = synthetic.sessions("valid", episodes=10)
    played = rollout(PPO(synthetic, weights=actor), synthetic, sessions, label=teacher)
    assert (played.actions == played.labels).mean() > 0.4


def test_a_learner_whose_critic_learns_first_keeps_its_actor(synthetic: Setting) -> None:
    recipe = replace(SMALL.stages()[0], minibatch=256)
    learner = Learner(setting=synthetic, recipe=recipe, updates=3, seed=0)
    sessions = synthetic.sessions("train", episodes=8)
    learner.standardise_from(sessions)
    states = []
    for _ in range(3):
        states.append(learner.state())
        learner.update(sessions)
    name = "actor.0.weight", "critic.0.weight"
    assert [(states[0][key] == states[1][key]).all() for key in name] == [True, False]
    assert [(states[1][key] == states[2][key]).all() for key in name] == [False, False]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("rounds", 0, "at least 1"),
        ("first_share", 1.0, r"\[0, 1\)"),
        ("then_rate", 0.0, "positive"),
    ],
)
def test_useless_recipes_are_refused(field: str, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=rf"{field}.*{words}"):
        PPOWideRecipe(**{field: value})


def test_balance_lifts_the_advantages_of_sessions_where_little_is_at_stake() -> None:
    drawn = torch.tensor(np.random.default_rng(0).normal(size=(40, 2)) * [1.0, 16.0])
    shares = []
    for balance in (0.0, 0.5, 1.0):
        advantage = scaled(drawn, balance)
        assert float(advantage.std()) == pytest.approx(1.0, abs=1e-3)
        shares.append(float(advantage[:, 1].std() / advantage[:, 0].std()))
    assert shares == pytest.approx([16.0, 4.0, 1.0], rel=0.3)
