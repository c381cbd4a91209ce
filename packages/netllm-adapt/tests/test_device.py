"""Models, streams and training stay on the device that was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
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
    Adapted,
    AdaptedModel,
    BackboneSpec,
    Episode,
    Examples,
    Forecast,
    Policy,
    Predictor,
    Ragged,
    Recipe,
    add_lora,
    fit,
    load_backbone,
)
from netllm_adapt.device import DEVICES, resolve_device

NUMBERS = {"numbers": np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)}


def make(architecture: str, encoder: Any, head: Any, kind: Any = AdaptedModel) -> Any:
    spec = BackboneSpec(f"tiny-random-{architecture}", layers=2, dtype="float32")
    backbone = add_lora(load_backbone(spec.name, layers=2, dtype=spec.dtype), rank=2)
    options = {"window": 3, "segment": 24} if kind is AdaptedModel else {}
    return kind(backbone=backbone, encoder=encoder(64), head=head(64), spec=spec, **options)


def steps(episodes: Sequence[Episode]) -> Iterator[dict[str, Any]]:
    """What each step of episodes of one length shows; the second episode ends halfway."""
    length = len(episodes[0].rewards)
    for i in range(length):
        going = range(len(episodes)) if i < length // 2 else [0]
        shown: dict[str, Any] = {"episode": np.array(going)}
        for name in episodes[0].observations:
            fields = [episodes[e].observations[name] for e in going]
            if isinstance(fields[0], Ragged):
                values = [field.values[field.ptr[i] : field.ptr[i + 1]] for field in fields]
                ptr = np.cumsum([0, *map(len, values)])
                shown[name] = Ragged(np.concatenate(values), ptr)
            else:
                shown[name] = np.stack([field[i] for field in fields])
        yield shown


def test_auto_is_a_device_that_torch_sees() -> None:
    assert torch.ones(2, device=resolve_device("auto")).sum() == 2
    assert resolve_device(torch.device("cpu")) == resolve_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda0", "meta", "", "CPU"])
def test_other_names_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match=f"`device` must be {', '.join(DEVICES)}.* got '{name}'"):
        resolve_device(name)


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("cuda", torch.cuda.is_available()),
        ("cuda:99", False),
        ("mps", torch.backends.mps.is_available()),
    ],
)
def test_a_device_that_is_not_here_is_refused(name: str, there: bool, tmp_path: Path) -> None:
    if there:
        pytest.skip(f"{name} is here")
    with pytest.raises(ValueError, match=rf"{name} was asked for, but .+ Ask for cpu"):
        resolve_device(name)
    with pytest.raises(ValueError, match=f"{name} was asked for"):  # before a file is read
        Adapted.from_pretrained(tmp_path, device=name)


def test_a_run_on_a_device_that_is_not_here_leaves_no_folder(
    registered_parts: None, tmp_path: Path
) -> None:
    model = make("llama", LinearEncoder, LinearHead)
    with pytest.raises(ValueError, match="cuda:99 was asked for"):
        fit(model, [make_episode(4, 0)], recipe=Recipe(), out=tmp_path / "run", device="cuda:99")
    assert not (tmp_path / "run").exists()


# Under `torch.device("meta")` what is made without saying where lies on `meta`, where no tensor of
# the CPU may meet it: so a model that stays on its own device answers and learns as ever.

PARTS = {
    "fixed": (LinearEncoder, LinearHead, make_episode),
    "ragged": (ListEncoder, PickHead, partial(make_list_episode, longest=3)),
}


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("form", PARTS)
def test_learning_makes_no_tensor_on_the_default_device(form: str, architecture: str) -> None:
    encoder, head, episode = PARTS[form]
    model = make(architecture, encoder, head)

    def gradients() -> list[torch.Tensor]:
        rows = model.rows([episode(9, seed) for seed in range(3)])
        model.zero_grad()
        model(rows.batch(range(len(rows))).to(model.device)).sum().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    usual = gradients()
    with torch.device("meta"):
        away = gradients()
    for mine, theirs in zip(away, usual, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("form", PARTS)
def test_deciding_makes_no_tensor_on_the_default_device(form: str, architecture: str) -> None:
    encoder, head, episode = PARTS[form]
    policy = Policy(make(architecture, encoder, head))
    episodes = [episode(12, seed) for seed in range(2)]

    def actions() -> list[list[int]]:
        policy.reset(0)
        answers = []
        for observation in steps(episodes):
            answers.append(policy.act(observation).tolist())
            policy.took(np.zeros(len(answers[-1]), np.int64))
        return answers

    usual = actions()
    with torch.device("meta"):
        assert actions() == usual


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_predicting_makes_no_tensor_on_the_default_device(architecture: str) -> None:
    model = make(architecture, SumEncoder, SumHead, Predictor)
    policy = Forecast(model)
    usual = policy.act(NUMBERS)
    examples = Examples(NUMBERS, NUMBERS["numbers"].sum(1))
    with torch.device("meta"):
        np.testing.assert_array_equal(policy.act(NUMBERS), usual)
        loss = model(examples.batch(range(5)).to(model.device)).sum()
    assert loss.device == torch.device("cpu")
