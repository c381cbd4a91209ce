import copy
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from netllm_adapt.backbone import load_backbone
from netllm_adapt.lora import LoraLinear, add_lora, load_lora, save_lora
from netllm_adapt.lora.peft_layer import _leave
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM

TINY = [f"tiny-random-{kind}" for kind in ("llama", "mistral", "gemma3", "gpt2", "opt")]
INPUT = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(3))


@pytest.fixture(autouse=True)
def _plain_peft_is_calm() -> Iterator[None]:
    """Plain PEFT uses a name that transformers 5 deprecates; these tests call it for comparison."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def _bare(name: str = "tiny-random", dtype: str = "float32") -> Any:
    return load_backbone(name, dtype=dtype)


def _stir(model: nn.Module) -> None:
    """Give B values, as training would."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.3, generator=generator)


def _ours(model: nn.Module) -> dict[str, LoraLinear]:
    return {n: layer for n, layer in model.named_modules() if isinstance(layer, LoraLinear)}


def _answer(model: nn.Module) -> Tensor:
    hidden: Tensor = model(inputs_embeds=INPUT.to(next(model.parameters()).dtype))[0]
    return hidden


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("tiny-random-llama", {"q_proj", "v_proj"}),
        ("tiny-random-mistral", {"q_proj", "v_proj"}),
        ("tiny-random-gemma3", {"q_proj", "v_proj"}),
        ("tiny-random-opt", {"q_proj", "v_proj"}),
        ("tiny-random-gpt2", {"c_attn"}),
    ],
)
def test_default_targets_follow_the_models_type(name: str, targets: set[str]) -> None:
    model = add_lora(_bare(name), rank=2)
    assert {layer.rsplit(".", 1)[-1] for layer in _ours(model)} == targets
    assert len(_ours(model)) == 4 * len(targets)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 8 * len(targets)
    assert all(".lora_A." in n or ".lora_B." in n for n in trained)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("targets", [None, "all-linear"])
def test_outputs_and_gradients_equal_plain_pefts(
    name: str, targets: str | None, tmp_path: Path
) -> None:
    ours = add_lora(_bare(name), rank=4, alpha=12, targets=targets)
    _stir(ours)
    save_lora(ours, tmp_path)
    theirs = PeftModel.from_pretrained(_bare(name), str(tmp_path), is_trainable=True)
    assert not _ours(theirs)
    results = []
    for model in (ours, theirs):
        hidden = _answer(model)
        hidden.square().mean().backward()
        results.append(
            [
                hidden,
                *(p.grad for p in model.parameters() if p.requires_grad and p.grad is not None),
            ]
        )
    assert len(results[0]) > 8
    for mine, plain in zip(*results, strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)


def test_the_first_output_is_the_backbones_own() -> None:
    assert torch.equal(_answer(add_lora(_bare(), rank=4)), _answer(_bare()))


def test_matrices_are_fp32_beside_a_bf16_backbone() -> None:
    model = add_lora(_bare(dtype="bfloat16"), rank=4)
    _stir(model)
    hidden = _answer(model)
    hidden.float().square().mean().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert hidden.dtype == torch.bfloat16
    assert {p.dtype for p in trained} == {torch.float32}
    assert {p.grad.dtype for p in trained if p.grad is not None} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}


@pytest.mark.parametrize("name", ["tiny-random-llama", "tiny-random-gpt2"])
def test_an_adapter_goes_from_ours_to_ours_and_trains_on(name: str, tmp_path: Path) -> None:
    model = add_lora(_bare(name), rank=4, alpha=8)
    _stir(model)
    save_lora(model, tmp_path)
    again = load_lora(_bare(name), tmp_path, trainable=True)
    assert len(_ours(again)) == len(_ours(model))
    assert torch.equal(_answer(again), _answer(model))
    assert any(p.requires_grad for p in again.parameters())
    assert not any(p.requires_grad for p in load_lora(_bare(name), tmp_path).parameters())


