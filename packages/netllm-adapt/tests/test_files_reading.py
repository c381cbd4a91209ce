"""JSON of strangers: every fault is an error that names the file, and none takes much memory."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from netllm_adapt.files.reading import decode_json, read_json


class Point(msgspec.Struct, forbid_unknown_fields=True):
    """A place in the plane."""

    x: float
    y: float = 0.0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{\n  "a": 1,\n  b\n}', ":3: not valid JSON"),
        (b"[]", r":1: must hold a JSON object, but: Expected `object`, got `array`"),
        (b"", ":1: not valid JSON"),
        (b'{"a": ' * 200_000, ":1: not valid JSON .maximum recursion depth"),
        (b"[" * 200_000, ":1: must hold a JSON object"),
        (b'{"a": ' + b"1" * 5_000 + b"}", ":1: .*out of range"),
        (b'{"a": 1e999}', ":1: .*out of range"),
        (b'{"a": NaN}', ":1: not valid JSON"),
        (b'{"a": -Infinity}', ":1: not valid JSON"),
        (b'{"a": "\xff\xfe"}', ":1: not valid JSON"),
        (b'{"a": "\\ud800"}', ":1: not valid JSON"),
        (b"\xef\xbb\xbf{}", ":1: (not valid|must hold)"),
    ],
)
def test_what_is_no_json_object_names_file_and_line(
    tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"config\.json{says}"):
        read_json(path)


def test_a_schema_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "point.json"
    path.write_text('{"x": 1, "y": "far"}')
    with pytest.raises(ValueError, match=r"point\.json:1: must hold a place .* at `\$\.y`"):
        read_json(path, Point)
    path.write_text('{"x": 1}')
    assert read_json(path, Point) == Point(1.0, 0.0)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    path.write_bytes(b" " * 101)
    with pytest.raises(ValueError, match=r"large\.json: must have at most 100 bytes, got 101"):
        read_json(path, most_bytes=100)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes with a name")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(ValueError, match=r"config\.json: must be a regular file"):
        read_json(tmp_path / "config.json")


def test_a_line_within_a_file_is_told_as_such() -> None:
    with pytest.raises(ValueError, match=r"log\.jsonl:7: not valid JSON"):
        decode_json("{", dict, name="log.jsonl", line=7)
