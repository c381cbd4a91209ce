"""Pools give back what was put in."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from netllm_adapt import Ragged
from netllm_adapt.episodes import digest
from netllm_adapt.pool import Pool, reader
from netllm_adapt.pool.parquet_format import Shard
from pool_parts import OLD, assert_same, ended, make_episode, names, write_pool

TYPES = ["bool", "int8", "uint16", "int64", "uint64", "float16", "float32", "float64"]


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


def test_a_shard_of_the_first_version_is_read(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    shard = tmp_path / "shard-00000.parquet"
    table = pq.read_table(shard).drop_columns(["ended", "reason"])
    about = json.loads(table.schema.metadata[b"netllm.pool"]) | {"version": 1}
    about["fields"] = {name: field[:2] for name, field in about["fields"].items()}
    pq.write_table(table.replace_schema_metadata({b"netllm.pool": json.dumps(about)}), shard)
    assert_same(Pool(tmp_path)[0], make_episode(0))


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """A pool of 10 groups of 16 episodes, of which it keeps 3 in memory."""
    pool = write_pool(tmp_path, [make_episode(number) for number in range(160)])
    monkeypatch.setattr(reader, "KEPT", 3 * Pool(tmp_path).group_bytes[0])
    return pool


def test_a_large_pool_is_shuffled_in_parts_that_are_read_once(
    large: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(shard: Shard, group: int) -> pa.RecordBatch:
        read.append(group)
        return whole(shard, group)

    read: list[int] = []
    whole = Shard.read
    monkeypatch.setattr(Shard, "read", counted)
    parts = large.shuffled(np.random.default_rng(0))
    assert [len(part) for part in parts] == [32, 48, 32, 48]
    for part in parts:
        for number in np.random.default_rng(1).permutation(np.repeat(part, 2)):
            assert_same(large[number], make_episode(number))
    assert sorted(read) == list(range(10))
    again = large.shuffled(np.random.default_rng(2))
    assert sorted(np.concatenate(again)) == list(range(160))
    assert np.concatenate(again).tolist() != np.concatenate(parts).tolist()


def test_a_pool_that_fits_into_memory_is_one_part(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, [make_episode(number) for number in range(40)])
    (part,) = pool.shuffled(np.random.default_rng(0))
    assert part.tolist() == list(range(40))


def test_a_pool_tells_its_task_and_what_its_episodes_earned(tmp_path: Path) -> None:
    episodes = [make_episode(number, steps=number + 1) for number in range(20)]
    pool = write_pool(tmp_path, episodes, shard_episodes=7)
    assert pool.task == "abr"
    np.testing.assert_allclose(pool.returns, [one.rewards.sum() for one in episodes])
