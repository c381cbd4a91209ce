"""The model card: what hubs read of it, and a snippet that runs as pasted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from adapt_parts import linear_model
from huggingface_hub import ModelCard
from netllm_adapt import AdaptedModel
from netllm_adapt.checkpoint.card import model_card
from netllm_adapt.checkpoint.save_and_load import describe


def make() -> AdaptedModel:
    about = {"task": "abr", "setting": "synthetic", "data": "synthetic", "teachers": ["ppo"]}
    return linear_model(about=about | {"validation qoe": 1.25})


def test_the_snippet_runs_as_pasted(
    registered_parts: None,
    paste: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = make().save_pretrained(tmp_path / "checkpoint")
    monkeypatch.chdir(folder)
    assert "policy" in paste(folder / "README.md")


def test_a_hub_reads_figures_that_are_told_as_validation(registered_parts: None) -> None:
    card = ModelCard(model_card(describe(make())))
    assert card.data.to_dict()["library_name"] == "netllm"
    assert card.data.tags == ["netllm", "networking", "abr"]
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("qoe", 1.25)
    assert result.dataset_split == "validation"
    assert "no test result" in result.metric_name
    assert "It imitates ppo, and so their mistakes." in card.text


@pytest.mark.parametrize(
    ("name", "licence", "base"),
    [
        ("smollm2-135m", "apache-2.0", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("gemma3-270m", "gemma", "google/gemma-3-270m"),
    ],
)
def test_the_backbones_licence_and_precision_are_told(
    name: str, licence: str, base: str, registered_parts: None
) -> None:
    config = describe(make())
    config["backbone"]["name"] = name
    card = ModelCard(model_card(config))
    assert (card.data.license, card.data.base_model) == (licence, base)
    assert "dequantised from 4 bits" in card.text


def test_own_parts_are_given_along_in_the_snippet() -> None:
    assert "parts=[LinearEncoder, LinearHead])" in model_card(describe(make()))
