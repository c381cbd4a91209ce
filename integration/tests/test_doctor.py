import json

import pytest
from netllm.data import download
from netllm.doctor import examine, size_bytes


@pytest.fixture
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("NETLLM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_it_tells_versions_processor_memory_and_devices(netllm, caches):
    code, out, _ = netllm("doctor", "--json")
    health = json.loads(out)
    assert code == 0
    ours = ("netllm", "netllm-adapt", "netllm-baselines", "netllm-encoders", "netllm-heads")
    assert all(health["versions"][name] for name in (*ours, "netllm-sims", "torch", "peft"))
    assert health["processor"]["threads"] >= 1
    assert 0 < health["memory_free_bytes"] <= health["memory_bytes"]
    assert health["devices"][0]["name"] == "cpu"


def test_what_is_missing_comes_with_the_command_that_mends_it(netllm, caches):
    code, out, _ = netllm("doctor")
    assert code == 0
    assert "netllm backbone pull smollm2-135m" in out
    assert "netllm data fetch" in out


def test_data_that_were_fetched_are_used_once_they_are_named(caches):
    (caches / "data").mkdir(parents=True)
    commands = [one.command for one in examine().missing]
    assert f"export NETLLM_DATA={caches / 'data'}" in commands


def test_files_of_a_data_folder_are_counted_by_their_origin(tmp_path, caches):
    path = next(one for one in download.registered() if one.startswith("abr/videos/"))
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"x")
    health = examine(tmp_path)
    counts = {part.path: part.files for part in health.data}
    assert counts.pop("abr/videos/") == 1
    assert set(counts.values()) == {0}
    assert any(f"netllm data fetch --data {tmp_path}" == one.command for one in health.missing)


def test_caches_are_told_with_their_sizes(caches):
    folder = caches / "backbones" / "one"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(1_000))
    (folder / "link").symlink_to(folder / "weights")
    found = {one.what: one for one in examine().caches}
    assert found["language models"].path == caches / "backbones"
    assert found["language models"].bytes == 1_000
    assert size_bytes(caches / "none") == 0
