"""Tasks that share a backbone answer as they do alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
    Predictor,
    Ragged,
    Together,
    TogetherStream,
    add_lora,
    load_backbone,
)
from netllm_adapt.predictor import Batch
from netllm_adapt.segments import Segment, collate
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
        "sums": Batch({"numbers": torch.randn(5, 3)}, torch.randn(5)),
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


@torch.no_grad()
def test_streams_that_pass_together_decide_as_they_do_alone() -> None:
    names = ("fixed", "lists")
    models = {name: make(name) for name in names}
    for model in models.values():
        model.window, model.segment = 3, 30
    together = Together({name: make(name) for name in names})
    for name in names:
        together.models[name].window, together.models[name].segment = 3, 30
    episodes = {
        "fixed": [make_episode(14, seed) for seed in (1, 2)],
        "lists": [make_list_episode(14, seed) for seed in (3, 4, 5)],
    }
    alone = {
        name: DecisionStream(model, batch=len(episodes[name]), lean=False)
        for name, model in models.items()
    }
    joint = TogetherStream(together, batch={name: len(some) for name, some in episodes.items()})
    previous: dict[str, Any] = dict.fromkeys(names)
    for t in range(14):
        questions = {}
        for name, some in episodes.items():
            batch = collate(some, [Segment(k, t, t, t + 1) for k in range(len(some))])
            seen = {
                field: value if isinstance(value, Ragged) else value[:, 0]
                for field, value in batch.observations.items()
            }
            questions[name] = (seen, batch.returns[:, 0], previous[name])
        got = joint.decide(questions)
        for name, asked in questions.items():
            previous[name] = alone[name].decide(*asked)
            assert got[name].tolist() == previous[name].tolist()


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
        sum(loss.sum() for loss in together(given).values()).backward()
        grads.append({n: p.grad for n, p in together.named_parameters() if p.grad is not None})
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad, atol=1e-5, rtol=1e-4)
