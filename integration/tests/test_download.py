import hashlib
import json
import pickle
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from netllm.data import download as data
from netllm_sims.abr import published_starts

TEST_STARTS = "abr/traces/fcc-test_mahimahi_ptrs.json"
TRAIN_STARTS = "abr/traces/fcc-train_generated_ptrs.json"
PATHS = ("abr/traces/fcc-test/one", "abr/videos/video1/video_size_0", "vp/Jin2022.zip")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def public(tmp_path, monkeypatch):
    """A source on this machine, laid out like the public one, and a registry of three files."""
    published = {
        "traces/test/fcc-test/one": b"0.0 1.0\n",
        "videos/video1_sizes/video_size_0": b"181801\n",
    }
    contents = [*published.values(), b"a converted file"]
    with serving(published, dict(zip(PATHS, contents, strict=True)), tmp_path, monkeypatch) as root:
        yield root


@contextmanager
def serving(published, registered, tmp_path, monkeypatch):
    """The public source of these files, and a registry of those."""
    root = tmp_path / "public"
    for path, content in published.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    registry = tmp_path / "registry.txt"
    registry.write_text(
        "".join(
            f"{path} {hashlib.sha256(content).hexdigest()}\n"
            for path, content in registered.items()
        )
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(data, "REGISTRY", registry)
    monkeypatch.setattr(data, "_ABR", f"http://127.0.0.1:{server.server_port}")
    yield root
    server.shutdown()
    server.server_close()


@pytest.fixture
def abr(tmp_path, monkeypatch):
    """Small published traces and a video, with lists of start pointers as they must be."""
    traces = {f"test/fcc-test/{name}": trace(i) for i, name in enumerate("ab")}
    traces |= {f"train/fcc-train/{name}": trace(9 + i) for i, name in enumerate("bdac")}
    videos = {f"video1_sizes/video_size_{level}": b"90000\n" * 49 for level in range(6)}
    published = {f"traces/{path}": content for path, content in traces.items()}
    published |= {f"videos/{path}": content for path, content in videos.items()}
    registered = {f"abr/traces/{path.split('/', 1)[1]}": one for path, one in traces.items()}
    registered |= {f"abr/videos/{path.replace('_sizes', '')}": b for path, b in videos.items()}
    random = np.random.RandomState(998244353)
    train = [int(random.randint(1, 3 + 9 + i)) for i in (2, 0, 3, 1)]  # a, b, c, d
    for path, starts, names, description in (
        (TEST_STARTS, [2, 1], ["a", "b"], published_starts.CONVERTED),
        (TRAIN_STARTS, train, ["a", "b", "c", "d"], published_starts.DRAWN),
    ):
        document = {"description": description, "ptrs": starts, "files": names}
        registered[path] = json.dumps(document, indent=0).encode()
    published["traces/test/fcc-test/mahimahi_ptrs.pkl"] = pickle.dumps([2, 1], protocol=3)
    with serving(published, registered, tmp_path, monkeypatch) as root:
        yield root


def trace(number):
    """A trace of `3 + number` points."""
    points = enumerate(np.random.default_rng(number).uniform(1, 4, 3 + number))
    return "".join(f"{5 * i} {mbps:.3f}\n" for i, mbps in points).encode()


def states(findings):
    return {finding.path: finding.state for finding in findings}


def test_what_is_public_is_fetched_and_what_was_converted_is_listed_as_missing(public, tmp_path):
    findings = data.fetch(tmp_path / "data")
    assert states(findings) == dict(zip(PATHS, ("good", "good", "missing"), strict=True))
    assert findings[2].address is None
    assert (tmp_path / "data" / PATHS[0]).read_bytes() == b"0.0 1.0\n"


def test_a_download_with_another_hash_is_refused_and_not_kept(public, tmp_path):
    (public / "traces/test/fcc-test/one").write_bytes(b"0.0 9.9\n")
    with pytest.raises(ValueError, match="hash"):
        data.fetch(tmp_path / "data", ["abr"])
    assert not (tmp_path / "data" / PATHS[0]).exists()


def test_a_file_that_differs_is_reported_and_left_alone(public, tmp_path):
    file = tmp_path / "data" / PATHS[0]
    file.parent.mkdir(parents=True)
    file.write_bytes(b"mine\n")
    assert states(data.fetch(tmp_path / "data", ["abr"]))[PATHS[0]] == "differs"
    assert file.read_bytes() == b"mine\n"


def test_a_source_that_cannot_be_reached_is_an_error_that_names_it(public, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "_ABR", "http://127.0.0.1:9")
    with pytest.raises(OSError, match=r"127.0.0.1:9/traces/test/fcc-test/one cannot be"):
        data.fetch(tmp_path / "data")


def test_start_pointers_are_made_from_what_was_fetched(abr, tmp_path):
    findings = data.fetch(tmp_path / "data", ["abr"])
    assert {finding.state for finding in findings} == {"good"}
    assert json.loads((tmp_path / "data" / TEST_STARTS).read_text())["ptrs"] == [2, 1]
    assert not list((tmp_path / "data").rglob("*.pkl"))


def test_a_fetched_folder_runs_the_default_setting(abr, tmp_path, netllm):
    folder = tmp_path / "data"
    assert netllm("data", "fetch", "abr", "--data", folder)[0] == 0
    code, out, _ = netllm("test", "abr", "--policy", "bba", "--data", folder, "--json")
    assert code == 0
    (result,) = json.loads(out)["results"]
    assert [one["id"] for one in result["episodes"]] == ["a", "b"]


def test_no_start_pointers_are_made_for_other_traces(abr, tmp_path, netllm):
    own = tmp_path / "data/abr/traces/fcc-train/c"
    own.parent.mkdir(parents=True)
    own.write_text("0 1\n9 2\n")
    code, out, _ = netllm("data", "fetch", "abr", "--data", tmp_path / "data")
    assert code == 1
    assert f"once abr/traces/fcc-train is whole and unchanged: {TRAIN_STARTS}" in out
    assert own.read_text() == "0 1\n9 2\n"
    assert not (tmp_path / "data" / TRAIN_STARTS).exists()
    assert (tmp_path / "data" / TEST_STARTS).exists()


@pytest.mark.parametrize(
    ("pickled", "says"),
    [
        (pickle.dumps([1, 2]), "registered sha256"),
        (pickle.dumps([2, "1"]), "whole numbers only, got '1'"),
        (pickle.dumps({2: 1}), "must hold a list, got a dict"),
        (b"cposix\nsystem\n(S'touch ran'\ntR.", "asks for `posix.system`"),
        (b"no pickle", "whole numbers only"),
        (pickle.dumps(list(range(40_000))), "must be small"),
    ],
)
def test_another_pickle_is_refused_and_runs_nothing(abr, tmp_path, monkeypatch, pickled, says):
    monkeypatch.chdir(tmp_path)
    (abr / "traces/test/fcc-test/mahimahi_ptrs.pkl").write_bytes(pickled)
    with pytest.raises(ValueError, match=says):
        data.fetch(tmp_path / "data", ["abr"])
    assert not (tmp_path / "data" / TEST_STARTS).exists()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    "held", [[3, 70000], (3, 70000), list(np.array([3, 70000])), np.array([3, 70000], ">i4")]
)
def test_pickled_numbers_are_read_whoever_wrote_them(held, protocol):
    assert published_starts.numbers(pickle.dumps(held, protocol=protocol)) == [3, 70000]


