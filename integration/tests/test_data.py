import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from netllm import data

PATHS = ("abr/traces/fcc-test/one", "abr/videos/video1/video_size_0", "vp/Jin2022.zip")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def public(tmp_path, monkeypatch):
    """A source on this machine, laid out like the public one, and a registry of three files."""
    root = tmp_path / "public"
    published = {
        "traces/test/fcc-test/one": b"0.0 1.0\n",
        "videos/video1_sizes/video_size_0": b"181801\n",
    }
    for path, content in published.items():
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(content)
    contents = [*published.values(), b"a converted file"]
    registry = tmp_path / "registry.txt"
    registry.write_text(
        "".join(
            f"{path} {hashlib.sha256(content).hexdigest()}\n"
            for path, content in zip(PATHS, contents, strict=True)
        )
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(data, "REGISTRY", registry)
    monkeypatch.setattr(data, "_ABR", f"http://127.0.0.1:{server.server_port}")
    yield root
    server.shutdown()
    server.server_close()


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
        assert data.source(path).licence
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
