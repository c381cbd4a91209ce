"""Steps that differ in their number of tokens are learned and streamed like any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import ListEncoder, PickHead, add_random_lora, make_list_episode
from netllm_adapt import (
    AdaptedModel,
    BackboneSpec,
    DecisionStream,
    Policy,
    Pool,
    PoolWriter,
    Ragged,
    Recipe,
    fit,
    load_backbone,
)
from netllm_adapt.backbone import embedding_width
from netllm_adapt.batches import Layout, Segment, collate, plan, select, stack
from torch import Tensor

ARCHITECTURES = ("llama", "gpt2", "opt", "gemma3", "mistral")
WINDOW = 4
LENGTH = 26


def make_model(architecture: str = "llama") -> AdaptedModel:
    spec = BackboneSpec(f"tiny-random-{architecture}", dtype="float32", seed=1)
    plain = load_backbone(spec.name, dtype=spec.dtype, seed=spec.seed)
    width = embedding_width(plain)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = add_random_lora(plain, std=0.1)
        return AdaptedModel(
            backbone=backbone,
            encoder=ListEncoder(width),
            head=PickHead(width),
            spec=spec,
            window=WINDOW,
            segment=40,
        ).eval()


def full_scores(model: AdaptedModel, episode: Any) -> list[Tensor]:
    scores = []
    for s in plan([model.sizes(episode)], segment=model.segment, window=model.window):
        hidden = model.hidden(collate([episode], [s]))
        scores += model.head.scores(hidden)[s.start - s.context :]
    return scores


def streamed_scores(model: AdaptedModel, episodes: list[Any], lean: bool | None) -> list[Any]:
    stream = DecisionStream(model, batch=len(episodes), lean=lean)
    left = list(range(len(episodes)))
    scores: list[Any] = [[] for _ in episodes]
    for t in range(max(len(e.actions) for e in episodes)):
        going = [k for k in left if t < len(episodes[k].actions)]
        if going != left:
            stream.keep(torch.tensor([left.index(k) for k in going]))
            left = going
        whole = [Segment(k, t, t, t + 1) for k in left]
        batch = collate(episodes, whole)
        previous = [episodes[k].actions[t - 1] for k in left] if t else None
        seen = {
            name: field if isinstance(field, Ragged) else field[:, 0]
            for name, field in batch.observations.items()
        }
        action = None if previous is None else torch.tensor(previous)
        hidden = stream.hidden(seen, batch.returns[:, 0], action)
        for k, score in zip(left, model.head.scores(hidden), strict=True):
            scores[k].append(score)
    return scores


@pytest.mark.parametrize("lean", [None, False], ids=["lean-if-covered", "library"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_streams_equal_the_full_pass_while_episodes_end_one_by_one(
    architecture: str, lean: bool | None
) -> None:
    model = make_model(architecture)
    lengths = (LENGTH, 9, LENGTH - 5)
    episodes = [make_list_episode(n, seed) for seed, n in enumerate(lengths)]
    assert len(plan([model.sizes(episodes[0])], segment=40, window=WINDOW)) > 3
    got = streamed_scores(model, episodes, lean)
    for episode, scores in zip(episodes, got, strict=True):
        wanted = full_scores(model, episode)
        assert len(scores) == len(wanted)
        torch.testing.assert_close(torch.cat(scores), torch.cat(wanted), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_a_step_longer_than_a_segment_is_learned_and_streamed_alone() -> None:
    model = make_model()
    episode = make_list_episode(8, 5, longest=70)
    sizes = model.sizes(episode)
    assert max(sizes) > model.segment
    (got,) = streamed_scores(model, [episode], None)
    torch.testing.assert_close(
        torch.cat(got), torch.cat(full_scores(model, episode)), atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_rows_of_a_batch_do_not_depend_on_one_another() -> None:
    model = make_model()
    episodes = [make_list_episode(n, n) for n in (7, 3, 5)]
    together = collate(episodes, [Segment(k, 0, 0, len(e.actions)) for k, e in enumerate(episodes)])
    losses = model(together)
    assert losses.shape == (3, 7)
    for k, episode in enumerate(episodes):
        n = len(episode.actions)
        alone = model(collate([episode], [Segment(0, 0, 0, n)]))
        torch.testing.assert_close(losses[k, :n], alone[0], atol=1e-5, rtol=1e-5)
        assert not losses[k, n:].any()


def test_a_layout_puts_every_token_in_its_place() -> None:
    # Two rows: steps of 2 and 1 tokens; a step of 3 and padding.
    layout = Layout(torch.tensor([0, 2, 3, 6, 6]), batch=2)
    observed = torch.arange(1.0, 7.0)[:, None]
    acted = torch.tensor([[-1.0, -2.0], [-3.0, -9.0]])[..., None, None]
    rows = layout.join(observed, acted)[..., 0]
    assert rows.tolist() == [[1, 2, -1, 3, -2], [4, 5, 6, -3, 0]]
    assert layout.step.tolist() == [[0, 0, 0, 1, 1], [0, 0, 0, 0, -1]]
    assert layout.observed_of(rows[..., None])[:, 0].tolist() == observed[:, 0].tolist()


def test_ragged_fields_are_cut_stacked_and_selected() -> None:
    field = Ragged(np.arange(6), np.array([0, 2, 2, 5, 6]))
    assert field.steps(1, 3).values.tolist() == [2, 3, 4]
    assert field.steps(1, 3).ptr.tolist() == [0, 0, 3]
    values, ptr = stack([field.steps(2, 4), field.steps(0, 1)], 2)
    assert values.tolist() == [2, 3, 4, 5, 0, 1]
    assert ptr.tolist() == [0, 3, 4, 6, 6]
    chosen = select({"x": Ragged(values, ptr)}, torch.tensor([2, 0]))["x"]
    assert chosen[0].tolist() == [0, 1, 2, 3, 4]
    assert chosen[1].tolist() == [0, 2, 5]


def test_a_pool_gives_ragged_fields_back(tmp_path: Path) -> None:
    episodes = [make_list_episode(n, n) for n in (3, 5, 1)]
    about = {"task": "lists", "setting": "default", "provenance": {}}
    with PoolWriter(tmp_path / "pool", **about, shard_episodes=2) as writer:
        for episode in episodes:
            writer.add(episode)
    pool = Pool(tmp_path / "pool")
    assert str(pool.fields["numbers"]) == "float32[step, any]"
    for got, wanted in zip(pool, episodes, strict=True):
        for part, own in zip(
            got.observations["numbers"], wanted.observations["numbers"], strict=True
        ):
            np.testing.assert_array_equal(part, own)
    last = pool[2].observations["numbers"]
    np.testing.assert_array_equal(last.values, episodes[2].observations["numbers"].values)


def test_a_pool_refuses_ragged_rows_that_do_not_fit(tmp_path: Path) -> None:
    episode = make_list_episode(3, 0)
    values, ptr = episode.observations["numbers"]
    episode.observations["numbers"] = Ragged(values, ptr[:-1])
    with (
        pytest.raises(
            ValueError, match=r"'observation\.numbers' must have one entry per reward, 3"
        ),
        PoolWriter(tmp_path / "pool", task="lists", setting="default", provenance={}) as writer,
    ):
        writer.add(episode)


@pytest.mark.usefixtures("registered_parts")
def test_a_fitted_policy_picks_the_largest(tmp_path: Path) -> None:
    episodes = [make_list_episode(30, seed) for seed in range(24)]
    recipe = Recipe(steps=60, batch=8, micro_batch=8, warmup=5, learning_rate=1e-2)
    model = fit(make_model(), episodes, recipe=recipe, out=tmp_path / "run")
    policy = Policy(model, target_return=20.0)
    fresh = [make_list_episode(20, 100 + seed) for seed in range(4)]
    right = 0
    for t in range(20):
        left = fresh if t < 10 else fresh[:2]
        batch = collate(left, [Segment(k, t, t, t + 1) for k in range(len(left))])
        observation = {
            "numbers": Ragged(*(part.numpy() for part in batch.observations["numbers"])),
            "reward": batch.observations["reward"][:, 0].numpy(),
            "episode": np.arange(len(left)),
        }
        right += int((policy.act(observation) == batch.labels[:, 0].numpy()).sum())
    assert right > 0.9 * 60


def long_question(numbers: int) -> tuple[Any, Tensor]:
    """One step with so many numbers: the observation and its return-to-go."""
    values = torch.linspace(-1, 1, numbers)
    seen = {"numbers": Ragged(values, torch.tensor([0, numbers])), "reward": torch.ones(1)}
    return seen, torch.ones(1)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["gpt2", "opt"])
def test_a_row_longer_than_the_learned_positions_is_refused_with_both_numbers(
    architecture: str,
) -> None:
    model = make_model(architecture)
    for numbers, fits in ((1021, True), (1022, False)):
        episode = make_list_episode(1, 0)
        episode.observations["numbers"] = Ragged(
            np.linspace(-1, 1, numbers, dtype=np.float32), np.array([0, numbers])
        )
        batch = collate([episode], [Segment(0, 0, 0, 1)])  # with return, learned token and action
        if fits:
            assert model(batch).isfinite().all()
        else:
            with pytest.raises(ValueError, match=r"learned 1024 positions, .* needs 1025"):
                model(batch)
    for numbers, fits in ((1022, True), (1023, False)):
        stream = DecisionStream(model, batch=1)
        if fits:
            assert 0 <= stream.decide(*long_question(numbers), None) < numbers
        else:
            with pytest.raises(ValueError, match=r"learned 1024 positions, .* needs 1025"):
                stream.decide(*long_question(numbers), None)


@torch.no_grad()
def test_rotary_positions_have_no_end() -> None:
    model = make_model("llama")
    assert model.backbone.config.max_position_embeddings == 1024
    for lean in (False, True):
        answer = DecisionStream(model, batch=1, lean=lean).decide(*long_question(1100), None)
        assert 0 <= answer < 1100
