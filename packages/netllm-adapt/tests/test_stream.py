"""Training and deciding are the same function (DESIGN decision 1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from adapt_parts import LinearEncoder, LinearHead, add_random_lora, make_episode
from netllm_adapt import (
    AdaptedModel,
    BackboneSpec,
    DecisionStream,
    Policy,
    SessionError,
    load_backbone,
)
from netllm_adapt.backbone import embedding_width
from netllm_adapt.batches import Batch, Segment, collate, plan
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel

ARCHITECTURES = ("llama", "gpt2", "opt", "gemma3", "mistral")
WINDOW = 5
SEGMENT_STEPS = 12
STEPS = 3 * WINDOW + SEGMENT_STEPS


SIZES = {"vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4} | SIZES
LLAMA = WIDE | {"intermediate_size": 48, "num_key_value_heads": 2}
GEMMA = LLAMA | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4}
KINDS: dict[str, dict[str, Any]] = {
    "falcon": WIDE,
    "gemma": LLAMA | {"head_dim": 8},
    "gemma2": GEMMA,
    "gemma3_text": GEMMA,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4} | SIZES,
    "gpt_neox": WIDE | {"intermediate_size": 48},
    "gptj": {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 8} | SIZES,
    "llama": LLAMA,
    "mistral": LLAMA | {"sliding_window": 4},
    "olmo2": LLAMA,
    "opt": WIDE | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "phi": WIDE | {"intermediate_size": 48},
    "qwen2": LLAMA | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    "qwen3": LLAMA | {"head_dim": 8},
}
REFUSED = {
    "bloom": ({"hidden_size": 32, "n_layer": 2, "n_head": 4}, "takes no `position_ids`"),
    "falcon": (WIDE | {"alibi": True}, "order in which keys are kept"),
    "gpt_neo": (
        {"hidden_size": 32, "num_layers": 2, "num_heads": 4}
        | {"attention_types": [[["global", "local"], 1]]},
        "order in which keys are kept",
    ),
    "lfm2": (LLAMA | {"layer_types": ["conv", "full_attention"]}, r"other kinds, \['conv'\]"),
    "mamba": ({"hidden_size": 32, "num_hidden_layers": 2}, "recurrent layers"),
    "mpt": ({"d_model": 32, "n_layers": 2, "n_heads": 4}, "takes no `position_ids`"),
    "t5": ({"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}, "an encoder"),
}


def make_plain(kind: str, **arguments: Any) -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = AutoConfig.for_model(kind, **SIZES | arguments)
        model: PreTrainedModel = AutoModel.from_config(config)
    return model.requires_grad_(False).eval()


def make_model(architecture: str, *, window: int = WINDOW) -> AdaptedModel:
    spec = BackboneSpec(f"tiny-random-{architecture}", dtype="float32")
    return adapted(load_backbone(spec.name, dtype=spec.dtype, seed=1), spec, window=window)


def adapted(
    plain: PreTrainedModel, spec: BackboneSpec, *, window: int = WINDOW, **options: Any
) -> AdaptedModel:
    width = embedding_width(plain)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = add_random_lora(plain, std=0.1, **options)
        encoder, head = LinearEncoder(width), LinearHead(width)
    per_step = encoder.tokens + 1
    return AdaptedModel(
        backbone=backbone,
        encoder=encoder,
        head=head,
        spec=spec,
        window=window,
        segment=SEGMENT_STEPS * per_step + 1,
    ).eval()


def stream_logits(model: AdaptedModel, batch: Batch, *, lean: bool | None = None) -> Tensor:
    stream = DecisionStream(model, batch=len(batch.actions), lean=lean)
    logits = []
    for t in range(batch.actions.shape[1]):
        observation = {name: value[:, t] for name, value in batch.observations.items()}
        previous = batch.actions[:, t - 1] if t else None
        hidden = stream.hidden(observation, batch.returns[:, t], previous)
        logits.append(model.head.logits(hidden)[:, 0])
    return torch.stack(logits, dim=1)


def full_logits(model: AdaptedModel, seeds: list[int]) -> Tensor:
    episodes = [make_episode(STEPS, seed) for seed in seeds]
    rows = []
    for row, _ in enumerate(episodes):
        parts = []
        sizes = [model.sizes(episodes[row])]
        for s in plan(sizes, segment=model.segment, window=model.window):
            batch = collate([episodes[row]], [s])
            parts.append(model.head.logits(model.hidden(batch))[0, s.start - s.context :])
        rows.append(torch.cat(parts))
    return torch.stack(rows)


@torch.no_grad()
def test_a_model_that_is_told_of_no_returns_decides_whatever_was_earned() -> None:
    model = make_model("llama")
    batch = collate([make_episode(STEPS, 0)], [Segment(0, 0, 0, STEPS)])
    other = dataclasses.replace(batch, returns=batch.returns + 5)
    told = stream_logits(model, batch)
    assert not torch.allclose(stream_logits(model, other), told)
    model.target_return = None
    untold = stream_logits(model, batch)
    assert torch.equal(stream_logits(model, other), untold)
    torch.testing.assert_close(full_logits(model, [0]), untold, rtol=0, atol=1e-5)
    policies = [Policy(model, target_return=asked) for asked in (None, 40.0)]
    seen = {name: value[:, 0].numpy() for name, value in batch.observations.items()}
    first, second = (policy.act({**seen, "reward": np.zeros(1)}) for policy in policies)
    assert first == second


@pytest.mark.parametrize("lean", [None, False], ids=["lean-if-covered", "library"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_streamed_logits_equal_the_full_pass_over_windows_and_a_restart(
    architecture: str, lean: bool | None
) -> None:
    model = make_model(architecture)
    seeds = [3, 4]
    episodes = [make_episode(STEPS, seed) for seed in seeds]
    whole = collate(episodes, [Segment(i, 0, 0, STEPS) for i in (0, 1)])
    torch.testing.assert_close(
        stream_logits(model, whole, lean=lean), full_logits(model, seeds), atol=1e-4, rtol=1e-4
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_sessions_of_a_batch_never_mix(architecture: str) -> None:
    model = make_model(architecture)
    episodes = [make_episode(20, seed=s) for s in (1, 2, 3)]
    together = collate(episodes, [Segment(i, 0, 0, 20) for i in range(3)])
    changed = [episodes[0], make_episode(20, seed=9), make_episode(11, seed=8)]
    mixed = collate(changed, [Segment(0, 0, 0, 20), Segment(1, 0, 0, 20), Segment(2, 0, 0, 11)])
    torch.testing.assert_close(model.hidden(together)[0], model.hidden(mixed)[0])
    torch.testing.assert_close(stream_logits(model, together)[0], stream_logits(model, mixed)[0])


# Before transformers 5 its eager attention had a mask of its own, by the places of keys.
OLD_GPT2 = int(transformers.__version__.split(".")[0]) < 5


@pytest.mark.parametrize("attention", ["eager", None], ids=["eager", "as-loaded"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_every_kind_of_attention_hides_the_future_in_both_passes(
    kind: str, attention: str | None
) -> None:
    plain = make_plain(kind, **KINDS[kind])
    if attention is not None:
        plain.set_attn_implementation(attention)
    if kind == "gpt2" and attention == "eager" and OLD_GPT2:
        with pytest.raises(ValueError, match="'gpt2' cannot: it reads positions from the order"):
            adapted(plain, BackboneSpec(kind, dtype="float32"), targets="all-linear")
        return
    model = adapted(plain, BackboneSpec(kind, dtype="float32"), targets="all-linear")
    whole = collate([make_episode(STEPS, 3)], [Segment(0, 0, 0, STEPS)])
    streamed = stream_logits(model, whole, lean=False)
    torch.testing.assert_close(streamed, full_logits(model, [3]), atol=1e-4, rtol=1e-4)
    before = model.hidden(whole)
    whole.observations["x"][:, 9:] += 5.0
    change = (model.hidden(whole) - before).abs().amax(dim=(0, 2, 3))
    assert change[:9].max() == 0
    assert change[9] > 1e-3


@pytest.mark.parametrize("kind", REFUSED)
def test_kinds_that_cannot_follow_a_mask_are_refused(kind: str) -> None:
    arguments, reason = REFUSED[kind]
    plain = make_plain(kind, **arguments)
    with pytest.raises(ValueError, match=f"'{kind}' cannot: it .*{reason}"):
        AdaptedModel(
            backbone=plain,
            encoder=LinearEncoder(32),
            head=LinearHead(32),
            spec=BackboneSpec(kind),
        )


def test_attention_that_takes_no_mask_is_refused() -> None:
    model = make_model("gpt2")
    model.backbone.config._attn_implementation = "flash_attention_2"  # cannot be set without a GPU
    batch = collate([make_episode(8, seed=0)], [Segment(0, 0, 0, 8)])
    with pytest.raises(ValueError, match="'sdpa' or 'eager', got 'flash_attention_2'"):
        model.hidden(batch)
    with pytest.raises(ValueError, match="'sdpa' or 'eager', got 'flash_attention_2'"):
        stream_logits(model, batch)


@torch.no_grad()
def test_nothing_is_seen_from_beyond_the_window_in_a_single_layer() -> None:
    model = make_model("llama", window=3)
    model.backbone.base_model.model.layers = model.backbone.base_model.model.layers[:1]
    model.backbone.config.num_hidden_layers = 1
    episode = make_episode(8, seed=0)
    batch = collate([episode], [Segment(0, 0, 0, 8)])
    before = model.hidden(batch)
    batch.observations["x"][0, 4] += 1.0
    change = (model.hidden(batch) - before).abs().amax(dim=(0, 2, 3))
    assert (change > 1e-6).tolist() == [t in (4, 5, 6) for t in range(8)]


@torch.no_grad()
def test_an_action_changes_later_steps_only() -> None:
    model = make_model("llama")
    batch = collate([make_episode(8, seed=0)], [Segment(0, 0, 0, 8)])
    before = model.hidden(batch)
    batch.actions[0, 3] = (batch.actions[0, 3] + 1) % 4
    change = (model.hidden(batch) - before).abs().amax(dim=(0, 2, 3))
    assert change[:4].max() == 0
    assert change[4] > 1e-6


def test_the_stream_says_when_the_number_of_episodes_changed() -> None:
    model = make_model("llama")
    stream = DecisionStream(model, batch=2)
    with pytest.raises(ValueError, match="made for 2 episodes, got an observation of 3"):
        stream.decide({"x": torch.zeros(3, 2)}, torch.zeros(3), None)


@pytest.mark.parametrize("rows", [[0, 0], [-1], [3], [], [True, False, True], [1.0]])
def test_episodes_that_go_on_are_numbered_each_once(rows: list[Any]) -> None:
    stream = DecisionStream(make_model("llama"), batch=3)
    with pytest.raises(ValueError, match=r"from 0 to 2 of the episodes that go on.*, got \["):
        stream.keep(torch.tensor(rows))
    stream.keep(torch.tensor([2, 0]))
    assert stream.decide({"x": torch.zeros(2, 2)}, torch.zeros(2), None).shape == (2,)


@pytest.mark.parametrize("short", ["x", "previous_action"])
def test_the_stream_names_what_is_of_another_number_of_episodes(short: str) -> None:
    stream = DecisionStream(make_model("llama"), batch=2)
    stream.decide({"x": torch.zeros(2, 2)}, torch.zeros(2), None)
    x = torch.zeros(1 if short == "x" else 2, 2)
    action = torch.zeros(2 if short == "x" else 1, dtype=torch.long)
    with pytest.raises(ValueError, match=f"for 2 episodes, got an observation of 1: `{short}`"):
        stream.decide({"x": x}, torch.zeros(2), action)


def asked(count: int, episodes: list[int] | None = None) -> dict[str, np.ndarray]:
    seen = {"x": np.zeros((count, 2), np.float32), "reward": np.zeros(count, np.float32)}
    return seen if episodes is None else seen | {"episode": np.array(episodes)}


@pytest.mark.parametrize(
    ("first", "then", "says"),
    [
        (asked(2, [0, 1]), asked(3, [0, 1, 2]), r"go on, of \[0, 1\], got \[0, 1, 2\]"),
        (asked(2), asked(2, [0, 1]), r"go on, of \[\], got \[0, 1\]"),
        (asked(2, [0, 1]), asked(2, [1, 1]), r"each once and at least one, got \[1, 1\]"),
        (asked(2), asked(1), r"of the 2 episodes that go on, got `reward` of shape \(1,\)"),
        (asked(1), asked(2), r"of the 1 episodes that go on, got `reward` of shape \(2,\)"),
        (asked(2), {"x": np.zeros((2, 2))}, r"must have a field `reward`.*got \['x'\]"),
    ],
)
def test_a_policy_names_what_does_not_go_on_from_before(
    first: dict[str, np.ndarray], then: dict[str, np.ndarray], says: str
) -> None:
    policy = Policy(make_model("llama"))
    policy.act(first)
    with pytest.raises(ValueError, match=says):
        policy.act(then)
    policy.reset(0)
    assert policy.act(first).shape == first["reward"].shape


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_one_session_that_is_not_finite_is_named_and_the_others_go_on(value: float) -> None:
    policy = Policy(make_model("llama"))
    policy.act(asked(3, [4, 5, 6]))
    seen = asked(3, [4, 5, 6])
    seen["x"] = seen["x"].astype(np.float64)
    seen["x"][1, 0] = value
    with pytest.raises(SessionError, match=r"Session 5 \(row 1 .*`x` must hold finite") as error:
        policy.act(seen)
    assert (error.value.session, error.value.row, error.value.field) == (5, 1, "x")
    assert policy.act(asked(2, [4, 6])).shape == (2,)


def test_what_is_earned_may_be_anything_before_the_first_action_only() -> None:
    policy, seen = Policy(make_model("llama")), asked(2)
    seen["reward"][1] = np.nan
    policy.act(seen)
    with pytest.raises(SessionError, match=r"Session 1 .*`reward`"):
        policy.act(seen)


def test_a_stream_has_an_episode() -> None:
    with pytest.raises(ValueError, match="`batch` must be at least 1 episode, got 0"):
        DecisionStream(make_model("llama"), batch=0)


def test_the_first_step_has_no_previous_action() -> None:
    stream = DecisionStream(make_model("llama"), batch=1)
    with pytest.raises(ValueError, match="None at the first step"):
        stream.decide({"x": torch.zeros(1, 2)}, torch.zeros(1), torch.zeros(1, dtype=torch.long))


def test_what_was_done_instead_of_an_answer_is_what_later_steps_see() -> None:
    episode = make_episode(6, seed=0)

    def play(other: int | None) -> list[int]:
        policy, answers = Policy(make_model("llama")), []
        for t in range(6):
            seen = {name: value[t : t + 1] for name, value in episode.observations.items()}
            answers.append(int(policy.act(seen | {"reward": np.zeros(1, np.float32)})[0]))
            if other is not None:
                policy.took(np.array([other]))
        return answers

    own = play(None)
    assert any(play(other) != own for other in range(4))
    policy = Policy(make_model("llama"))
    with pytest.raises(ValueError, match=r"last answer's shape, None, got \(1,\)"):
        policy.took(np.array([0]))


def test_a_segment_longer_than_the_backbones_positions_is_refused() -> None:
    model = make_model("gpt2")
    limit = model.backbone.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"learned {limit} positions"):
        AdaptedModel(
            backbone=model.backbone,
            encoder=model.encoder,
            head=model.head,
            spec=model.spec,
            window=5,
            segment=limit,
        )


def test_a_segment_too_short_for_a_step_is_refused() -> None:
    model = make_model("llama")
    with pytest.raises(ValueError, match="at least one step of 4 tokens, got segment=3"):
        AdaptedModel(
            backbone=model.backbone,
            encoder=model.encoder,
            head=model.head,
            spec=model.spec,
            segment=3,
        )


def test_an_encoder_of_another_width_is_refused() -> None:
    model = make_model("llama")
    with pytest.raises(ValueError, match=r"encoder must have the backbone's width 64, got 32"):
        AdaptedModel(
            backbone=model.backbone, encoder=LinearEncoder(32), head=model.head, spec=model.spec
        )


def with_positions(limit: int, rope: str) -> PreTrainedModel:
    rotation: dict[str, Any] = {"rope_type": rope, "factor": 2.0}
    field = "rope_scaling"  # of transformers before 5
    if hasattr(AutoConfig.for_model("llama"), "rope_parameters"):
        field, rotation = "rope_parameters", rotation | {"rope_theta": 1e4}
    return make_plain("llama", **LLAMA | {"max_position_embeddings": limit, field: rotation})


@torch.no_grad()
def test_rotary_positions_that_depend_on_nothing_else_have_no_end() -> None:
    model = adapted(with_positions(8, "linear"), BackboneSpec("llama", dtype="float32"))
    whole = collate([make_episode(STEPS, 3)], [Segment(0, 0, 0, STEPS)])
    for lean in (True, False):
        streamed = stream_logits(model, whole, lean=lean)
        torch.testing.assert_close(streamed, full_logits(model, [3]), atol=1e-4, rtol=1e-4)


def test_rotary_positions_that_change_with_the_rows_length_end_with_those_learned() -> None:
    spec = BackboneSpec("llama", dtype="float32")
    adapted(with_positions(128, "dynamic"), spec)
    with pytest.raises(ValueError, match="learned 8 positions, but a row of"):
        adapted(with_positions(8, "dynamic"), spec)
