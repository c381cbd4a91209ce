import msgspec
import pytest
from netllm_sims.files.json_reading import decode_json, parse_json, read_json


class Pointers(msgspec.Struct):
    ptrs: list[int]


def test_json_is_read_as_it_is(tmp_path):
    content = b'{"a": [1, -2.5, null, true, "x", 1234567890123456789], "b": {}}'
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbf" + content)
    value = {"a": [1, -2.5, None, True, "x", 1234567890123456789], "b": {}}
    assert parse_json(content, "f") == read_json(tmp_path / "f") == value


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"[" * 200_000, 4, "at most 100 lists and objects"),
        (b"[\n" + b"[" * 200_000 + b"]" * 200_000 + b"]", 5, "at most 100 lists and objects"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, 4, "at most 100 lists and objects"),
        (b"[1,\n" + b"9" * 5000 + b"]", 5, "at most 19 digits, got '9999"),
        (b"[1,\n" + b"9" * 30 + b"]", 5, "at most 19 digits, got '9999"),
        (b"[1,\n\nNaN]", 6, "must be finite .*got 'NaN'"),
        (b"[-Infinity]", 4, "must be finite .*got '-Infinity'"),
        (b"[1e999]", 4, "must be finite .*got '1e999'"),
        (b'["ok",\n"\xff"]', 5, "UTF-8, got the byte 0xff"),
        (b"[1,\n2", 5, "must be JSON"),
        (b"[1,\n2]x", 5, "must be JSON, got 'x'"),
        (b"", 4, "must be JSON"),
    ],
)
def test_odd_json_is_told_with_file_and_line(content, line, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_json(content, "events", line=4)
    assert str(caught.value).startswith(f"events:{line}: ")


def test_wide_json_is_not_deep():
    assert len(parse_json(b"[" + b"[[]]," * 500 + b"[]]", "f")) == 501


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"ptrs":[1,\n2', "f:2: must be JSON"),
        (b'{"ptrs":\n[NaN]}', "f:2: must be JSON"),
        (b'{"ptrs":[' + b"9" * 5000 + b"]}", r"f: at \$.ptrs\[0\]: Integer value out of range"),
        (b'{"ptrs":[1, "a"]}', r"f: at \$.ptrs\[1\]: Expected `int`, got `str`"),
        (b'{"ptrs":[1.5]}', "Expected `int`, got `float`"),
        (b"[]", "f: Expected `object`, got `array`"),
        (b'{"p\xff": 1, "ptrs":[1]}', "f:1: .*UTF-8"),
        (b'{"a":\n' + b"[" * 200_000 + b"]" * 200_000 + b"}", "f:2: at most 100 lists"),
    ],
)
def test_a_document_of_another_schema_is_told_with_the_place(tmp_path, content, message):
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        decode_json(tmp_path / "f", Pointers)


def test_a_document_becomes_its_schema(tmp_path):
    (tmp_path / "f").write_bytes(b'{"ptrs": [3, 4], "more": null}')
    assert decode_json(tmp_path / "f", Pointers).ptrs == [3, 4]
