"""Pools give back what was put in, and say what is wrong with one that cannot be read."""

import json
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
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from netllm_adapt import Ragged
from netllm_adapt.episodes import digest
from netllm_adapt.pool import Episode, Pool, PoolWriter, collections_of

OLD = Path(__file__).parent / "data" / "pool_version_2"
TYPES = ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64"]


def make_episode(number: int, steps: int = 5, policy: str = "ppo", **changes: Any) -> Episode:
    rng = np.random.default_rng(number)
    episode = {
        "id": f"trace-{number}",
        "policy": policy,
        "seed": number,
        "observations": {
            "buffer_s": rng.random(steps),
            "sizes_mb": rng.random((steps, 3, 2), np.float32),
            "level": rng.integers(0, 6, steps),
        },
        "actions": rng.integers(0, 6, steps),
        "rewards": rng.normal(size=steps),
        "labels": rng.random((steps, 6), np.float32),
        "meta": {"trace": f"norway/{number}.log", "scale": 1.5},
    }
    return Episode(**episode | changes)


def write_pool(path: Path, episodes: list[Episode], **options: Any) -> Pool:
    settings = {"task": "abr", "setting": "default", "provenance": {"command": "by hand"}}
    with PoolWriter(path, **settings | options) as writer:
        for episode in episodes:
            writer.add(episode)
    return Pool(path)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def assert_same(got: Episode, expected: Episode) -> None:
    assert (got.id, got.policy, got.seed) == (expected.id, expected.policy, expected.seed)
    assert got.meta == expected.meta
    assert list(got.observations) == list(expected.observations)
    pairs = [
        (got.actions, expected.actions),
        (got.rewards, expected.rewards),
        *((got.observations[name], expected.observations[name]) for name in expected.observations),
    ]
    if expected.labels is None:
        assert got.labels is None
    else:
        assert got.labels is not None
        pairs.append((got.labels, expected.labels))
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def test_episodes_come_back_as_they_were(tmp_path: Path) -> None:
    episodes = [make_episode(number, steps=number + 1) for number in range(40)]
    pool = write_pool(tmp_path, episodes, shard_episodes=18)
    assert names(tmp_path)[1:] == [f"shard-0000{number}.parquet" for number in range(3)]
    assert len(pool) == 40
    for got, expected in zip(pool, episodes, strict=True):
        assert_same(got, expected)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_every_type_and_shape_comes_back_bit_by_bit(tmp_path: Path, data: st.DataObject) -> None:
    steps = data.draw(st.integers(1, 4))
    field = st.sampled_from(TYPES).flatmap(
        lambda dtype: arrays(
            dtype,
            array_shapes(min_dims=0, max_dims=3, max_side=3).map(lambda shape: (steps, *shape)),
        )
    )
    names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
    episode = make_episode(
        0,
        steps,
        observations=data.draw(st.dictionaries(names, field, max_size=3)),
        actions=data.draw(field),
        labels=data.draw(st.none() | field),
    )
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    assert_same(write_pool(folder, [episode])[0], episode)


def test_a_pool_of_version_2_still_reads() -> None:
    pool = Pool(OLD)
    assert [(one.id, one.policy, one.seed, one.meta) for one in pool] == [
        ("trace-0", "bba", 7, {"qoe": 1.0}),
        ("trace-1", "bba", 7, {"qoe": 1.0}),
    ]
    last = pool[1]
    assert last.observations["buffer_s"].tolist() == [1.0, 2.0, 3.0]
    assert last.observations["stages"].ptr.tolist() == [0, 2, 2, 6]
    assert (last.actions.tolist(), last.rewards.tolist()) == ([0, 1, 2], [0.5, 1.0, 1.5])
    assert pool.provenance["collections"][0]["policies"] == ["bba"]


def ended(number: int, **changes: Any) -> Episode:
    """An episode whose end is known."""
    rng = np.random.default_rng(100 + number)
    final = {"buffer_s": rng.random(), "sizes_mb": rng.random((3, 2), np.float32), "level": 3}
    about = {"final": final, "ended": "truncated", "reason": "too long"}
    return make_episode(number, **about | changes)


