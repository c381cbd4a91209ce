import gc
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt.attention import cache_argument
from netllm_adapt.backbone import backbones, cache_folder, load_backbone, load_tokenizer
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaModel

TINY = [f"tiny-random-{kind}" for kind in ("llama", "mistral", "gemma3", "gpt2", "opt")]
INPUT = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", TINY)
def test_a_backbone_is_frozen_and_answers_embeddings_with_hidden_states(name: str) -> None:
    model = load_backbone(name, dtype="float32")
    hidden = model(inputs_embeds=INPUT).last_hidden_state
    assert hidden.shape == INPUT.shape
    assert not hidden.requires_grad
    assert not model.training
    assert model.name_or_path == name
    assert model.config.max_position_embeddings == 1024


@pytest.mark.parametrize("name", TINY)
def test_layers_keep_the_first_blocks(name: str) -> None:
    whole = load_backbone(name, dtype="float32")
    first = load_backbone(name, dtype="float32", layers=2)
    states = whole(inputs_embeds=INPUT, output_hidden_states=True).hidden_states
    cut = first(inputs_embeds=INPUT, output_hidden_states=True, use_cache=True)
    torch.testing.assert_close(cut.hidden_states[1], states[1], rtol=0, atol=0)
    assert len(cut.hidden_states) == 3
    assert first.config.num_hidden_layers == 2
    assert len(getattr(first.config, "layer_types", None) or "ab") == 2
    kept, everything = first.state_dict(), whole.state_dict()
    assert set(kept) < set(everything)
    assert all(torch.equal(value, everything[key]) for key, value in kept.items())


@pytest.mark.parametrize("name", TINY)
def test_a_cut_backbone_streams_with_a_cache(name: str) -> None:
    model = load_backbone(name, dtype="float32", layers=2)
    cache = DynamicCache(config=model.config)
    for start in (0, 4):
        step = INPUT[:, start : start + 4 if start == 0 else None]
        named = {cache_argument(model): cache}
        hidden = model(inputs_embeds=step, use_cache=True, **named).last_hidden_state
    torch.testing.assert_close(
        hidden, model(inputs_embeds=INPUT).last_hidden_state[:, 4:], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("layers", [0, -1, 5])
def test_layers_outside_the_model_are_refused(layers: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 4, .* got {layers}"):
        load_backbone("tiny-random", layers=layers)


def test_random_weights_follow_their_seed_and_leave_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (
        load_backbone("tiny-random", dtype="float32", seed=seed)(inputs_embeds=INPUT)[0]
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_random_weights_of_two_dtypes_are_one_draw() -> None:
    wide, narrow = (load_backbone("tiny-random", dtype=d) for d in ("float32", "bfloat16"))
    assert narrow.dtype == torch.bfloat16
    for key, value in wide.state_dict().items():
        assert torch.equal(value.to(torch.bfloat16), narrow.state_dict()[key])


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one of bfloat16, .* got 'int4'"):
        load_backbone("tiny-random", dtype="int4")


def test_random_weights_of_a_known_backbone_need_no_pull(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path))
    model = load_backbone("random-smollm2-135m", layers=1)
    # The published configuration of SmolLM2-135M.
    assert (model.config.hidden_size, model.config.num_key_value_heads) == (576, 3)
    assert model.config.num_hidden_layers == 1
    spread = model.layers[0].mlp.up_proj.weight.float().std()
    assert spread.item() == pytest.approx(1 / 24, rel=0.02)
    assert not list(tmp_path.iterdir())


def test_random_weights_take_the_configuration_of_a_folder(tmp_path: Path) -> None:
    _save_causal("tiny-random-opt", tmp_path)
    model = load_backbone(f"random-{tmp_path}", layers=3, dtype="float32")
    assert (model.config.model_type, model.config.num_hidden_layers) == ("opt", 3)


def test_a_backbone_that_was_not_pulled_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Run: netllm backbone pull smollm2-135m") as info:
        load_backbone("smollm2-135m")
    assert str(tmp_path) in str(info.value)
    with pytest.raises(FileNotFoundError, match="netllm backbone pull smollm2-135m"):
        load_tokenizer("smollm2-135m")


def test_a_misspelt_name_lists_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'smolm2-135m'. Did you mean smollm2-135m\?"):
        load_backbone("smolm2-135m")


def test_a_hub_model_that_cannot_be_reached_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"'nobody/nothing' must be .* Offline, give"):
        load_backbone("nobody/nothing")


@pytest.mark.parametrize("name", TINY)
def test_a_folder_saved_with_its_head_loads_without_it(name: str, tmp_path: Path) -> None:
    causal = _save_causal(name, tmp_path)
    model = load_backbone(str(tmp_path), dtype="float32")
    expected = causal(inputs_embeds=INPUT, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(
        model(inputs_embeds=INPUT).last_hidden_state, expected, rtol=1e-5, atol=1e-5
    )
    assert not hasattr(model, "lm_head")


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells a process's peak anew")
def test_a_backbone_in_shards_takes_its_own_size_to_load(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=4,
        num_attention_heads=8,
    )
    LlamaModel(config).to(torch.bfloat16).save_pretrained(tmp_path, max_shard_size="40MB")  # type: ignore[arg-type, unused-ignore]
    assert len([*tmp_path.glob("model-0000*-of-*.safetensors")]) > 2
    assert (tmp_path / "model.safetensors.index.json").is_file()

    def taken(**options: Any) -> float:
        """The peak of a load and of reading all its weights, per byte of them."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        model = load_backbone(str(tmp_path), **options)
        for weight in model.parameters():
            weight.sum()
        return (_resident("VmHWM") - before) / sum(p.nbytes for p in model.parameters())

    assert taken() < 1.4
    assert taken(layers=1) < 2
    # Of what is converted the half as wide files are read beside.
    assert taken(dtype="float32") < 1.9


def _resident(name: str) -> int:
    """Bytes of this process's memory, now (VmRSS) or at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) * 1024


def test_a_folder_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    _save_causal("tiny-random-llama", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    file.unlink()
    del weights["model.layers.2.mlp.up_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1, first .*layers\.2\.mlp\.up_proj\.weight"):
        load_backbone(str(tmp_path))


def test_the_cache_folder_follows_variable_and_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "variable"))
    assert cache_folder() == tmp_path / "variable"
    monkeypatch.delenv("NETLLM_CACHE")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "netllm"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "netllm"


def test_the_list_tells_size_licence_and_what_is_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path))
    listed = {entry.name: entry for entry in backbones()}
    assert listed["smollm2-135m"].download_mb == 93
    assert listed["smollm2-135m"].licence == "Apache-2.0"
    assert not listed["smollm2-135m"].cached
    assert listed["tiny-random-gpt2"].cached