@pytest.mark.parametrize("name", ["tiny-random-llama", "tiny-random-gpt2", "tiny-random-opt"])
def test_a_plain_peft_adapter_loads_here(name: str, tmp_path: Path) -> None:
    turned = name.endswith("gpt2")
    targets = ["c_attn", "c_fc"] if turned else ["q_proj", "k_proj"]
    config = LoraConfig(r=3, lora_alpha=5, target_modules=targets, fan_in_fan_out=turned)
    theirs = get_peft_model(_bare(name), config).eval()
    _stir(theirs)
    theirs.save_pretrained(str(tmp_path), save_embedding_layers=False)
    mine = load_lora(_bare(name), tmp_path)
    assert len(_ours(mine)) == 8
    torch.testing.assert_close(_answer(mine), _answer(theirs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["tiny-random-llama", "tiny-random-gpt2"])
def test_an_adapter_trained_under_an_lm_head_loads_here(name: str, tmp_path: Path) -> None:
    bare = _bare(name)
    causal = AutoModelForCausalLM.from_config(bare.config)
    causal.base_model.load_state_dict(bare.state_dict())
    turned = name.endswith("gpt2")
    config = LoraConfig(
        r=3, target_modules=["c_attn" if turned else "v_proj"], fan_in_fan_out=turned
    )
    theirs = get_peft_model(causal, config).eval()
    _stir(theirs)
    theirs.save_pretrained(str(tmp_path), save_embedding_layers=False)
    expected = theirs(inputs_embeds=INPUT, output_hidden_states=True).hidden_states[-1]
    torch.testing.assert_close(_answer(load_lora(bare, tmp_path)), expected, rtol=1e-4, atol=1e-5)


def test_the_saved_adapter_is_pefts_format_without_a_trace_of_ours(tmp_path: Path) -> None:
    model = add_lora(_bare("tiny-random-gpt2"), rank=4, alpha=6, dropout=0.1, rslora=True)
    save_lora(model, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["peft_type"] == "LORA"
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (4, 6, 0.1)
    assert config["use_rslora"]
    assert config["fan_in_fan_out"]
    assert config["base_model_name_or_path"] == "tiny-random-gpt2"
    assert not any("custom" in key for key in config)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert weights["base_model.model.h.0.attn.c_attn.lora_A.weight"].shape == (4, 64)
    assert len(weights) == 8


@pytest.mark.parametrize("name", ["tiny-random-llama", "tiny-random-gpt2"])
def test_merging_changes_nothing_but_the_speed_and_can_be_undone(name: str) -> None:
    model = add_lora(_bare(name), rank=4, alpha=8)
    _stir(model)
    before = _answer(model)
    model.merge_adapter()
    torch.testing.assert_close(_answer(model), before, rtol=1e-4, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(_answer(model), before, rtol=1e-4, atol=1e-5)
    plain = model.merge_and_unload()
    assert not _ours(plain)
    torch.testing.assert_close(_answer(plain), before, rtol=1e-4, atol=1e-5)


def test_a_disabled_adapter_gives_the_backbones_output() -> None:
    model = add_lora(_bare(), rank=4)
    _stir(model)
    with model.disable_adapter():
        assert torch.equal(_answer(model), _answer(_bare()))
    assert not torch.allclose(_answer(model), _answer(_bare()))


def test_rank_stabilised_scale_divides_by_the_root_of_the_rank() -> None:
    plain, stable = (add_lora(_bare(), rank=4, alpha=6, rslora=flag) for flag in (False, True))
    assert {layer.scaling["default"] for layer in _ours(plain).values()} == {1.5}
    assert {layer.scaling["default"] for layer in _ours(stable).values()} == {3.0}
    default = add_lora(_bare(), rank=4)
    assert {layer.scaling["default"] for layer in _ours(default).values()} == {1.0}


def test_the_first_matrices_follow_their_seed_and_leave_the_global_stream_alone() -> None:
    before = torch.get_rng_state()
    one, same, other = (
        next(iter(_ours(add_lora(_bare(), rank=4, seed=seed)).values())).lora_A["default"].weight
        for seed in (1, 1, 2)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_acts_in_training_only() -> None:
    model = add_lora(_bare(), rank=4, dropout=0.5)
    _stir(model)
    assert torch.equal(_answer(model.eval()), _answer(model))
    model.train()
    assert not torch.allclose(_answer(model), _answer(model))


def test_dora_runs_pefts_own_forward_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    model = add_lora(_bare(), rank=4, use_dora=True)
    plain = get_peft_model(
        _bare(), LoraConfig(r=4, lora_alpha=4, target_modules=["q_proj", "v_proj"], use_dora=True)
    )
    plain.load_state_dict(model.state_dict())
    for either in (model, plain):
        _stir(either)
    _leave.cache_clear()  # other tests may have heard it
    with caplog.at_level(logging.INFO, "netllm_adapt"):
        torch.testing.assert_close(_answer(model), _answer(plain))
    assert [r.message for r in caplog.records] == [
        "PEFT's own forward pass serves layers with DoraLinearVariant."
    ]


def test_several_active_adapters_add_up_as_in_peft() -> None:
    model = add_lora(_bare(), rank=4, alpha=8)
    _stir(model)
    second = copy.deepcopy(model.peft_config["default"])
    model.add_adapter("second", second)
    _stir(model)
    model.base_model.set_adapter(["default", "second"])
    both = _answer(model)
    for layer in _ours(model).values():  # twice the same matrices are one of twice the scale
        layer.lora_A["second"].load_state_dict(layer.lora_A["default"].state_dict())
        layer.lora_B["second"].load_state_dict(layer.lora_B["default"].state_dict())
    twice = _answer(model)
    assert not torch.allclose(both, twice)
    model.base_model.set_adapter("default")
    for layer in _ours(model).values():
        layer.scaling["default"] *= 2
    torch.testing.assert_close(_answer(model), twice, rtol=1e-4, atol=1e-5)


class _Quantised(nn.Linear):
    """Stands for layers that only PEFT's own classes understand."""


def test_subclasses_of_linear_keep_pefts_own_layer() -> None:
    bare = _bare()
    for block in bare.layers:
        block.self_attn.q_proj.__class__ = _Quantised
    model = add_lora(bare, rank=4)
    kinds = {n.rsplit(".", 1)[-1]: type(m) for n, m in model.named_modules() if "proj" in n[-8:]}
    assert kinds["q_proj"] is Linear
    assert kinds["v_proj"] is LoraLinear


class _Packed(nn.Linear):
    """Its weight is stored as bitsandbytes stores 4 bits: in one column."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=False)
        self.weight = nn.Parameter(base.weight.detach().reshape(-1, 1), requires_grad=False)


def test_the_rank_is_held_against_a_packed_layers_true_sides() -> None:
    bare = _bare()
    for layer in bare.layers:
        layer.self_attn.q_proj = _Packed(layer.self_attn.q_proj)
    assert "q_proj.lora_A" in "".join(add_lora(bare, rank=4).state_dict())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"rank": 1.5},
            r"`rank` must be a whole number, got 1\.5 for layers\.0\.self_attn\.q_proj",
        ),
        ({"rank": 2, "alpha": -1}, r"`alpha` must be .* above 0, got -1 for layers\.0\."),
        ({"rank": True}, "`rank` must be a whole number, got True for layers"),
        ({"rank": 2, "alpha": 0}, "`alpha` must be .* above 0, got 0"),
        (
            {"rank": 2, "rank_pattern": {"layers.1.self_attn.v_proj": 33}},
            r"at most 32, the smaller side of layers\.1\.self_attn\.v_proj, got 33",
        ),
        ({"rank": 2, "rank_pattern": {"v_proj": 0}}, r"at least 1, got 0 for layers\.0\..*v_proj"),
        ({"rank": 2, "alpha_pattern": {"v_proj": -2}}, r"got -2 for layers\.0\.self_attn\.v_proj"),
    ],
)
def test_ranks_and_alphas_that_mean_nothing_name_the_layer(
    options: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        add_lora(_bare(), **options)


def test_a_layer_may_have_a_rank_of_its_own() -> None:
    model = add_lora(_bare(), rank=33, rank_pattern={"v_proj": 32})
    ranks = {n.rsplit(".", 1)[-1]: layer.r["default"] for n, layer in _ours(model).items()}
    assert ranks == {"q_proj": 33, "v_proj": 32}


@pytest.mark.parametrize("how", ["merged", "disabled", "dora"])
def test_what_peft_computes_names_the_layer_of_a_wrong_input_too(how: str) -> None:
    model = add_lora(_bare(), rank=2, use_dora=how == "dora")
    name, layer = next(iter(_ours(model).items()))
    if how == "merged":
        model.merge_adapter()
    elif how == "disabled":
        model.base_model.disable_adapter_layers()
    name = name.removeprefix("base_model.model.")
    with pytest.raises(ValueError, match=f"^{name}: `x` must end with width 64, got"):
        layer(torch.ones(2, 63))
    with pytest.raises(ValueError, match=f"^{name}: `x` must end with width 64, got"):
        layer(torch.ones(()))
    with pytest.raises(ValueError, match=f"^{name}: `x` must have the dtype"):
        layer(torch.ones(2, 64, dtype=torch.float16))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 64, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("rank", [0, -3])
def test_a_rank_below_one_is_refused(rank: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {rank} for layers.0.self_attn.q_proj"):
        add_lora(_bare(), rank=rank)


def test_a_rank_above_the_layers_size_names_the_layer() -> None:
    with pytest.raises(ValueError, match=r"at most 32, .* of layers\.0\.self_attn\.v_proj, got 33"):
        add_lora(_bare(), rank=33)


def test_a_type_without_defaults_lists_its_linear_layers() -> None:
    bare = _bare()
    bare.config.model_type = "nobody"
    with pytest.raises(ValueError, match=r"'nobody' have no default .*down_proj, gate_proj,"):
        add_lora(bare, rank=2)
    assert len(_ours(add_lora(bare, rank=2, targets=["gate_proj"]))) == 4


@pytest.mark.parametrize(
    ("targets", "layers"),
    [
        (["layers.0.self_attn.q_proj"], {"layers.0.self_attn.q_proj"}),
        (
            ["1.self_attn.q_proj", "0.mlp.up_proj"],
            {"layers.1.self_attn.q_proj", "layers.0.mlp.up_proj"},
        ),
        (["self_attn.o_proj"], {f"layers.{n}.self_attn.o_proj" for n in range(4)}),
    ],
)
def test_targets_of_some_layers_adapt_no_other(
    targets: list[str], layers: set[str], tmp_path: Path
) -> None:
    model = add_lora(_bare(), rank=2, targets=targets)
    assert {layer.title for layer in _ours(model).values()} == layers
    save_lora(model, tmp_path)
    loaded = load_lora(_bare(), tmp_path)
    assert {layer.title for layer in _ours(loaded).values()} == layers


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (["q_proj", "qq_proj"], "'qq_proj' names none"),
        ("q_proj", "a list or 'all-linear'"),
        ([], "at least one of down_proj, .*, got none"),
    ],
)
def test_targets_that_name_no_layer_are_refused(targets: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        add_lora(_bare(), rank=2, targets=targets)


@pytest.mark.parametrize("name", ["", "a.b", "forward", 5])
def test_names_that_no_module_can_have_are_refused(name: Any, tmp_path: Path) -> None:
    save_lora(add_lora(_bare(), rank=2), tmp_path)
    for make in (
        lambda: add_lora(_bare(), rank=2, name=name),
        lambda: load_lora(_bare(), tmp_path, name=name),
    ):
        with pytest.raises(ValueError, match=f"`name` must be a string .* got {name!r}"):
            make()


def test_a_second_adapter_needs_another_name() -> None:
    model = add_lora(_bare(), rank=2)
    with pytest.raises(ValueError, match="has an adapter 'default' already"):
        add_lora(model, rank=2)
    with pytest.raises(ValueError, match="must be plain"):
        add_lora(model.get_base_model(), rank=2)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert add_lora(model, rank=3, targets="all-linear", name="second") is model
    both = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained < both
    assert all(".default." in n or ".second." in n for n in both)
    assert len([n for n in both if ".second." in n]) == 2 * 28
    assert {layer.lora_A["second"].weight.shape[0] for layer in _ours(model).values()} == {3}
    assert len(_ours(model)) == 28


def test_adapters_are_loaded_beside_each_other(tmp_path: Path) -> None:
    for name, rank in (("abr", 2), ("vp", 5)):
        model = add_lora(_bare(), rank=rank, seed=rank)
        _stir(model)
        save_lora(model, tmp_path / name)
    both = load_lora(_bare(), tmp_path / "abr", name="abr").eval()
    assert load_lora(both, tmp_path / "vp", name="vp", trainable=True) is both
    assert not both.training
    assert all(".vp." in n for n, p in both.named_parameters() if p.requires_grad)
    for name in ("abr", "vp"):
        both.base_model.set_adapter(name)
        torch.testing.assert_close(_answer(both), _answer(load_lora(_bare(), tmp_path / name)))


def test_a_second_adapter_that_does_not_fit_leaves_the_model_alone(tmp_path: Path) -> None:
    save_lora(add_lora(_bare("tiny-random-gpt2"), rank=2), tmp_path / "other")
    model = add_lora(_bare(), rank=2)
    with pytest.raises(ValueError, match="was it made for another one"):
        load_lora(model, tmp_path / "other", name="other")
    assert list(model.peft_config) == ["default"]
    assert _answer(model).shape == INPUT.shape


def test_one_adapter_is_saved_whatever_its_name_in_the_model(tmp_path: Path) -> None:
    model = add_lora(_bare(), rank=2, name="abr")
    add_lora(model, rank=3, name="vp")
    _stir(model)
    save_lora(model, tmp_path / "active")
    save_lora(model, tmp_path / "named", name="vp")
    for folder, name in (("active", "abr"), ("named", "vp")):
        assert not [path for path in (tmp_path / folder).iterdir() if path.is_dir()]
        model.base_model.set_adapter(name)
        assert torch.equal(_answer(load_lora(_bare(), tmp_path / folder)), _answer(model))
    with pytest.raises(ValueError, match=r"one of the model's adapters \['abr', 'vp'\], got 'cjs'"):
        save_lora(model, tmp_path / "cjs", name="cjs")
    model.base_model.set_adapter(["abr", "vp"])
    with pytest.raises(ValueError, match="must have one active adapter"):
        save_lora(model, tmp_path / "both")
    with pytest.raises(ValueError, match="must hold an adapter, got a LlamaModel"):
        save_lora(_bare(), tmp_path / "none")


def test_a_folder_without_an_adapter_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"adapter_config\.json must exist"):
        load_lora(_bare(), tmp_path)


@pytest.mark.parametrize("other", ["tiny-random-gpt2", "tiny-random-opt", "tiny-random-gemma3"])
def test_an_adapter_of_another_backbone_is_refused(other: str, tmp_path: Path) -> None:
    save_lora(add_lora(_bare(), rank=2), tmp_path)
    layer = r"layers\.0\.self_attn\.[qv]_proj"
    with pytest.raises(ValueError, match=f"was it made for another one.*{layer}"):
        load_lora(_bare(other), tmp_path)


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(
    ("other", "layer"),
    [
        ("tiny-random-llama", r"layers\.2\.self_attn\.q_proj"),
        ("tiny-random-gpt2", r"h\.0\.attn\.c_attn"),
        ("tiny-random-opt", r"decoder\.layers\.0\.self_attn\.q_proj"),
    ],
)
def test_layers_that_the_backbone_has_not_are_named(
    other: str, layer: str, beside: bool, tmp_path: Path
) -> None:
    targets = ["c_attn" if other.endswith("gpt2") else "q_proj"]
    save_lora(add_lora(_bare(other), rank=2, targets=targets), tmp_path)
    shallow: Any = load_backbone("tiny-random-llama", layers=2, dtype="float32")
    if beside:
        shallow = add_lora(shallow, rank=2)
    with pytest.raises(ValueError, match=f"another one.*adapts {layer}, which this backbone"):
        load_lora(shallow, tmp_path, name="other")
    assert beside == bool(_ours(shallow))


def test_matrices_of_which_the_configuration_knows_nothing_are_named(tmp_path: Path) -> None:
    save_lora(add_lora(_bare(), rank=2), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": ["q_proj"]}))
    with pytest.raises(ValueError, match=r"layers\.0\.self_attn\.v_proj"):
        load_lora(_bare(), tmp_path)


def test_a_backbone_with_offloaded_weights_is_refused(tmp_path: Path) -> None:
    _bare().save_pretrained(tmp_path / "model")
    parts = ("embed_tokens", "layers.0", "layers.1", "layers.2", "layers.3", "norm", "rotary_emb")
    places = {part: "disk" if part == "layers.1" else "cpu" for part in parts}
    offloaded = AutoModel.from_pretrained(
        tmp_path / "model", device_map=places, offload_folder=tmp_path / "disk"
    )
    with pytest.raises(ValueError, match="must lie on one device whole"):
        add_lora(offloaded, rank=4)