def test_the_end_of_an_episode_comes_back_as_it_was(tmp_path: Path) -> None:
    whole = [ended(0), ended(1, ended="terminated", reason="")]
    pool = write_pool(tmp_path, whole)
    for got, expected in zip(pool, whole, strict=True):
        assert (got.ended, got.reason) == (expected.ended, expected.reason)
        assert got.final is not None
        assert expected.final is not None
        assert got.final.keys() == expected.final.keys()
        for name, value in expected.final.items():
            one, other = np.asarray(got.final[name]), np.asarray(value)
            assert (one.dtype, one.shape, one.tobytes()) == (
                other.dtype,
                other.shape,
                other.tobytes(),
            )
    assert pool[0].observations.keys() == {"buffer_s", "sizes_mb", "level"}
    assert digest(pool) == digest(whole) != digest([make_episode(0), make_episode(1)])


@pytest.mark.parametrize("left", [0, 4])
def test_any_number_of_values_may_be_seen_at_the_end(tmp_path: Path, left: int) -> None:
    seen = {"stages": Ragged(np.arange(10).reshape(5, 2), np.array([0, 2, 2, 5]))}
    last = {"stages": np.arange(2 * left).reshape(left, 2)}
    steps = {"actions": np.zeros(3), "rewards": np.zeros(3), "labels": None}
    got = write_pool(tmp_path, [make_episode(0, observations=seen, final=last, **steps)])[0]
    assert got.final is not None
    np.testing.assert_array_equal(got.final["stages"], last["stages"])
    assert got.observations["stages"].ptr.tolist() == [0, 2, 2, 5]


def test_an_episode_whose_end_is_not_known_says_so(tmp_path: Path) -> None:
    for one in (write_pool(tmp_path, [make_episode(0)])[0], Pool(OLD)[0]):
        assert (one.final, one.ended, one.reason) == (None, "", "")


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


def test_any_episode_is_reached_alone(tmp_path: Path) -> None:
    episodes = [make_episode(number) for number in range(50)]
    pool = write_pool(tmp_path, episodes, shard_episodes=20)
    for index in (49, 0, 17, -1, -50, np.int64(20)):
        assert_same(pool[index], episodes[index])
    for index in (50, -51):
        with pytest.raises(IndexError, match=f"holds 50 episodes, got index {index}"):
            pool[index]


def test_an_episode_read_may_be_changed_without_changing_the_pool(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, [make_episode(0)])
    pool[0].actions[:] = 99
    assert_same(pool[0], make_episode(0))


def test_iterating_holds_a_few_groups_of_many_in_memory(tmp_path: Path) -> None:
    image = {"image": np.random.default_rng(0).random((5, 50, 50))}
    pool = write_pool(tmp_path, [make_episode(n, observations=image) for n in range(320)])
    group_bytes = 16 * image["image"].nbytes
    before = pa.total_allocated_bytes()
    assert max(pa.total_allocated_bytes() - before for _ in pool) < 6 * group_bytes


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


def test_info_sums_up_the_pool(tmp_path: Path) -> None:
    episodes = [
        make_episode(0, 2, policy="ppo", rewards=np.array([1.0, 2.0])),
        make_episode(1, 2, policy="ppo", rewards=np.array([4.0, 5.0])),
        make_episode(2, 4, policy="mpc", rewards=np.full(4, 0.25)),
    ]
    info = write_pool(tmp_path, episodes, shard_episodes=2).info()
    assert json.loads(json.dumps(info)) == info
    assert info["policies"] == {
        "ppo": {"episodes": 2, "steps": 4, "reward_mean": 3.0},
        "mpc": {"episodes": 1, "steps": 4, "reward_mean": 0.25},
    }
    assert (info["episodes"], info["steps"], info["shards"]) == (3, 8, 2)
    assert info["return_percentiles"]["0"] == 1.0
    assert info["return_percentiles"]["50"] == 3.0
    assert info["return_percentiles"]["100"] == 9.0
    assert info["fields"]["observation.sizes_mb"] == "float32[step, 3, 2]"
    assert info["bytes"] == sum(path.stat().st_size for path in tmp_path.glob("shard-*"))
    assert (info["task"], info["settings"], info["labels"]) == ("abr", ["default"], True)
    assert info["collected"] == [3]


