"""Where the published sessions start: what the list says, or an error that names it."""

import json

import pytest
from netllm_sims.abr import train_valid_test

NAMES = ["a", "b", "c"]


@pytest.fixture
def published(tmp_path):
    """A data folder with three published traces; its list of start pointers."""
    folder = tmp_path / "abr" / "traces" / "fcc-test"
    folder.mkdir(parents=True)
    for name in NAMES:
        (folder / name).write_text("".join(f"{s} 1.5\n" for s in range(20)))
    file = folder.parent / "fcc-test_mahimahi_ptrs.json"

    def write(ptrs=(3, 1, 19), files=NAMES, **more):
        document = {"description": "starts", "ptrs": ptrs, "files": files, **more}
        file.write_text(json.dumps(document, indent=0))
        return file

    write()
    return tmp_path, write


def starts_s(data):
    train_valid_test._published.cache_clear()
    return [session.start_s for session in train_valid_test.published(data, "fcc-test")]


def test_sessions_start_at_their_points(published):
    data, _ = published
    assert starts_s(data) == [2.0, 0.0, 18.0]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"ptrs": [3, -1, 2]},
            r"_ptrs.json: the start pointer of b must be one of its 20 .*got -1",
        ),
        ({"ptrs": [3, 0, 2]}, r"start pointer of b must .* got 0"),
        ({"ptrs": [3, 2, 20]}, r"start pointer of c must .* that lies before its end, got 20"),
        ({"ptrs": [3, 2, 10**18]}, r"start pointer of c must"),
        ({"ptrs": [3, 2]}, r"one start pointer per trace, got 2 for 3 traces"),
        ({"ptrs": [3, 2.5, 1]}, r"_ptrs.json: at \$.ptrs\[1\]: Expected `int`, got `float`"),
        ({"ptrs": [3, True, 1]}, r"_ptrs.json: at \$.ptrs\[1\]"),
        ({"files": ["a", "c", "b"]}, r"`files` must list the 3 traces .* their order differs"),
        ({"files": ["a", "b", "d"]}, r"`files` must list .* the difference is 'c'"),
        ({"pointers": [1, 2, 3]}, r"_ptrs.json: .*unknown field `pointers`"),
    ],
)
def test_a_pointer_that_is_none_is_refused(published, document, message):
    data, write = published
    write(**document)
    with pytest.raises(ValueError, match=message):
        starts_s(data)


def test_a_damaged_list_is_refused_by_name(published, survivors):
    data, write = published
    for loaded in survivors(write(), lambda: starts_s(data)):
        assert len(loaded) == 3
        assert all(start_s in range(19) for start_s in loaded)
