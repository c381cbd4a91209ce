"""Own data keep their identity from the pool by way of the checkpoint to the report."""

import json
import shutil

import netllm as library
import pytest
from netllm_adapt import Pool

TINY = [
    *("--backbone", "tiny-random", "--steps", "2", "--batch", "2", "--layers", "1", "--rank", "2"),
    *("--dtype", "float32", "--validate-every", "2", "--validation", "2"),
]


def write_traces(folder, numbers):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        lines = (f"{10 * t} {1 + number + t % 3}\n" for t in range(30))
        (folder / f"{number:02d}.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def run(netllm, caplog):
    """One command: exit code, standard output, and what is said beside it."""

    def run(*arguments):
        caplog.clear()
        code, out, err = netllm(*arguments)
        return code, out, err + caplog.text

    return run


@pytest.fixture
def traces(tmp_path):
    return write_traces(tmp_path / "my-traces", range(10))


def collect(traces, out, *more):
    command = ("rl-collect", "abr", "--policy", "bba", "--setting", "synthetic")
    return *command, "--set", f"traces={traces}", "--episodes", 6, "--out", out, *more


def digest(traces):
    from netllm_sims.abr import setting

    return setting("synthetic", traces=traces).sources[0].sha256


def test_own_data_keep_their_name_and_digest_from_the_pool_to_the_card(run, traces, tmp_path):
    code, _, err = run(*collect(traces, tmp_path / "pool"))
    assert code == 0, err
    assert "my-traces has no folders train, valid and test" in err
    (collection,) = Pool(tmp_path / "pool").provenance["collections"]
    first, second = collection["sources"]
    assert (first["kind"], first["name"], first["files"]) == ("traces", "my-traces", 10)
    assert first["sha256"] == digest(traces)
    assert second["origin"] == "generated"
    assert collection["data"] == "own traces, generated video"
    told = run("pool", "info", tmp_path / "pool")[1]
    assert f"    traces: my-traces (10 files, sha256 {digest(traces)[:8]}…)\n" in told
    assert collection["contents"][0] not in told
    folder = tmp_path / "run"
    code, _, err = run("adapt", "abr", "--pool", tmp_path / "pool", "--out", folder, *TINY)
    assert code == 0, err
    assert "seeded generators of video in place of real data" in err
    config = json.loads((folder / "best" / "config.json").read_text())
    assert config["identity"]["sources"] == collection["sources"]
    assert config["identity"]["learned"] == collection["contents"]
    assert len(config["identity"]["validated"]) == 2
    card = (folder / "best" / "README.md").read_text()
    named = f"my-traces (10 files, sha256 {digest(traces)[:8]}…)"
    assert f"# abr / {named} on tiny-random" in card
    assert f"| data | {named}, generated video |" in card
    assert "identity" not in card
    command = ("test", "abr", "--checkpoint", folder, "--policy", "bba", "--setting", "synthetic")
    code, told, _ = run(*command, "--set", f"traces={traces}", "--out", tmp_path / "report")
    assert code == 0
    assert f"abr / {named}, 2 episodes" in told
    assert "has seeded generators of video in place of real data" in told
    assert "learned from" not in told
    document = json.loads((tmp_path / "report" / "results.json").read_text())
    assert document["provenance"]["sources"]["synthetic"][0]["sha256"] == digest(traces)
    assert document["provenance"]["data"]["synthetic"] == "own traces, generated video"
    assert document["results"][0]["data"] == named


def test_who_is_tested_on_what_it_learned_from_is_marked(run, traces, tmp_path):
    whole = "split=false"
    assert run(*collect(traces, tmp_path / "pool", "--set", whole))[0] == 0
    folder = tmp_path / "run"
    assert run("adapt", "abr", "--pool", tmp_path / "pool", "--out", folder, *TINY)[0] == 0
    report = library.test(
        "abr",
        checkpoint=folder,
        policy="bba",
        setting="synthetic",
        set={"traces": str(traces), "split": False},
    )
    rival, ours = report.results
    known = len(Pool(tmp_path / "pool").provenance["collections"][0]["contents"])
    assert (rival.learned, ours.learned) == (0, known)
    assert 0 < known < 10
    assert report.document()["results"][1]["learned"] == known

    assert f"(learned from {known} of them)" in report.markdown()
    assert any(f"trained on the content of {known} of the 10 episodes" in x for x in report.notes)


def test_a_collection_does_not_go_on_with_other_data_of_the_same_name(run, traces, tmp_path):
    pool = tmp_path / "pool"
    assert run(*collect(traces, pool))[0] == 0
    before = digest(traces)[:8]
    write_traces(traces, [10])
    code, _, err = run(*collect(traces, pool, "--append"))
    assert code == 2
    assert "made of other data: traces my-traces (10 files, sha256" in err
    assert before in err
    assert digest(traces)[:8] in err
    assert len(Pool(pool)) == 6
    code, _, err = run(*collect(traces, pool, "--append", "--seed", "1"))
    assert code == 0
    assert "has episodes of other data by the same name: traces my-traces (10 files" in err
    assert len(Pool(pool)) == 12


def test_a_pool_is_not_validated_on_other_data_that_nobody_asked_for(run, traces, tmp_path):
    assert run(*collect(traces, tmp_path / "pool"))[0] == 0
    before = digest(traces)[:8]
    write_traces(traces, [0, 11])
    command = ("adapt", "abr", "--pool", tmp_path / "pool", "--out", tmp_path / "run", *TINY)
    code, _, err = run(*command)
    assert code == 2
    assert "The pool was collected on other data than it is validated on: traces my-tra" in err
    assert before in err
    assert digest(traces)[:8] in err
    assert not (tmp_path / "run").exists()
    code, _, err = run(*command, "--set", f"traces={traces}")
    assert code == 0
    assert "The pool was collected on other data" in err


def test_a_checkpoint_that_meets_other_data_of_the_same_name_is_told(run, traces, tmp_path):
    assert run(*collect(traces, tmp_path / "pool"))[0] == 0
    command = ("adapt", "abr", "--pool", tmp_path / "pool", "--out", tmp_path / "run", *TINY)
    assert run(*command)[0] == 0
    other = write_traces(tmp_path / "elsewhere" / "my-traces", range(20, 24))
    before, now = digest(traces)[:8], digest(other)[:8]
    test = ("test", "abr", "--checkpoint", tmp_path / "run", "--setting", "synthetic")
    assert run(*test, "--set", f"traces={traces}")[1].count("other data") == 0
    told = " ".join(run(*test, "--set", f"traces={other}")[1].split())
    assert "it was adapted on other data by the same name: traces my-traces (10 files, " in told
    assert before in told
    assert now in told


def test_a_run_is_not_resumed_on_other_validation_data(run, traces, tmp_path):
    assert run(*collect(traces, tmp_path / "pool"))[0] == 0
    moved = shutil.copytree(traces, tmp_path / "moved" / "my-traces")
    command = ("adapt", "abr", "--pool", tmp_path / "pool", "--out", tmp_path / "run", *TINY)
    assert run(*command)[0] == 0
    assert run(*command, "--resume", "--set", f"traces={moved}")[0] == 0
    write_traces(moved, [3, 12])
    code, _, err = run(*command, "--resume", "--set", f"traces={moved}")
    assert code == 2
    assert f"sha256 {digest(moved)[:8]}" in err


@pytest.fixture
def backbone(tmp_path, monkeypatch):
    """A backbone as if it had been pulled."""
    from netllm_adapt import load_backbone

    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cache" / "backbones" / "smollm2-135m"
    load_backbone("tiny-random").save_pretrained(folder)
    return folder


def test_a_backbone_has_a_digest_that_follows_its_weights(backbone):
    from netllm.data import sources

    first = sources.backbone("smollm2-135m")
    assert (first.kind, first.name, first.files) == ("backbone", "smollm2-135m", 1)
    (backbone / "model.safetensors").write_bytes(b"other")
    assert sources.backbone("smollm2-135m").sha256 != first.sha256
    assert sources.backbone("tiny-random") is None
    assert sources.backbone(str(backbone)).name == "smollm2-135m"


def test_a_checkpoint_on_another_backbone_of_the_same_name_is_told(backbone):
    from types import SimpleNamespace

    from netllm.data import sources
    from netllm.deciders.checkpoint_folder import Facts
    from netllm.verbs.testing import train_test_overlaps
    from netllm_adapt.checkpoint.config import DataIdentity

    identity = DataIdentity(sources=sources.kept([sources.backbone("smollm2-135m")]))
    spec = SimpleNamespace(facts=Facts(identity=identity), checkpoint="run")
    line = SimpleNamespace(spec=spec, setting=SimpleNamespace(name="x"), episodes=[])
    assert list(train_test_overlaps.overlaps([line])) == []
    (backbone / "model.safetensors").write_bytes(b"other")
    (note,) = train_test_overlaps.overlaps([line])
    assert "other data by the same name: backbone smollm2-135m (1 file, sha256 " in note


def test_weights_of_policies_and_checkpoints_have_digests(tmp_path):
    from pathlib import Path

    from netllm.deciders.policy_spec import PolicySpec, weight_sources

    (tmp_path / "mine.npz").write_bytes(b"weights")
    some = [
        PolicySpec("abr", policy="ppo:mine.npz", home=tmp_path),
        PolicySpec("abr", policy="bba"),
    ]
    shipped = PolicySpec("abr", checkpoint="pretrained", home=Path.cwd())
    own, ours = weight_sources([*some, shipped])
    assert (own.kind, own.name, own.files) == ("weights of ppo", "mine.npz", 1)
    assert (ours.kind, ours.files) == ("checkpoint pretrained", 3)


def test_the_digest_of_a_merged_checkpoint_has_its_backbone(tmp_path, monkeypatch):
    import json

    from netllm.deciders.checkpoint_folder import weights_of
    from netllm.deciders.policy_spec import PolicySpec, weight_sources

    monkeypatch.chdir(tmp_path)
    backbone = tmp_path / "merged" / "backbone" / "model.safetensors"
    backbone.parent.mkdir(parents=True)
    parts = {part: {"name": "abr", "config": {}} for part in ("encoder", "head")}
    config = {"version": 2, "kind": "predictions", "backbone": {"name": "tiny-random"}, **parts}
    (tmp_path / "merged" / "config.json").write_text(json.dumps(config))
    (tmp_path / "merged" / "encoder.safetensors").write_bytes(b"same")
    found = []
    for content in (b"one adapter", b"another one"):
        backbone.write_bytes(content)
        (source,) = weight_sources([PolicySpec("abr", checkpoint="merged")])
        assert source.files == 2
        found.append((weights_of("abr", "merged"), source.sha256))
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]