def test_a_collection_that_was_cut_off_is_continued_as_one(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    write_pool(tmp_path, [make_episode(1), make_episode(2)], shard_episodes=1)
    assert Pool(tmp_path).collected == [1, 2]
    pool = write_pool(tmp_path, [make_episode(3)], continues=True)
    assert (pool.collected, len(pool.provenance["collections"])) == ([1, 3], 2)


def test_fields_are_the_observed_ones_by_type_and_shape(tmp_path: Path) -> None:
    fields = write_pool(tmp_path, [make_episode(0)]).fields
    assert fields == {
        "buffer_s": ("float64", (), False),
        "sizes_mb": ("float32", (3, 2), False),
        "level": ("int64", (), False),
    }


def test_other_tools_read_the_folder_as_one_table(tmp_path: Path) -> None:
    episodes = [make_episode(number) for number in range(5)]
    write_pool(tmp_path, episodes, shard_episodes=2)
    table = pq.read_table(tmp_path)
    assert table.column("id").to_pylist() == [episode.id for episode in episodes]
    sizes = table.column("observation.sizes_mb")[3].as_py()
    np.testing.assert_array_equal(np.float32(sizes), episodes[3].observations["sizes_mb"])


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


def test_a_link_to_itself_is_no_missing_provenance(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    provenance = tmp_path / "_provenance.json"
    provenance.unlink()
    provenance.symlink_to(provenance.name)
    with pytest.raises(OSError, match=r"_provenance\.json"):
        Pool(tmp_path).info()


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


def test_a_shard_cut_off_is_named(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(number) for number in range(4)], shard_episodes=2)
    shard = tmp_path / "shard-00001.parquet"
    os.truncate(shard, shard.stat().st_size - 100)
    with pytest.raises(ValueError, match=r"shard-00001\.parquet: must be a complete .* Delete it"):
        Pool(tmp_path)
    shard.unlink()
    assert len(Pool(tmp_path)) == 2


def test_a_shard_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    (tmp_path / "shard-00001.parquet").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"shard-00001\.parquet"):
        Pool(tmp_path)


def test_a_damaged_shard_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(number) for number in range(4)])
    shard = tmp_path / "shard-00000.parquet"
    content = bytearray(shard.read_bytes())
    content[300:400] = bytes(100)
    shard.write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-00000\.parquet: must be a complete .* damaged"):
        list(Pool(tmp_path))


def test_a_shard_of_a_newer_version_is_named(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    shard = tmp_path / "shard-00000.parquet"
    table = pq.read_table(shard)
    about = json.loads(table.schema.metadata[b"netllm.pool"]) | {"version": 4}
    pq.write_table(table.replace_schema_metadata({b"netllm.pool": json.dumps(about)}), shard)
    with pytest.raises(
        ValueError,
        match=r"shard-00000\.parquet: metadata: written by a newer .*format 4, .*reads up to 3",
    ):
        Pool(tmp_path)


def test_a_shard_of_the_first_version_is_read(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    shard = tmp_path / "shard-00000.parquet"
    table = pq.read_table(shard).drop_columns(["ended", "reason"])
    about = json.loads(table.schema.metadata[b"netllm.pool"]) | {"version": 1}
    about["fields"] = {name: field[:2] for name, field in about["fields"].items()}
    pq.write_table(table.replace_schema_metadata({b"netllm.pool": json.dumps(about)}), shard)
    assert_same(Pool(tmp_path)[0], make_episode(0))


@pytest.mark.parametrize(
    ("about", "says"),
    [
        (b"\xff", "metadata:1: "),
        (b"[" * 100_000, "metadata:1: "),
        (
            b'{"version": 99999999999999999999999999, "task": "abr", "fields": {}}',
            "metadata: written by a newer netllm-adapt",
        ),
        (b'{"version": 3, "task": 5, "fields": {}}', r"metadata:1: .*`\$\.task`"),
        (
            b'{"version": 3, "task": "abr", "fields": {"actions": [5, []]}}',
            r"metadata:1: .*\$\.fields",
        ),
        (
            b'{"version": 3, "task": "abr", "fields": {"actions": ["O", []]}}',
            r"metadata:1: .*\$\.fields",
        ),
        (
            b'{"version": 3, "task": "abr", "fields": {"actions": ["int8", [-1]]}}',
            r"metadata:1: .*>= 1",
        ),
    ],
)
def test_damaged_metadata_of_a_shard_is_named(tmp_path: Path, about: bytes, says: str) -> None:
    write_pool(tmp_path, [make_episode(0)])
    shard = tmp_path / "shard-00000.parquet"
    pq.write_table(pq.read_table(shard).replace_schema_metadata({b"netllm.pool": about}), shard)
    with pytest.raises(ValueError, match=rf"shard-00000\.parquet: .*{says}"):
        Pool(tmp_path)


def test_a_shard_with_nulls_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0), make_episode(1)])
    shard = tmp_path / "shard-00000.parquet"
    table = pq.read_table(shard)
    whole = table.column("actions").to_pylist()
    for name, values in (("actions", [whole[0], [None, *whole[1][1:]]]), ("policy", ["a", None])):
        place = table.schema.get_field_index(name)
        column = pa.array(values, table.schema.field(name).type)
        pq.write_table(table.set_column(place, table.schema.field(name), column), shard)
        pool = Pool(tmp_path)
        says = rf"shard-00000\.parquet: every value must be there, but some of '{name}' are null"
        with pytest.raises(ValueError, match=says):
            list(pool)