def test_an_array_that_claims_more_numbers_than_its_pickle_holds_is_refused():
    class Claim:
        def __reduce__(self):
            make, _, _ = np.zeros(1).__reduce__()
            return make, (np.ndarray, (10_000_000,), b"q")

    with pytest.raises(ValueError, match="must hold a list, got a ndarray"):
        published_starts.numbers(pickle.dumps(Claim()))


def test_the_published_start_pointers_are_made_byte_for_byte(real_data):
    lines = [line.split() for line in data.REGISTRY.read_text().splitlines()]
    for path, digest in lines:
        if path.endswith("_ptrs.json"):
            folder = data.made_from(path)
            names = [one.removeprefix(f"{folder}/") for one, _ in lines if f"{folder}/" in one]
            if "generated" in path:
                made = published_starts.drawn(real_data / folder, names)
            else:
                known = json.loads((real_data / path).read_text())["ptrs"]
                made = published_starts.converted(pickle.dumps(known), names)
            assert hashlib.sha256(made).hexdigest() == digest


def test_a_missing_list_of_start_pointers_says_what_to_do(abr, tmp_path, netllm):
    folder = tmp_path / "data"
    data.fetch(folder, ["abr"])
    (folder / TRAIN_STARTS).unlink()
    code, _, err = netllm("test", "abr", "--policy", "bba", "--data", folder)
    assert code == 2
    assert f"`netllm data fetch abr --data {folder}` makes it" in err


def test_a_task_without_data_is_answered_with_the_known_ones(public, tmp_path):
    with pytest.raises(ValueError, match="Did you mean abr"):
        data.fetch(tmp_path / "data", ["abs"])


def test_a_folder_that_is_not_there_cannot_be_checked(tmp_path):
    with pytest.raises(NotADirectoryError, match="no such data folder"):
        data.check(tmp_path / "nothing")


def test_every_registered_file_has_an_origin_and_a_hash():
    lines = [line.split() for line in data.REGISTRY.read_text().splitlines()]
    assert len(lines) == 510
    for path, digest in lines:
        (origin,) = [one for one in data.SOURCES if path.startswith(one.prefix)]
        assert origin.licence
        assert len(bytes.fromhex(digest)) == 32


def test_only_files_of_the_public_repository_have_an_address():
    assert data.address("abr/traces/fcc-valid/x").endswith("data/traces/valid/fcc-valid/x")
    assert data.address("abr/videos/video2/video_size_3").endswith(
        "videos/video2_sizes/video_size_3"
    )
    assert data.address("abr/traces/fcc-test_mahimahi_ptrs.json") is None
    assert data.address("abr/weights/genet.npz") is None


def test_the_real_data_is_what_the_registry_says(real_data):
    assert {finding.state for finding in data.check(real_data)} == {"good"}


def test_the_program_checks_a_folder(public, tmp_path, netllm):
    (tmp_path / "data").mkdir()
    code, out, _ = netllm("data", "check", "--data", tmp_path / "data")
    assert code == 1
    assert "licence: MIT as redistributed in the NetLLM repository" in out
    assert "converted files, in no public source: vp/Jin2022.zip" in out


def test_the_program_fetches_what_is_public(public, tmp_path, netllm):
    code, out, _ = netllm("data", "fetch", "abr", "--data", tmp_path / "data")
    assert code == 0
    assert "NETLLM_DATA=" in out
    assert netllm("data", "check", "abr", "--data", tmp_path / "data")[0] == 0
