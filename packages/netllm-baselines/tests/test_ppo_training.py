"""Training the PPO actor, on few synthetic sessions."""

import json
from pathlib import Path

import numpy as np
import pytest
from netllm_sims.abr import Setting, rollout, setting

torch = pytest.importorskip("torch", reason="PPO is trained with the extra `learned`")

from netllm_baselines._ppo_update import perceptron  # noqa: E402
from netllm_baselines.abr.ppo import PPO  # noqa: E402
from netllm_baselines.abr.ppo_learner import Learner  # noqa: E402
from netllm_baselines.abr.ppo_recipe import PPORecipe  # noqa: E402
from netllm_baselines.abr.ppo_training import train_ppo  # noqa: E402

SMALL = PPORecipe(hidden=48, sessions=64, minibatch=512, validate_every=4, validation_sessions=20)


class Random:
    """Uniformly random levels."""

    def reset(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def act(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        return self._rng.integers(6, size=len(observation["level"]))


@pytest.fixture(scope="module")
def synthetic() -> Setting:
    return setting("synthetic")


def test_numpy_and_torch_give_the_same_logits(synthetic: Setting) -> None:
    learner = Learner(setting=synthetic, recipe=SMALL, updates=1, seed=0)
    learner.standardise_from(synthetic.sessions("train", episodes=8))
    learner.update(synthetic.sessions("train", episodes=8))
    actor = learner.actor()
    network = perceptron(
        len(actor.mean), [48, 48], 6, gain=1.0, generator=torch.Generator().manual_seed(0)
    )
    for layer, matrix, bias in zip(network[::2], actor.matrices, actor.biases, strict=True):
        layer.load_state_dict({"weight": torch.tensor(matrix.T), "bias": torch.tensor(bias)})
    x = np.random.default_rng(0).normal(actor.mean, actor.std, (50, len(actor.mean)))
    x = x.astype(np.float32)
    standard = ((torch.tensor(x) - torch.tensor(actor.mean)) / torch.tensor(actor.std)).clamp(-5, 5)
    with torch.no_grad():
        assert np.allclose(actor.logits(x), network(standard).numpy(), atol=1e-5)


def test_a_short_training_beats_random_levels_and_repeats(
    synthetic: Setting, tmp_path: Path
) -> None:
    first, again = (
        train_ppo(synthetic, out=tmp_path / name, steps=36_000, seed=5, recipe=SMALL)
        for name in ("first.npz", "again.npz")
    )
    sessions = synthetic.sessions("valid", episodes=40, seed=9)
    trained = PPO(synthetic, weights=first)
    chance = rollout(Random(), synthetic, sessions).qoe.mean()
    assert rollout(trained, synthetic, sessions).qoe.mean() > chance + 1
    for one, two in zip(
        trained.actor.matrices, PPO(synthetic, weights=again).actor.matrices, strict=True
    ):
        assert (one == two).all()


def test_the_best_validated_actor_is_kept_and_logged(synthetic: Setting, tmp_path: Path) -> None:
    path = train_ppo(
        "synthetic", out=tmp_path / "p.npz", steps=25_000, seed=1, recipe=SMALL, command="mine"
    )
    lines = [json.loads(line) for line in path.with_suffix(".jsonl").read_text().splitlines()]
    meta = PPO(synthetic, weights=path).actor.meta
    assert [line["update"] for line in lines] == list(range(1, len(lines) + 1))
    assert meta["valid_qoe"] == max(line["valid_qoe"] for line in lines if "valid_qoe" in line)
    assert (meta["steps"], meta["seed"], meta["command"]) == (len(lines) * 64 * 47, 1, "mine")


def test_a_field_of_the_recipe_can_be_overridden(synthetic: Setting, tmp_path: Path) -> None:
    path = train_ppo(synthetic, out=tmp_path / "p.npz", steps=1, recipe=SMALL, hidden=8)
    assert PPO(synthetic, weights=path).actor.matrices[0].shape[1] == 8


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("hidden", 0, "at least 1"),
        ("discount", 1.5, r"\[0, 1\]"),
        ("rate", 0.0, "positive"),
        ("scale_low", 2.0, "at most"),
    ],
)
def test_useless_recipes_are_refused(field: str, value: float, words: str) -> None:
    with pytest.raises(ValueError, match=rf"{field}.*{words}"):
        PPORecipe(**{field: value})
