"""The training loop: it learns, and keeps the best."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from adapt_parts import LinearEncoder, LinearHead
from hypothesis import given
from hypothesis import strategies as st
from netllm_adapt import AdaptedModel, Examples, Policy, fit, load_backbone
from netllm_adapt.batches import collate, plan
from netllm_adapt.llama.training import library_training
from netllm_adapt.training import loading
from netllm_adapt.training.order import Order
from netllm_adapt.training.processes import stream_seed
from netllm_adapt.training.run_folder import read_log
from peft import IA3Config, get_peft_model
from training_parts import EPISODES, VNNI, accuracy, make_model, recipe, weights

pytestmark = pytest.mark.usefixtures("registered_parts")


@pytest.mark.parametrize("lean", [True, False])
def test_a_head_that_says_what_it_reads_learns_the_same(lean: bool) -> None:
    results = []
    for reads in (None, 1, 2):
        model = make_model(dropout=0.0)
        model.head.reads = reads
        segments = plan([model.sizes(e) for e in EPISODES], segment=24, window=4)
        with nullcontext() if lean else library_training():
            loss = model(collate(EPISODES, segments))
            loss.sum().backward()
        grads = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        results.append({"loss": loss.detach(), **grads})
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=1e-4, atol=1e-5)


def test_training_learns_the_task(tmp_path: Path) -> None:
    model = fit(
        make_model(),
        EPISODES,
        recipe=recipe(steps=60, learning_rate=1e-2, validate_every=60),
        out=tmp_path / "run",
        validate=accuracy,
        metric="accuracy",
    )
    assert accuracy(model)["accuracy"] > 0.9
    losses = [line["loss"] for line in read_log(tmp_path / "run") if "loss" in line]
    assert losses[-1] < losses[0]


def test_what_a_run_returns_shares_the_frozen_weights_and_is_its_checkpoint(tmp_path: Path) -> None:
    model = make_model()
    best = fit(model, EPISODES, recipe=recipe(steps=2), out=tmp_path / "run")
    read = AdaptedModel.from_pretrained(tmp_path / "run" / "best")
    own = {p.data_ptr() for p in model.backbone.parameters() if not p.requires_grad}
    kept = {n: p for n, p in best.backbone.named_parameters() if "lora_" not in n}
    assert {p.data_ptr() for p in kept.values()} == own
    assert own.isdisjoint(p.data_ptr() for p in read.backbone.parameters())
    assert best.state_dict().keys() == read.state_dict().keys()
    assert all(torch.equal(value, read.state_dict()[n]) for n, value in best.state_dict().items())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # of PEFT
def test_another_kind_of_adapter_is_trained_too(tmp_path: Path) -> None:
    model = make_model()
    plain = load_backbone("tiny-random-llama", layers=1, dtype="float32")
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    config = IA3Config(target_modules=["q_proj", "down_proj"], feedforward_modules=["down_proj"])
    model.backbone = get_peft_model(plain, config)
    fit(model, EPISODES, recipe=recipe(steps=1), out=tmp_path / "run")
    assert read_log(tmp_path / "run")


def test_a_figure_that_decides_nothing_may_be_infinite(tmp_path: Path) -> None:
    def figures(model: AdaptedModel) -> dict[str, float]:
        return {"qoe": 1.0, "stalls": float("nan")}

    out, short = tmp_path / "run", recipe(steps=2)
    fit(make_model(), EPISODES, recipe=short, out=out, validate=figures, metric="qoe")
    assert {"step": 2, "qoe": 1.0} in read_log(out)


def test_the_best_validation_is_kept(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.3])
    fit(
        make_model(),
        EPISODES,
        recipe=recipe(),
        out=tmp_path,
        validate=lambda model: {"score": next(scores)},
        metric="score",
    )
    best = json.loads((tmp_path / "best" / "config.json").read_text())
    assert best["about"]["step"] == 8
    assert json.loads((tmp_path / "last" / "config.json").read_text())["about"]["step"] == 12


def test_micro_batches_leave_the_result_as_it_is(tmp_path: Path) -> None:
    trained = []
    for size in (1, 4):
        model, out = make_model(dropout=0.0), tmp_path / str(size)
        trained.append(fit(model, EPISODES, recipe=recipe(micro_batch=size), out=out))
    for one, four in zip(*(m.state_dict().values() for m in trained), strict=True):
        torch.testing.assert_close(one, four, atol=1e-4, rtol=1e-3)


def test_only_trainable_parameters_change(tmp_path: Path) -> None:
    model = make_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit(model, EPISODES, recipe=recipe(), out=tmp_path)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


def test_low_rank_matrices_at_a_rate_of_zero_add_nothing(tmp_path: Path) -> None:
    model = make_model()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    fit(model, EPISODES, recipe=recipe(lora_learning_rate=0.0), out=tmp_path)
    for name, parameter in model.named_parameters():
        learns = name.startswith(("encoder.", "head."))
        assert torch.equal(parameter, before[name]) != learns, name


def test_parts_that_no_package_brings_learn_and_come_back(tmp_path: Path) -> None:
    encoder, head = (
        type(name, (kind,), {})
        for name, kind in (("CellEncoder", LinearEncoder), ("CellHead", LinearHead))
    )
    model = make_model()
    model.encoder, model.head = encoder(64), head(64)
    best = fit(model, EPISODES, recipe=recipe(steps=2), out=tmp_path / "run")
    assert (type(best.encoder), type(best.head)) == (encoder, head)
    with pytest.raises(ValueError, match=r"from_pretrained\(FOLDER, parts=\[CellEncoder\]\)"):
        AdaptedModel.from_pretrained(tmp_path / "run" / "best")


@given(batch=st.integers(1, 20), rows=st.integers(1, 15), seed=st.integers(0, 3))
def test_every_epoch_sees_every_row_once(batch: int, rows: int, seed: int) -> None:
    order = Order(Examples({"x": np.zeros(rows)}, np.zeros(rows)), batch=batch, seed=seed)
    drawn = [row for step in range(rows) for row in order.rows(step)]
    for epoch in range(batch):
        assert sorted(drawn[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@pytest.mark.parametrize("ahead", [True, False])
def test_what_is_loaded_comes_in_order_and_errors_where_they_are(ahead: bool) -> None:
    asked = []

    def wanted() -> Iterator[int]:
        for number in range(20):
            asked.append(number)
            yield number

    def load(number: int) -> float:
        return 1 / (10 - number)

    coming = loading.loaded(load, wanted(), ahead=ahead)
    for number in range(10):
        assert next(coming) == 1 / (10 - number)
        assert len(asked) == number + 1 + loading.AHEAD * ahead
    with pytest.raises(ZeroDivisionError):
        next(coming)


def test_every_process_and_step_draws_from_a_stream_of_its_own() -> None:
    places = [(seed, step, p) for seed in range(3) for step in range(20) for p in range(4)]
    assert len({stream_seed(*place) for place in places}) == len(places)


def test_a_policy_decides_for_its_batch_and_begins_anew_at_reset(tmp_path: Path) -> None:
    policy = Policy(make_model())
    observation = {name: value[:3] for name, value in EPISODES[0].observations.items()}
    policy.reset(0)
    first = policy.act(observation)
    policy.act(observation)
    policy.reset(0)
    assert first.shape == (3,)
    assert (policy.act(observation) == first).all()


@VNNI
def test_products_in_int8_learn_and_leave_decisions_exact(tmp_path: Path) -> None:
    learned = {}
    for products in (None, "int8"):
        out = tmp_path / str(products)
        model = fit(make_model(), EPISODES, recipe=recipe(products=products, steps=40), out=out)
        learned[products] = weights(out / "best")
        losses = [line["loss"] for line in read_log(out) if "loss" in line]
        assert losses[-1] < 0.9 * losses[0]
        before = accuracy(model)
        with library_training():
            assert accuracy(model) == before
    assert learned[None] != learned["int8"]
