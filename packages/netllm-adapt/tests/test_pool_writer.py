"""What a pool takes, how it goes on, and what a writer that fails leaves."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from netllm_adapt.pool import Episode, Pool, PoolWriter, collections_of
from pool_parts import OLD, assert_same, ended, make_episode, names, write_pool


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ended": "crashed"}, "`ended` must be one of .*'terminated'.*, got 'crashed'"),
        ({"final": {"level": 3}}, r"`final` must have the fields of .*'final\.buffer_s'"),
        ({"final": {}}, "`final` must have the fields of"),
        (
            {"final": {"buffer_s": np.zeros(2), "sizes_mb": np.zeros((3, 2)), "level": 3}},
            r"`final` must .* 'final\.buffer_s' is float64\[step, 2\] instead of float64\[step\]",
        ),
    ],
)
def test_an_end_that_does_not_fit_is_refused(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        write_pool(tmp_path, [ended(0, **changes)])
    assert names(tmp_path) == []


def test_a_pool_of_an_earlier_version_is_read_and_not_continued(tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    before = names(tmp_path)
    with pytest.raises(ValueError, match="must have version 3 to be continued, got version 2"):
        write_pool(tmp_path, [make_episode(0)])
    assert names(tmp_path) == before
    assert len(Pool(tmp_path)) == 2


def test_a_pool_is_continued_with_other_policies(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(number) for number in range(5)], shard_episodes=2)
    pool = write_pool(tmp_path, [make_episode(5, policy="mpc")], setting={"rtt_s": 0.02})
    assert names(tmp_path)[1:] == [f"shard-0000{number}.parquet" for number in range(4)]
    assert [episode.id for episode in pool] == [f"trace-{number}" for number in range(6)]
    first, second = pool.provenance["collections"]
    assert (first["first_shard"], first["setting"]) == ("shard-00000.parquet", "default")
    assert (second["first_shard"], second["setting"]) == ("shard-00003.parquet", {"rtt_s": 0.02})
    assert first["command"] == "by hand"
    assert first["packages"]["pyarrow"] == pa.__version__


def test_a_collection_that_was_cut_off_is_continued_as_one(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    write_pool(tmp_path, [make_episode(1), make_episode(2)], shard_episodes=1)
    assert Pool(tmp_path).collected == [1, 2]
    pool = write_pool(tmp_path, [make_episode(3)], continues=True)
    assert (pool.collected, len(pool.provenance["collections"])) == ([1, 3], 2)


def test_an_error_in_the_block_keeps_complete_shards_only(tmp_path: Path) -> None:
    bad = make_episode(3, actions=np.zeros(1))
    with pytest.raises(ValueError, match="episode 'trace-3': 'actions' must have one entry"):
        write_pool(tmp_path, [*map(make_episode, range(3)), bad], shard_episodes=2)
    assert [episode.id for episode in Pool(tmp_path)] == ["trace-0", "trace-1"]


def test_a_killed_writer_leaves_a_readable_pool(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    (tmp_path / ".shard-00001.parquet.partial").write_bytes(b"PAR1 half a shard")
    assert len(Pool(tmp_path)) == 1
    assert len(write_pool(tmp_path, [make_episode(1)])) == 2
    assert names(tmp_path) == ["_provenance.json", "shard-00000.parquet", "shard-00001.parquet"]


def test_a_pool_being_written_has_no_second_writer_and_any_reader(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    refused = []

    def second() -> None:
        try:
            write_pool(tmp_path, [make_episode(9)])
        except BlockingIOError as error:
            refused.append(str(error))

    with PoolWriter(tmp_path, task="abr", setting="default", provenance={}) as writer:
        thread = Thread(target=second)
        thread.start()
        thread.join()
        writer.add(make_episode(1))
        assert len(Pool(tmp_path)) == 1
        assert len(pq.read_table(tmp_path)) == 1
    assert "must have one writer at a time" in refused[0]
    assert [one.id for one in Pool(tmp_path)] == ["trace-0", "trace-1"]
    assert names(tmp_path) == ["_provenance.json", "shard-00000.parquet", "shard-00001.parquet"]


def test_every_shard_is_told_of_before_it_is_there(tmp_path: Path) -> None:
    seen = []
    replace = os.replace

    def watched(source: Any, target: Any) -> None:
        replace(source, target)
        seen.append(sum(held for _, held in collections_of(tmp_path)))  # raises for nobody's

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", watched)
        write_pool(tmp_path, [make_episode(0), make_episode(1)], shard_episodes=1)
    assert seen == [0, 1, 2]


def test_a_provenance_that_could_not_be_read_again_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`provenance` must say .* `\$\.episodes`"):
        write_pool(tmp_path / "pool", [], provenance={"episodes": "many"})
    assert names(tmp_path) == []


FILL_THE_DISK = """
import resource, sys
import numpy as np
from netllm_adapt.pool import Episode, PoolWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
noise = np.random.default_rng(0).random((1000, 6))
episode = Episode(id="big", policy="ppo", seed=0, observations={"noise": noise},
                  actions=np.zeros(1000), rewards=np.zeros(1000))
