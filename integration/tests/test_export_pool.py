import csv
import json

import numpy as np
import pyarrow.parquet
import pytest
from netllm.data.export_pool import export
from netllm_adapt import Episode, Pool, PoolWriter


def episode(number):
    steps = 3
    return Episode(
        id=f"e{number}",
        policy="bba",
        seed=7,
        observations={"buffer_s": np.arange(steps) + number, "sizes_mb": np.ones((steps, 2, 2))},
        actions=np.array([0, 1, 2]),
        rewards=np.array([0.5, 1.0, 1.5]),
        labels=np.array([2, 1, 0]),
        meta={"qoe": 1.0},
    )


@pytest.fixture
def pool(tmp_path):
    with PoolWriter(
        tmp_path / "pool", task="abr", setting="synthetic", provenance={}, shard_episodes=2
    ) as writer:
        for number in range(3):
            writer.add(episode(number))
    return Pool(tmp_path / "pool")


def test_parquet_holds_every_episode_of_every_shard(pool, tmp_path):
    path = export(pool, tmp_path / "all.parquet")
    table = pyarrow.parquet.read_table(path)
    assert table["id"].to_pylist() == ["e0", "e1", "e2"]
    assert table["rewards"][2].as_py() == [0.5, 1.0, 1.5]


@pytest.mark.parametrize("name", ["shard-00000.parquet", "all.parquet", "new/all.csv"])
def test_a_pool_is_not_exported_into_itself(pool, name):
    before = {path: path.read_bytes() for path in pool.path.iterdir()}
    with pytest.raises(ValueError, match="must lie outside the pool"):
        export(pool, pool.path / name)
    assert {path: path.read_bytes() for path in pool.path.iterdir()} == before


def test_json_lines_hold_an_episode_per_line(pool, tmp_path):
    lines = export(pool, tmp_path / "new" / "all.jsonl").read_text().splitlines()
    last = json.loads(lines[2])
    assert (len(lines), last["id"], last["label"]) == (3, "e2", [2, 1, 0])
    assert last["buffer_s"] == [2, 3, 4]
    assert last["meta"] == {"qoe": 1.0}


def test_csv_holds_a_decision_per_line_and_a_column_per_number(pool, tmp_path):
    with export(pool, tmp_path / "all.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert rows[4] | {"id": "e1", "step": "1", "action": "1", "earned": "1.0"} == rows[4]
    assert float(rows[4]["sizes_mb.1.0"]) == 1.0


def test_another_suffix_is_refused_with_the_known_ones(pool, tmp_path):
    with pytest.raises(ValueError, match=r"\.parquet, \.jsonl, \.csv"):
        export(pool, tmp_path / "all.xlsx")


def test_nothing_is_left_of_an_export_that_fails(pool, tmp_path):
    folder = tmp_path / "all.csv"
    folder.mkdir()
    with pytest.raises(OSError, match="directory"):
        export(pool, folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "pool"]


def test_the_program_shows_and_exports_a_pool(pool, tmp_path, netllm):
    code, out, _ = netllm("pool", "info", pool.path)
    assert code == 0
    assert "3 episodes, 9 decisions of abr in synthetic" in out
    document = json.loads(netllm("pool", "info", pool.path, "--json")[1])
    assert document["episodes"] == 3
    assert document["provenance"]["collections"][0]["setting"] == "synthetic"
    assert netllm("pool", "export", pool.path, tmp_path / "all.csv")[0] == 0
    assert (tmp_path / "all.csv").exists()


def test_a_collection_of_abr_is_a_data_set_of_minari_and_comes_back_bit_for_bit(tmp_path, netllm):
    minari = pytest.importorskip("minari")
    from netllm_adapt.episodes import digest
    from netllm_adapt.pool.minari import from_minari

    collect = ("rl-collect", "abr", "--policy", "bba", "--setting", "synthetic", "--episodes", "2")
    assert netllm(*collect, "--relabel", "bba", "--out", tmp_path / "pool")[0] == 0
    code, _, err = netllm("pool", "export", tmp_path / "pool", tmp_path / "abr.minari")
    assert code == 0, err
    pool = Pool(tmp_path / "pool")
    held = minari.MinariDataset(tmp_path / "abr.minari")
    for theirs, ours in zip(held.iterate_episodes(), pool, strict=True):
        assert theirs.rewards.tobytes() == ours.rewards.tobytes()
        assert theirs.terminations.tolist() == [False] * (len(ours.actions) - 1) + [True]
        assert theirs.observations["buffer_s"][-1] == ours.final["buffer_s"]
    back = from_minari(tmp_path / "abr.minari", tmp_path / "back", task="abr")
    assert digest(back) == digest(pool)
    assert [one.ended for one in back] == ["terminated"] * 2
