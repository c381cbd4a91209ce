"""Tasks that share a backbone answer as they do alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import (
    LinearEncoder,
    LinearHead,
    ListEncoder,
    PickHead,
    SumEncoder,
    SumHead,
    make_episode,
    make_list_episode,
)
from netllm_adapt import (
    AdaptedModel,
    BackboneSpec,
    DecisionStream,
    Forecast,
    Predictor,
    Ragged,
    Together,
    TogetherStream,
    add_lora,
    load_backbone,
)
from netllm_adapt.batches import ExampleBatch, Segment, collate
from torch import nn

SPEC = BackboneSpec("tiny-random-llama", dtype="float32", seed=1)
PARTS = {
    "fixed": (AdaptedModel, LinearEncoder, LinearHead, 4),
    "lists": (AdaptedModel, ListEncoder, PickHead, 2),
    "sums": (Predictor, SumEncoder, SumHead, 8),
}


def make(name: str, spec: BackboneSpec = SPEC) -> Any:
    kind, encoder, head, rank = PARTS[name]
    plain = load_backbone(spec.name, dtype=spec.dtype, seed=spec.seed)
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        backbone = add_lora(plain, rank=rank, targets="all-linear" if name == "sums" else None)
        for parameter_name, parameter in backbone.named_parameters():
            if "lora_" in parameter_name:
                nn.init.normal_(parameter, std=0.1)
        width = plain.config.hidden_size
        return kind(backbone=backbone, encoder=encoder(width), head=head(width), spec=spec).eval()


def batches() -> dict[str, Any]:
    fixed = [make_episode(n, n) for n in (9, 5)]
    lists = [make_list_episode(n, n) for n in (4, 7, 6)]
    return {
        "fixed": collate(fixed, [Segment(k, 0, 0, len(e.actions)) for k, e in enumerate(fixed)]),
        "lists": collate(lists, [Segment(k, 0, 0, len(e.actions)) for k, e in enumerate(lists)]),
        "sums": ExampleBatch({"numbers": torch.randn(5, 3)}, torch.randn(5)),
    }


def test_losses_and_gradients_of_a_mixed_batch_are_those_of_each_task_alone() -> None:
    given = batches()
    alone = {name: make(name) for name in PARTS}
    wanted = {name: model(given[name]) for name, model in alone.items()}
    for loss in wanted.values():
        loss.sum().backward()
    together = Together({name: make(name) for name in PARTS})
    got = together(given)
    sum(loss.sum() for loss in got.values()).backward()
    for name, model in alone.items():
        torch.testing.assert_close(got[name], wanted[name], atol=1e-5, rtol=1e-5)
        for part in ("encoder", "head"):
            ours, theirs = getattr(together.models[name], part), getattr(model, part)
            for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
                torch.testing.assert_close(one.grad, other.grad, atol=1e-5, rtol=1e-4)
    shared = dict(together.backbone.named_parameters())
    for name, model in alone.items():
        adapter = "default" if name == "fixed" else name
        own = {n: p for n, p in model.backbone.named_parameters() if "lora_" in n}
        assert own
        for parameter_name, parameter in own.items():
            twin = shared[parameter_name.replace(".default.", f".{adapter}.")]
            torch.testing.assert_close(twin.grad, parameter.grad, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_any_of_the_tasks_may_be_absent_from_a_batch() -> None:
    given = batches()
    together = Together({name: make(name) for name in PARTS})
    whole = together(given)
    for name in PARTS:
        torch.testing.assert_close(
            together({name: given[name]})[name], whole[name], atol=1e-5, rtol=1e-5
        )


def test_models_of_different_backbones_are_refused() -> None:
    other = BackboneSpec("tiny-random-llama", dtype="float32", seed=2)
    with pytest.raises(ValueError, match=r"'fixed' was adapted from .* and 'lists' from .*seed=2"):
        Together({"fixed": make("fixed"), "lists": make("lists", other)})


def test_nothing_to_share_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one adapted model"):
        Together({})


def stepwise() -> tuple[dict[str, Any], Together]:
    """The models that decide step after step, alone and together, with short windows."""
    models, together = ({name: make(name) for name in ("fixed", "lists")} for _ in range(2))
    for model in (*models.values(), *together.values()):
        model.window, model.segment = 3, 30
    return models, Together({**together, "sums": make("sums")})


EPISODES = {
    "fixed": [make_episode(14, seed) for seed in (1, 2)],
    "lists": [make_list_episode(14, seed) for seed in (3, 4, 5)],
}


def question(some: list[Any], t: int, previous: Any) -> tuple[Any, ...]:
    batch = collate(some, [Segment(k, t, t, t + 1) for k in range(len(some))])
    seen = {
        field: value if isinstance(value, Ragged) else value[:, 0]
        for field, value in batch.observations.items()
    }
    return seen, batch.returns[:, 0], previous


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_streams_that_pass_together_decide_as_they_do_alone(attention: str) -> None:
    models, together = stepwise()
    together.backbone.get_base_model().set_attn_implementation(attention)
    episodes = dict(EPISODES)
    numbers = torch.randn(4, 3)
    summed = Forecast(make("sums"), lean=False).act({"numbers": numbers.numpy()})
    alone = {
        name: DecisionStream(model, batch=len(episodes[name]), lean=False)
        for name, model in models.items()
    }
    counts = {name: len(some) for name, some in episodes.items()}
    joint = TogetherStream(together, batch=counts)
    previous: dict[str, Any] = dict.fromkeys(episodes)
    for t in range(14):
        if t == 6:  # one episode of three ends
            left = torch.tensor([0, 2])
            joint.keep("lists", left)
            alone["lists"].keep(left)
            episodes["lists"] = [episodes["lists"][row] for row in left.tolist()]
            previous["lists"] = previous["lists"][left]
        questions = {name: question(some, t, previous[name]) for name, some in episodes.items()}
        asked = {**questions, "sums": ({"numbers": numbers},)} if t % 2 else questions
        got = joint.decide(asked)
        for name, own in questions.items():
            previous[name] = alone[name].decide(*own)
            assert got[name].tolist() == previous[name].tolist()
        if t % 2:
            assert got["sums"].tolist() == pytest.approx(summed.tolist(), abs=1e-5)


@torch.no_grad()
def test_a_predictor_alone_may_be_asked_of_any_number_of_observations() -> None:
    numbers = torch.randn(4, 3)
    summed = Forecast(make("sums"), lean=False).act({"numbers": numbers.numpy()})
    joint = TogetherStream(Together({"sums": make("sums")}), batch={})
    assert joint.decide({"sums": ({"numbers": numbers},)})["sums"].tolist() == pytest.approx(
        summed.tolist(), abs=1e-5
    )
    assert joint.decide({"sums": ({"numbers": numbers[:3]},)})["sums"].tolist() == pytest.approx(
        summed[:3].tolist(), abs=1e-5
    )
    with pytest.raises(ValueError, match=r"`batch` must name .* got \['sums'\]"):
        TogetherStream(Together({"sums": make("sums")}), batch={"sums": 4})


class DrawingHead(LinearHead):
    """Samples where it is not to be greedy."""

    def answer(
        self, hidden: Any, observation: Any, *, greedy: bool = True, generator: Any = None
    ) -> torch.Tensor:
        if greedy:
            return super().answer(hidden, observation)
        odds = self.logits(hidden).softmax(-1)
        return torch.multinomial(odds[:, 0], 1, generator=generator)


def test_answers_that_pass_together_may_be_sampled() -> None:
    model = make("fixed")
    model.head = DrawingHead(model.head.width)
    asked = question(EPISODES["fixed"], 0, None)
    alone, joint = (torch.Generator().manual_seed(4) for _ in range(2))
    for _ in range(5):
        wanted = DecisionStream(model, batch=2).decide(*asked, greedy=False, generator=alone)
        stream = TogetherStream(Together({"fixed": model}), batch={"fixed": 2})
        got = stream.decide({"fixed": asked}, greedy=False, generator=joint)["fixed"]
        assert got.tolist() == wanted.tolist()


def test_a_question_longer_than_the_learned_positions_is_refused() -> None:
    spec = BackboneSpec("tiny-random-gpt2", dtype="float32")
    stream = TogetherStream(Together({"sums": make("sums", spec)}), batch={})
    with pytest.raises(ValueError, match=r"learned 1024 positions, .* needs 1501"):
        stream.decide({"sums": ({"numbers": torch.ones(1, 1500)},)})


def test_names_of_no_model_are_refused() -> None:
    together = Together({"fixed": make("fixed")})
    with pytest.raises(ValueError, match=r"`batch` .* one of \['fixed'\], .* got \['vp'\]"):
        TogetherStream(together, batch={"vp": 1})
    stream = TogetherStream(together, batch={"fixed": 1})
    with pytest.raises(ValueError, match="`questions` must name at least one"):
        stream.decide({})
    with pytest.raises(ValueError, match=r"`name` .* got \['vp'\]"):
        stream.keep("vp", torch.tensor([0]))
    with pytest.raises(ValueError, match="`batches` must name at least one"):
        together({})


@torch.no_grad()
@pytest.mark.usefixtures("registered_parts")
@pytest.mark.parametrize("name", PARTS)
def test_each_member_is_saved_with_its_own_adapter(name: str, tmp_path: Path) -> None:
    given, alone = batches()[name], make(name)
    together = Together({name: make(name) for name in PARTS})
    folder = together.models[name].save_pretrained(tmp_path / name)
    again = type(alone).from_pretrained(folder)
    assert list(again.backbone.peft_config) == ["default"]
    assert [path for path in folder.iterdir() if path.is_dir()] == []
    torch.testing.assert_close(again(given), alone(given), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", PARTS)
def test_a_member_that_is_asked_directly_uses_its_own_adapter(name: str) -> None:
    given, alone = batches()[name], make(name)
    member = Together({name: make(name) for name in PARTS}).models[name]
    wanted, got = alone(given), member(given)
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    wanted.sum().backward()
    got.sum().backward()
    own, shared = (
        {n: p.grad for n, p in model.backbone.named_parameters() if p.grad is not None}
        for model in (alone, member)
    )
    adapter = "default" if name == "fixed" else name
    assert {n.replace(".default.", f".{adapter}."): 0 for n in own}.keys() == shared.keys()
    for parameter_name, grad in own.items():
        twin = shared[parameter_name.replace(".default.", f".{adapter}.")]
        torch.testing.assert_close(twin, grad, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_members_own_stream_and_forecast_use_its_own_adapter() -> None:
    given, numbers = question(EPISODES["lists"], 0, None), np.ones((4, 3), np.float32)
    before = Forecast(make("sums"))
    members = Together({name: make(name) for name in PARTS}).models
    wanted = DecisionStream(make("lists"), batch=3).hidden(*given).values
    got = DecisionStream(members["lists"], batch=3).hidden(*given).values
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    answer = before.act({"numbers": numbers})
    assert Forecast(members["sums"]).act({"numbers": numbers}) == pytest.approx(answer, abs=1e-5)
    with pytest.raises(ValueError, match=r"`lean` must be None or False .* mix `adapters`"):
        DecisionStream(members["lists"], batch=3, lean=True)


@torch.no_grad()
def test_a_forecast_made_before_its_model_joined_others_goes_on() -> None:
    numbers = {"numbers": np.ones((4, 3), np.float32)}
    for lean in (None, False):
        model = make("sums")
        forecast = Forecast(model, lean=lean)
        answer = forecast.act(numbers)
        Together({"fixed": make("fixed"), "sums": model})
        assert forecast.act(numbers) == pytest.approx(answer, abs=1e-5)


def test_members_of_a_whole_can_be_joined_anew() -> None:
    given = batches()
    first = Together({name: make(name) for name in PARTS})
    with torch.no_grad():
        wanted = first({"lists": given["lists"]})["lists"]
        again = Together({"fixed": make("fixed"), "others": first.models["lists"]})
        got = again({"fixed": given["fixed"], "others": given["lists"]})["others"]
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
@pytest.mark.parametrize(
    ("kind", "reentrant"), [("llama", True), ("llama", False), ("gpt2", True), ("opt", False)]
)
def test_gradient_checkpointing_changes_no_gradient(kind: str, reentrant: bool) -> None:
    given, grads = batches(), []
    spec = BackboneSpec(f"tiny-random-{kind}", dtype="float32", seed=1)
    for saves in (False, True):
        together = Together({name: make(name, spec) for name in PARTS}).train()
        if saves:
            plain = together.backbone.get_base_model()
            plain.gradient_checkpointing_enable({"use_reentrant": reentrant})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)  # the backbone's own dropout
            sum(loss.sum() for loss in together(given).values()).backward()
        grads.append({n: p.grad for n, p in together.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-5, rtol=1e-4)