try:
    with PoolWriter(sys.argv[1], task="abr", setting="default", provenance={}) as writer:
        writer.add(episode)
except OSError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file size are POSIX's")
@pytest.mark.parametrize("before", [0, 1])
def test_a_full_disk_leaves_nothing_half_visible(tmp_path: Path, before: int) -> None:
    noise = np.zeros((1, 6))
    small = Episode(
        id="small",
        policy="ppo",
        seed=0,
        observations={"noise": noise},
        actions=np.zeros(1),
        rewards=np.zeros(1),
    )
    if before:
        write_pool(tmp_path, [small])
    listing = names(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", FILL_THE_DISK, tmp_path], capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "File too large; what was there before is unchanged. Free space" in run.stderr
    assert "then collect the missing episodes again" in run.stderr
    assert str(tmp_path / f"shard-0000{before}.parquet") in run.stderr
    assert names(tmp_path) == listing
    if before:
        assert_same(Pool(tmp_path)[0], small)


def test_an_episode_of_other_fields_is_refused(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    with pytest.raises(
        ValueError,
        match=r"episode 'trace-1' .* 'observation\.level' is missing instead of int64\[step\]; "
        r"'observation\.rate' is float64\[step\] instead of absent",
    ):
        write_pool(
            tmp_path,
            [
                make_episode(
                    1,
                    observations={
                        "buffer_s": np.zeros(5),
                        "sizes_mb": np.zeros((5, 3, 2), np.float32),
                        "rate": np.zeros(5),
                    },
                )
            ],
        )
    assert len(Pool(tmp_path)) == 1


def test_a_pool_of_another_task_is_not_continued(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    with pytest.raises(ValueError, match=r"must hold the task 'abr' .*, got 'vp'"):
        write_pool(tmp_path, [make_episode(1)], task="vp")


def test_a_folder_of_something_else_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("chapter one")
    with pytest.raises(FileExistsError, match=r"a pool, got a folder that holds 'thesis\.tex'"):
        write_pool(tmp_path, [make_episode(0)])
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": np.zeros(4)}, r"'actions' must have one entry per reward, 5, .* shape \(4,\)"),
        ({"labels": np.zeros(())}, r"'labels' must have one entry per reward, 5, .* shape \(\)"),
        ({"rewards": np.zeros(0)}, "at least one"),
        ({"actions": np.array(["a"] * 5)}, "'actions' must hold booleans, integers or floats"),
        ({"actions": np.zeros((5, 0))}, "no empty axis"),
        ({"meta": {"array": np.zeros(2)}}, "`meta` must be ready for JSON, but Object of type"),
        ({"meta": {"qoe": [float("nan")]}}, "'trace-0': `meta` must be ready for JSON, but Out of"),
        ({"id": 5}, "episode 5: `id` must be a string, got 5"),
        ({"policy": None}, "'trace-0': `policy` must be a string, got None"),
        ({"seed": None}, "'trace-0': `seed` must be a whole number of 64 bits, got None"),
        ({"seed": 1.5}, r"`seed` must be a whole number of 64 bits, got 1\.5"),
        ({"seed": 2**63}, "`seed` must be a whole number of 64 bits, got 9223372036854775808"),
    ],
)
def test_an_episode_that_cannot_be_stored_is_refused(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        write_pool(tmp_path, [make_episode(0, **changes)])
    assert names(tmp_path) == []


def test_a_refused_episode_leaves_those_before_it(tmp_path: Path) -> None:
    with PoolWriter(tmp_path, task="abr", setting="default", provenance={}) as writer:
        writer.add(make_episode(0, seed=np.int64(7)))
        with pytest.raises(ValueError, match="`seed` must be"):
            writer.add(make_episode(1, seed=2**63))
    assert [(e.id, e.seed) for e in Pool(tmp_path)] == [("trace-0", 7)]


def test_a_provenance_that_is_not_ready_for_json_is_refused_before_collecting(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValueError, match=r"`provenance` must be ready for JSON, .* PosixPath"):
        write_pool(tmp_path / "pool", [], provenance={"data": tmp_path})
    assert names(tmp_path) == []


def test_a_shard_holds_at_least_one_episode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`shard_episodes` must be at least 1, got 0"):
        write_pool(tmp_path, [], shard_episodes=0)
