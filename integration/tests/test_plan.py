"""`netllm plan`: what a run takes, before anything is loaded."""

import json
import logging

import netllm as library
import pytest
from netllm import registry
from transformers import LlamaConfig

GIB = 2**30


@pytest.fixture
def llama_7b(tmp_path):
    """The folder of a configuration like Llama 2's, without weights."""
    LlamaConfig(
        hidden_size=4096,
        intermediate_size=11_008,
        num_hidden_layers=32,
        num_attention_heads=32,
        vocab_size=32_000,
    ).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def test_a_model_of_7_billion_is_planned_from_its_configuration(netllm, llama_7b):
    code, out, _ = netllm("plan", "abr", "--backbone", llama_7b, "--gpus", "1x24", "--json")
    plan = json.loads(out)
    assert code == 0
    # 6.607e9 numbers without the LM head, in bfloat16.
    assert plan["learning"]["frozen weights"] / 2 == pytest.approx(6.607e9, rel=1e-3)
    assert plan["available"] == 24 * GIB
    assert plan["fits"]
    assert plan["remedies"] == []
    # Keys and values: 193 slots for 20 steps of 8 tokens.
    assert plan["bytes_per_session"] == 2 * 32 * 4096 * 193 * 2


def test_what_does_not_fit_names_the_options_that_make_it_fit(netllm, llama_7b):
    options = ("plan", "abr", "--backbone", llama_7b, "--gpus", "1x7", "--tflops", "50")
    code, out, _ = netllm(*options)
    assert code == 0
    assert "it does not fit" in out
    assert "--gradient-checkpointing --micro-batch 1 --validation 8 --quantise nf4" in out
    assert "--layers 8" in out
    assert "s at the given rate" in out
    plan = json.loads(netllm(*options, "--json")[1])
    assert plan["seconds_per_step"] == pytest.approx(plan["flops_per_step"] / 50e12)
    change = {"gradient_checkpointing": True, "micro_batch": 1, "quantise": "nf4"}
    taken = ("--gradient-checkpointing", "--micro-batch", "1", "--quantise", "nf4")
    again = json.loads(netllm(*options, *taken, "--validation", "8", "--json")[1])
    assert again["fits"]
    assert change.items() <= plan["remedies"][0]["change"].items()
    assert again["peak"] == plan["remedies"][0]["peak"]


@pytest.mark.parametrize("task", registry.tasks())
def test_every_task_is_planned_for_this_machine(task):
    planned = library.plan(task, backbone="tiny-random", setting="synthetic", device="cpu", rank=4)
    assert planned.plan.fits
    assert planned.plan.learning["activations"] > 0
    assert planned.seconds_per_step is None


def test_a_pool_tells_how_long_rows_are(tmp_path):
    library.rl_collect("abr", policy="bba", setting="synthetic", episodes=2, out=tmp_path / "pool")
    given = {"backbone": "tiny-random", "setting": "synthetic", "rank": 4}
    # 47 decisions of 8 tokens; else a segment of 384 after 20 steps of context.
    assert library.plan("abr", pool=tmp_path / "pool", **given).plan.tokens == 376
    assert library.plan("abr", **given).plan.tokens == 384 + 160


@pytest.mark.parametrize("gpus", ["24", "0x24", "1x0", "1x-3", "1x24GB"])
def test_other_words_for_gpus_are_refused(netllm, gpus):
    code, _, err = netllm("plan", "abr", "--backbone", "tiny-random", "--gpus", gpus)
    assert code == 2
    assert "such as 1x24" in err


def test_adapt_warns_before_it_loads_what_cannot_fit(tmp_path, caplog):
    pool = tmp_path / "pool"
    library.rl_collect("abr", policy="bba", setting="synthetic", episodes=2, out=pool)
    LlamaConfig(
        hidden_size=2**17, intermediate_size=2**19, num_hidden_layers=64, num_attention_heads=1024
    ).save_pretrained(tmp_path / "huge")
    with caplog.at_level(logging.WARNING), pytest.raises(ValueError, match="but there are none"):
        library.adapt("abr", pool=pool, backbone=str(tmp_path / "huge"), out=tmp_path / "run")
    (told,) = [one.getMessage() for one in caplog.records if "This run takes" in one.getMessage()]
    assert "GiB of memory" in told
    assert "No option of `netllm adapt` makes it fit" in told
