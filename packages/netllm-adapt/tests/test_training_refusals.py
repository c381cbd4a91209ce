"""What training refuses: bad recipes, pools, parts and figures, each named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import LinearHead, make_episode
from netllm_adapt import AdaptedModel, fit
from netllm_adapt.batches import collate, plan
from training_parts import EPISODES, accuracy, make_model, recipe

pytestmark = pytest.mark.usefixtures("registered_parts")


@pytest.mark.parametrize(
    ("rate", "every", "kept", "step"), [(1e30, 2, 2, 3), (1e30, 12, None, 3), (3e38, 1, 1, 2)]
)
def test_a_training_that_diverges_fails_and_keeps_the_last_good_checkpoint(
    tmp_path: Path, rate: float, every: int, kept: int | None, step: int
) -> None:
    # The first step's rate is 0; what 1e30 did shows in gradients, what 3e38 did in losses too.
    settings = recipe(learning_rate=rate, validate_every=every, log_every=1)
    with pytest.raises(RuntimeError, match=rf"step {step} must have a finite .*`learning_rate`"):
        fit(make_model(), EPISODES, recipe=settings, out=tmp_path)
    checkpoints = {path.parent.name for path in tmp_path.rglob("config.json")}
    assert checkpoints == ({"last", "best"} if kept else set())
    for name in checkpoints:
        config = json.loads((tmp_path / name / "config.json").read_text())
        assert config["about"]["step"] == kept
    assert "NaN" not in (tmp_path / "log.jsonl").read_text()


def test_values_of_a_pool_that_are_not_finite_fail_the_first_step(tmp_path: Path) -> None:
    broken = make_episode(12, 0)
    broken.rewards = np.full(12, np.nan)
    with pytest.raises(RuntimeError, match=r"step 1 must have .* got a .* nan.* check the pool"):
        fit(make_model(), [broken], recipe=recipe(), out=tmp_path)


def test_an_empty_pool_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no episodes"):
        fit(make_model(), [], recipe=recipe(), out=tmp_path)


def test_a_recipe_of_other_kinds_of_values_names_the_field() -> None:
    wrong = {
        "steps": (1.5, "5", None, True),
        "layers": (2.0,),
        "learning_rate": ("fast", None),
        "returns": (1,),
        "dtype": ("float23", None),
        "products": ("int4", "INT8", True),
        "quantise": ("nf8",),
        "targets": ("q_proj",),
        "seed": (-1,),
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(ValueError, match=f"Recipe: `{name}` must be .*, got {value!r}"):
                recipe(**{name: value})
    assert recipe(alpha=64, layers=None, targets=["q_proj"], seed=np.int64(3)).seed == 3


def test_figures_that_cannot_choose_are_refused(tmp_path: Path) -> None:
    def nothing(model: AdaptedModel) -> dict[str, float]:
        return {"qoe": float("nan")}

    with pytest.raises(ValueError, match="`metric` must be one of accuracy, got 'acuracy'"):
        fit(
            make_model(),
            EPISODES,
            recipe=recipe(),
            out=tmp_path / "a",
            validate=accuracy,
            metric="acuracy",
        )
    with pytest.raises(ValueError, match="must give a finite qoe, got nan"):
        fit(
            make_model(),
            EPISODES,
            recipe=recipe(),
            out=tmp_path / "b",
            validate=nothing,
            metric="qoe",
        )
    with pytest.raises(ValueError, match="`metric` 'accuracy' needs `validate`"):
        fit(make_model(), EPISODES, recipe=recipe(), out=tmp_path / "c", metric="accuracy")


def test_a_head_with_the_name_of_another_is_refused_before_it_learns(tmp_path: Path) -> None:
    mine = type("linear", (LinearHead,), {})
    model = make_model()
    model.head = mine(64)
    with pytest.raises(ValueError, match=r"must not be called as an installed part"):
        fit(model, EPISODES, recipe=recipe(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_of_another_shape_is_refused() -> None:
    class Mean(LinearHead):
        def loss(self, *args: Any) -> torch.Tensor:
            return super().loss(*args).mean()

    model = make_model()
    model.head = Mean(64)
    segments = plan([model.sizes(e) for e in EPISODES], segment=24, window=4)
    with pytest.raises(ValueError, match=r"Mean\.loss must give one loss per answer, \(.*\(\)"):
        model(collate(EPISODES, segments))


def test_a_bad_recipe_names_the_field() -> None:
    with pytest.raises(ValueError, match="`lora_dropout` must be in"):
        recipe(lora_dropout=1.5)
    with pytest.raises(ValueError, match="`steps` must be at least 1, got 0"):
        recipe(steps=0)
    for name in ("learning_rate", "clip", "alpha", "weight_decay"):
        with pytest.raises(ValueError, match=f"`{name}` must be finite, got inf"):
            recipe(**{name: float("inf")})


def test_products_in_int8_are_refused_where_they_do_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`products` must be None with `quantise`, got 'int8'"):
        recipe(products="int8", quantise="nf4")
    model = make_model()
    for weight in model.backbone.parameters():
        weight.requires_grad_(True)
    with pytest.raises(ValueError, match="`products` must be None for 'tiny-random-llama'"):
        fit(model, EPISODES, recipe=recipe(products="int8"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
