"""A pool that cannot be read is told by file and reason."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from netllm_adapt.pool import Pool
from pool_parts import make_episode, write_pool


def test_a_link_to_itself_is_no_missing_provenance(tmp_path: Path) -> None:
    write_pool(tmp_path, [make_episode(0)])
    provenance = tmp_path / "_provenance.json"
    provenance.unlink()
    provenance.symlink_to(provenance.name)
    with pytest.raises(OSError, match=r"_provenance\.json"):
        Pool(tmp_path).info()


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


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_shards_is_no_pool(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "pool"
    if make:
        folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"pool: must be a folder with .* rl-collect"):
        Pool(folder)


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