def test_another_package_adds_a_backbone_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "theirs.py").write_text(
        "from netllm_adapt.backbone import Backbone\n"
        "SMALL = Backbone(summary='small', config={'model_type': 'gpt2', 'n_embd': 8,\n"
        "    'n_head': 2, 'n_layer': 1, 'vocab_size': 16, 'bos_token_id': 1, 'eos_token_id': 2})\n"
        "WRONG = 'smollm2-135m'\n"
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[netllm.backbones]\ntheir-small = theirs:SMALL\ntheir-wrong = theirs:WRONG\n"
        "their-lost = theirs:LOST\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_backbone("their-small").config.hidden_size == 8
    with pytest.raises(ValueError, match=r"'their-wrong' of netllm\.backbones must be a"):
        load_backbone("their-wrong")
    with pytest.raises(ValueError, match=r"'their-lost' of netllm\.backbones cannot be loaded"):
        load_backbone("their-lost")
    listed = {entry.name for entry in backbones()}
    assert {"their-small", "smollm2-135m"} <= listed
    assert not {"their-wrong", "their-lost"} & listed
    assert "'their-wrong' of netllm.backbones must be" in caplog.text


def _save_causal(name: str, folder: Path) -> AutoModelForCausalLM:
    """A model with a random head of its own around the tiny backbone, written to ``folder``."""
    bare = load_backbone(name, dtype="float32")
    bare.config.tie_word_embeddings = False
    causal = AutoModelForCausalLM.from_config(bare.config)
    inner = causal.get_decoder() if name.endswith("gemma3") else causal.base_model
    inner.load_state_dict(bare.state_dict())
    causal.eval().save_pretrained(folder)
    return causal


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"quantise": "nf3"}, r"`quantise` must be one of nf4, int8, got 'nf3'\."),
        ({"quantise": "8bit"}, r"one of nf4, int8, got '8bit'."),
        (
            {"quantise": "nf4", "dtype": "float64"},
            r"`quantise` needs `dtype` .* got torch\.float64",
        ),
        (
            {"quantise": "nf4", "name": "scratch-32x2"},
            "must be None for 'scratch-32x2': its weights",
        ),
    ],
)
def test_a_quantisation_that_cannot_be_is_refused(options: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_backbone(**{"name": "tiny-random"} | options)


def test_a_quantisation_without_bitsandbytes_prints_the_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    says = r"pip install '\./packages/netllm-adapt\[quantised\]'"
    with pytest.raises(ModuleNotFoundError, match=says):
        load_backbone("tiny-random", quantise="nf4")


def test_a_bitsandbytes_that_is_too_old_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "bitsandbytes-0.45.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bitsandbytes\nVersion: 0.45.5\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ValueError, match=r"0\.48 or newer, 0\.45\.5 is installed\. In a clone: pip"
    ):
        load_backbone("tiny-random", quantise="int8")