def test_a_shard_without_episodes_and_a_pipe_are_named(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    shard = tmp_path / "shard-00000.parquet"
    pq.write_table(pq.read_table(shard).slice(0, 0), shard)
    with pytest.raises(
        ValueError, match=r"shard-00000\.parquet: must hold episodes in every group"
    ):
        Pool(tmp_path)
    if hasattr(os, "mkfifo"):
        shard.unlink()
        os.mkfifo(shard)
        with pytest.raises(ValueError, match=r"shard-00000\.parquet: must be a regular file"):
            Pool(tmp_path)


def test_a_parquet_file_of_something_else_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"price": [1.0]}), tmp_path / "shard-00000.parquet")
    with pytest.raises(ValueError, match=r"shard-00000\.parquet: must be a shard .* columns price"):
        Pool(tmp_path)


def test_a_shard_whose_columns_were_changed_is_named(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    shard = tmp_path / "shard-00000.parquet"
    pq.write_table(pq.read_table(shard).drop_columns("observation.level"), shard)
    with pytest.raises(
        ValueError,
        match=r"shard-00000\.parquet: .* 'observation\.level' is missing instead of list",
    ):
        Pool(tmp_path)


def test_shards_of_different_fields_do_not_mix(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    write_pool(tmp_path / "other", [make_episode(1, labels=None)])
    os.replace(tmp_path / "other" / "shard-00000.parquet", tmp_path / "shard-00001.parquet")
    with pytest.raises(
        ValueError,
        match=r"shard-00001\.parquet: .* 'labels' is missing instead of float32\[step, 6\]",
    ):
        Pool(tmp_path)


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


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_shards_is_no_pool(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "pool"
    if make:
        folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"pool: must be a folder with .* rl-collect"):
        Pool(folder)


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


@pytest.mark.parametrize(
    ("held", "says"),
    [
        ("[]", ":1: must hold where .* got `array`"),
        ('{"collections": 5}', ":1: must hold where .* are from, but: Expected `array`, got `int`"),
        ('{"collections": [5]}', r":1: must hold where .* at `\$\.collections"),
        ('{"collections": [{}]}', ":1: must hold where .* required field `setting`"),
        (
            '{"collections": [{"setting": "a", "first_shard": "../x"}]}',
            r":1: .* at `\$\.collections\[.*\]\.first_shard`",
        ),
    ],
)
def test_a_damaged_provenance_is_named_before_anything_is_added(
    tmp_path: Path, held: str, says: str
) -> None:
    write_pool(tmp_path, [make_episode(0)])
    (tmp_path / "_provenance.json").write_text(held)
    with pytest.raises(ValueError, match=rf"{tmp_path}/_provenance\.json{says}"):
        Pool(tmp_path).info()
    with pytest.raises(ValueError, match=rf"{tmp_path}/_provenance\.json{says}"):
        write_pool(tmp_path, [])


def test_a_shard_holds_at_least_one_episode(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`shard_episodes` must be at least 1, got 0"):
        write_pool(tmp_path, [], shard_episodes=0)
