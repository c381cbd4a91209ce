"""Answers as text: written, learned, generated and read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import netllm
import numpy as np
import pytest
import torch
from netllm.task.build_model import build_model
from netllm.vp.text.policy import TextPolicy
from netllm.vp.text.predictor import TextPredictor
from netllm.vp.text.written_viewports import Answer, History, is_valid, read, written
from netllm.vp.text_task import Prompt, Token, train
from netllm_adapt import Adapted, Examples, Recipe, fit
from netllm_adapt.backbone import load_tokenizer
from netllm_adapt.batches import ExampleBatch
from netllm_sims.vp import rollout, setting
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)

END = 0


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    """A small random Llama with a tokenizer of single letters, in a folder."""
    letters = sorted({*map(chr, range(32, 127)), "\n"})
    vocabulary = {"<end>": END, **{letter: 1 + i for i, letter in enumerate(letters)}}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<end>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    folder = str(tmp_path / "letters")
    PreTrainedTokenizerFast(tokenizer_object=plain, eos_token="<end>").save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        tie_word_embeddings=True,
        eos_token_id=END,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        LlamaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def place() -> Any:
    return setting("synthetic", history=4, horizon=3)


def build(task: Token, place: Any, backbone: str) -> TextPredictor:
    from dataclasses import replace

    model: Any = build_model(
        task, place, backbone, replace(task.recipe(backbone), dtype="float32", rank=4)
    )
    return model.eval()


def random_viewports(batch: int, points: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(batch, points, 3, generator=generator) - 0.5) * torch.tensor([60, 90, 360])


TASKS = pytest.mark.parametrize("task", [Prompt(), Token()], ids=["prompt", "token"])


def test_viewports_are_written_point_by_point_in_whole_degrees() -> None:
    assert written(np.array([[0.4, -12.6, 179.2], [-1.5, 90.0, -190.0]])) == (
        "0 -13 179\n-2 90 170\n"
    )


def test_what_is_written_is_read_within_half_a_degree() -> None:
    viewports = random_viewports(20, 7).double().numpy()
    for own in viewports:
        found = read(written(own), horizon=7)
        assert found is not None
        assert is_valid(found)
        assert np.abs((found - own + 180) % 360 - 180).max() <= 0.5


def test_an_answer_may_have_words_between_its_numbers() -> None:
    found = read("roll 1.5°, pitch -2, yaw +180", horizon=1)
    assert found is not None
    np.testing.assert_array_equal(found, [[1.5, -2.0, 180.0]])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I cannot know that.",
        "1 2 3 4 5",
        "1 2 3 4 5 6 7",
        "1 2 3 4 5 181",
        "-181 2 3 4 5 6",
        "1 91 3 4 5 6",
        "1 2 3 4 -90.5 6",
        "1 2 3 4 5 " + "9" * 400,
    ],
    ids=["empty", "junk", "few", "many", "yaw", "roll", "pitch", "pitch below", "endless"],
)
def test_an_answer_that_is_not_a_horizon_of_angles_is_invalid(text: str) -> None:
    assert read(text, horizon=2) is None


@TASKS
def test_the_loss_is_the_mean_cross_entropy_of_the_answers_tokens(
    task: Token, place: Any, backbone: str
) -> None:
    model = build(task, place, backbone)
    seen, future = random_viewports(3, 4), random_viewports(3, 3, seed=1)
    losses = model(ExampleBatch({"viewport_deg": seen}, future))
    tokenizer: Any = load_tokenizer(backbone)
    embedding = model.backbone.get_input_embeddings()
    for row, loss in enumerate(losses):
        prompt = "The next 3 points:\n"
        if isinstance(task, Prompt):
            told = "Roll, pitch and yaw of a viewer's head in degrees, point by point:\n"
            prompt = told + written(seen[row].numpy()) + prompt
        answer = [*tokenizer.encode(written(future[row].numpy())), END]
        ids = torch.tensor([*tokenizer.encode(prompt), *answer])
        vectors = embedding(ids)
        if not isinstance(task, Prompt):
            own = model.encoder.observe({"viewport_deg": seen[row : row + 1]})[0]
            vectors = torch.cat([own, vectors])
        hidden = model.backbone(inputs_embeds=vectors[None]).last_hidden_state[0]
        logs = (hidden @ embedding.weight.T).log_softmax(-1)[-len(answer) - 1 : -1]
        by_hand = -torch.stack([logs[i, token] for i, token in enumerate(answer)]).mean()
        torch.testing.assert_close(loss, by_hand, rtol=1e-5, atol=1e-5)


@TASKS
def test_generation_with_kept_keys_is_generation_without(
    task: Token, place: Any, backbone: str
) -> None:
    model = build(task, place, backbone)
    observation = {"viewport_deg": random_viewports(3, 4)}
    together = model.write(observation, tokens=12)
    embedding = model.backbone.get_input_embeddings()
    for row, text in enumerate(together):
        seen = {"viewport_deg": observation["viewport_deg"][row : row + 1]}
        with torch.inference_mode():
            vectors, _, _ = model._left_padded(seen)
            ids: list[int] = []
            for _ in range(12):
                hidden = model.backbone(inputs_embeds=vectors, use_cache=False).last_hidden_state
                ids.append(int((hidden[0, -1] @ embedding.weight.T).argmax()))
                vectors = torch.cat([vectors, embedding(torch.tensor([[ids[-1]]]))], dim=1)
        assert model._text(ids) == text
        assert model.write(seen, tokens=12) == [text]


def test_an_endless_answer_is_cut_where_no_valid_one_could_still_be(
    place: Any, backbone: str
) -> None:
    model = build(Prompt(), place, backbone)
    (text,) = model.write({"viewport_deg": random_viewports(1, 4)})
    assert len(text) <= 3 * len("-179 -89 -179\n") + 1


@TASKS
def test_training_lowers_the_loss_and_its_checkpoint_is_the_same_model(
    task: Token, place: Any, backbone: str, tmp_path: Path
) -> None:
    untrained = build(task, place, backbone)
    run = {"steps": 30, "batch": 4, "rank": 4, "dtype": "float32", "warmup": 3, "average": 0.0}
    rates = {"learning_rate": 1e-2, "lora_learning_rate": 1e-2}
    model = train(task, place, out=tmp_path / "run", backbone=backbone, **run, **rates)
    assert model.about["task"] == "vp"
    batch = ExampleBatch({"viewport_deg": random_viewports(8, 4)}, random_viewports(8, 3, seed=1))
    with torch.no_grad():
        losses = model(batch)
        assert losses.mean() < untrained(batch).mean() - 0.1
        again = TextPredictor.from_pretrained(tmp_path / "run" / "best", trust_backbone=True)
        torch.testing.assert_close(again(batch), losses)
    plain: Any = Adapted.from_pretrained(tmp_path / "run" / "last", trust_backbone=True)
    policy = task.policy(plain, place)
    assert isinstance(policy, TextPolicy)


@TASKS
def test_a_policy_holds_the_last_viewport_where_its_answer_is_not_valid(
    task: Token, backbone: str
) -> None:
    model = build(task, setting("synthetic", history=4, horizon=3), backbone)
    longer = setting("synthetic", history=6, horizon=5)
    policy = task.policy(model, longer)
    clips = longer.clips("valid", 1)
    done = rollout(policy, longer, clips)
    assert policy.validity == 0.0
    assert policy.answers == 2 * len(clips[0])
    held = np.repeat(clips[0].history_deg[:, -1:], 5, axis=1)
    np.testing.assert_array_equal(done.predicted_deg[0], held)


def test_a_test_says_how_many_answers_were_replaced(backbone: str, tmp_path: Path) -> None:
    place = setting("synthetic", history=4, horizon=3)
    run = tmp_path / "run"
    train(Token(), place, out=run, backbone=backbone, steps=1, batch=1, rank=2, dtype="float32")
    report = netllm.test(
        "vp",
        policy="hold-last",
        checkpoint=run,
        setting="synthetic",
        episodes=1,
        trust_backbone=True,
    )
    held, said = report.results
    assert (held.validity, said.validity) == (None, 0.0)
    assert said.metrics == held.metrics
    notes = " ".join(report.provenance["notes"])
    assert "run in synthetic: 100.0% of its answers were not valid or not safe." in notes


@TASKS
def test_a_policy_answers_what_its_model_learned_by_heart(
    task: Token, backbone: str, tmp_path: Path
) -> None:
    place = setting("synthetic", history=4, horizon=1)
    seen, future = np.full((1, 4, 3), 5.0), np.array([[[-1.0, 20.0, 170.0]]])
    recipe = Recipe(
        steps=100,
        batch=1,
        rank=16,
        targets=("q_proj", "v_proj", "o_proj", "up_proj", "down_proj"),
        dtype="float32",
        learning_rate=1e-2,
        lora_learning_rate=1e-2,
        validate_every=100,
    )
    model: Any = build_model(task, place, backbone, recipe)
    examples = Examples({"viewport_deg": seen}, future)
    policy = task.policy(fit(model, examples, recipe=recipe, out=tmp_path / "r"), place)
    np.testing.assert_array_equal(policy.act({"viewport_deg": seen}), future)
    assert policy.validity == 1.0


def test_an_untied_head_is_refused(place: Any, backbone: str) -> None:
    model = build(Prompt(), place, backbone)
    model.backbone.config.tie_word_embeddings = False
    with pytest.raises(ValueError, match="tied"):
        TextPredictor.of(model)


def test_a_history_too_short_to_write_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 5 points, got 4"):
        History(width=8, history=5).text({"viewport_deg": random_viewports(1, 4)})


@pytest.mark.parametrize("part", [History, Answer])
def test_parts_need_a_width(part: Any) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        part(width=0, **{"history" if part is History else "horizon": 1})


def test_the_tokenizer_of_smollm2_gives_a_valid_answer_back() -> None:
    try:
        tokenizer: Any = load_tokenizer("smollm2-135m")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    text = written(random_viewports(1, 20)[0].numpy())
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text
    longest = Answer(width=8, horizon=20).longest
    assert len(ids) <= len(tokenizer(longest, add_special_tokens=False)["input_ids"])


def test_texts_longer_than_learned_positions_are_refused(place: Any, backbone: str) -> None:
    few = GPT2Config(
        vocab_size=len(load_tokenizer(backbone)), n_positions=16, n_embd=32, n_layer=1, n_head=2
    )
    GPT2Model(few).save_pretrained(backbone)
    model = build(Prompt(), place, backbone)
    seen = torch.zeros(1, 4, 3)
    with pytest.raises(ValueError, match="learned 16 positions"):
        model.write({"viewport_deg": seen})
    with pytest.raises(ValueError, match="learned 16 positions"):
        model(ExampleBatch({"viewport_deg": seen}, torch.zeros(1, 3, 3)))
