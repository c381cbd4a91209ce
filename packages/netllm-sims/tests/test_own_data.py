"""Own data without folders of parts are divided, so that nobody tests on what was learned."""

import json
import random

import numpy as np
import pytest
from netllm_sims import abr, cjs, vp
from netllm_sims.own_data import PARTS, by_content, divided


@pytest.fixture(autouse=True)
def _no_data(monkeypatch):
    monkeypatch.delenv("NETLLM_DATA", raising=False)


def write_traces(folder, numbers, *, name="{:02d}.txt"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        file = folder / name.format(number)
        file.write_text("".join(f"{t} {1 + number + t % 3}\n" for t in range(20)))
    return folder


def digests(folder, **overrides):
    """The contents of each part's traces."""
    place = abr.setting("synthetic", traces=folder, **overrides)
    return {part: {x.trace.digest for x in place.sessions(part)} for part in PARTS}


def test_a_flat_folder_of_traces_has_no_content_in_two_parts(tmp_path):
    parts = digests(write_traces(tmp_path / "mine", range(12)))
    assert {part: len(some) for part, some in parts.items()} == {"train": 8, "valid": 2, "test": 2}
    assert len(set.union(*parts.values())) == 12


def test_neither_names_nor_order_of_files_change_who_tests(tmp_path):
    numbers = list(range(10))
    first = digests(write_traces(tmp_path / "first", numbers))
    random.Random(3).shuffle(numbers)
    other = write_traces(tmp_path / "other", numbers, name="{:d}-renamed.log")
    for place, file in enumerate(sorted(other.iterdir())):
        file.rename(other / f"{place * 7 % 10}.csv.txt")
    assert digests(other) == first


def test_copies_of_a_trace_land_in_its_part(tmp_path):
    folder = write_traces(tmp_path / "mine", range(10))
    plain = digests(folder)
    write_traces(folder, range(10), name="copy-{:02d}")
    place = abr.setting("synthetic", traces=folder)
    assert digests(folder) == plain
    assert len(place.sessions("test")) == 2 * len(plain["test"])


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_traces_only_test_and_the_error_says_what_is_possible(tmp_path, count):
    folder = write_traces(tmp_path / "mine", range(count))
    place = abr.setting("synthetic", traces=folder)
    assert len(place.sessions("test")) == count
    for part in ("train", "valid"):
        with pytest.raises(ValueError, match=rf"at least 3 traces .* got {count}.*split=false"):
            place.sessions(part)
    assert "too few to divide" in place.divided


def test_three_traces_are_one_for_each_part(tmp_path):
    parts = digests(write_traces(tmp_path / "mine", range(3)))
    assert [len(parts[part]) for part in PARTS] == [1, 1, 1]


def test_without_the_split_every_part_has_all_traces(tmp_path):
    folder = write_traces(tmp_path / "mine", range(4))
    parts = digests(folder, split="false")
    assert parts["train"] == parts["valid"] == parts["test"]
    assert len(parts["test"]) == 4
    assert abr.setting("synthetic", traces=folder, split=False).divided is None


def test_the_setting_says_how_it_was_divided(tmp_path):
    folder = write_traces(tmp_path / "mine", range(12))
    said = abr.setting("synthetic", traces=folder).divided
    assert "mine has no folders train, valid and test, so its 12 different traces" in said
    assert "8 train, 2 validate, 2 test" in said
    assert abr.setting("synthetic").divided is None


def test_files_beside_folders_of_parts_are_refused(tmp_path):
    folder = write_traces(tmp_path / "mine", range(2))
    write_traces(folder / "train", range(2, 4))
    write_traces(folder / "test", range(4, 6))
    place = abr.setting("synthetic", traces=folder)
    with pytest.raises(ValueError, match=r"must lie in train or test.*00\.txt lies beside train"):
        place.sessions("train")
    for number in range(2):
        (folder / f"{number:02d}.txt").unlink()
    (folder / "README.md").write_text("where they come from")
    assert len(place.sessions("train")) == 2
    assert place.divided is None


def test_a_trace_that_changes_is_read_again(tmp_path):
    folder = write_traces(tmp_path / "mine", range(1))
    place = abr.setting("synthetic", traces=folder)
    before = place.sessions("test")[0].trace.digest
    (folder / "00.txt").write_text("0 1\n100 2\n")
    assert place.sessions("test")[0].trace.digest != before


def test_an_altered_session_still_says_which_traces_it_shows(tmp_path):
    place = abr.setting("synthetic", traces=write_traces(tmp_path / "mine", range(9)), alter=1.0)
    train = {x.trace.digest for x in place.sessions("train")}
    drawn = place.sessions("train", episodes=50, seed=1)
    assert any(session.trace.digest not in train for session in drawn)
    assert set.union(*(set(session.contents) for session in drawn)) == train


def test_shares_are_a_fifth_a_fifth_and_the_rest():
    sizes = {n: tuple(len(divided([f"{i:02d}" for i in range(n)])[p]) for p in PARTS)
             for n in (0, 1, 2, 3, 4, 5, 10, 25)}  # fmt: skip
    assert sizes == {
        0: (0, 0, 0),
        1: (0, 0, 1),
        2: (0, 0, 2),
        3: (1, 1, 1),
        4: (2, 1, 1),
        5: (3, 1, 1),
        10: (6, 2, 2),
        25: (15, 5, 5),
    }
    assert by_content(["b", "a", "c", "a"])["test"] == {"a"}


def write_jobs(file, names):
    """Alibaba's `batch_task`: one task per job, of a length of its own."""
    lines = [f"M1,1,{name},1,Terminated,1,{2 + k},1,1\n" for k, name in enumerate(names)]
    file.write_text("".join(lines))
    return file


def test_own_jobs_are_shared_by_the_parts_in_sequences_of_their_own_and_that_is_said(tmp_path):
    place = cjs.setting("default", jobs=write_jobs(tmp_path / "tasks.csv", "abcdef"), num_jobs=40)
    by_part = {part: place.episodes(part, seeds=[5])[0] for part in PARTS}
    assert {len({id(job.dag) for job in one.jobs.jobs}) for one in by_part.values()} == {6}
    assert "draw from the same 6 profiles of tasks.csv, in sequences of their own" in place.divided
    train, test = place.episodes("train"), place.episodes("test")
    seen = frozenset().union(*(one.contents for one in train))
    assert not any(one.contents & seen for one in test)


def test_own_jobs_are_divided_by_content_when_asked_for(tmp_path):
    file = write_jobs(tmp_path / "tasks.csv", "abcdefghij")
    place = cjs.setting("default", jobs=file, num_jobs=60, split="true")
    profiles = {
        part: {job.dag.digest for job in place.episodes(part, seeds=[3])[0].jobs.jobs}
        for part in PARTS
    }
    assert {part: len(some) for part, some in profiles.items()} == {
        "train": 6,
        "valid": 2,
        "test": 2,
    }
    assert len(set.union(*profiles.values())) == 10
    assert profiles["test"] < set(place.episodes("test", seeds=[3])[0].contents)
    assert "10 different profiles were divided by content" in place.divided
    few = cjs.setting("default", jobs=write_jobs(tmp_path / "two.csv", "ab"), split=True)
    with pytest.raises(ValueError, match="at least 3 profiles of different content, got 2"):
        few.episodes("train", episodes=1)


def test_folders_of_parts_divide_own_jobs(tmp_path):
    events = {"Event": "SparkListenerApplicationStart"}
    for part in ("train", "test"):
        (tmp_path / "logs" / part).mkdir(parents=True)
        (tmp_path / "logs" / part / "log").write_text(json.dumps(events))
    place = cjs.setting("default", jobs=tmp_path / "logs")
    with pytest.raises(ValueError, match=r"valid: there is no such part, but .* has train and te"):
        place.episodes("valid", episodes=1)
    with pytest.raises(ValueError, match=r"train.log"):  # read, and found to hold no job
        place.episodes("train", episodes=1)
    (tmp_path / "logs" / "more").write_text("{}")
    with pytest.raises(ValueError, match="more lies beside train"):
        place.episodes("test", episodes=1)


def write_heads(folder, users):
    for video in ("a", "b"):
        (folder / video).mkdir(parents=True)
        for user in range(users):
            yaw = np.linspace(user, 40 + 3 * user, 200)
            rows = [f"{t / 5},0,0,{angle}" for t, angle in enumerate(yaw)]
            (folder / video / f"u{user}.csv").write_text("time,roll,pitch,yaw\n" + "\n".join(rows))
    return folder


def test_own_head_movement_says_how_its_users_were_divided_and_may_be_left_whole(tmp_path):
    folder = write_heads(tmp_path / "heads", 5)
    place = vp.setting("default", trajectories=folder)
    assert "its users were divided: 3 train, 1 validate, 1 test" in place.divided
    users = {part: {clip.user for clip in place.clips(part)} for part in PARTS}
    assert not users["train"] & users["test"]
    whole = vp.setting("default", trajectories=folder, split=False)
    assert {part: len(whole.clips(part)) for part in PARTS} == dict.fromkeys(PARTS, 10)
    assert whole.divided is None
    few = vp.setting("default", trajectories=write_heads(tmp_path / "few", 2))
    assert "all of them test" in few.divided
    with pytest.raises(ValueError, match="split=false"):
        few.clips("train")


def test_training_and_validation_keep_to_traces_of_the_name_that_is_asked_for(tmp_path):
    for number, part in enumerate(("train", "valid", "test")):
        write_traces(tmp_path / part, range(9 * number, 9 * number + 2), name="tram-{}.txt")
        write_traces(tmp_path / part, [9 * number + 2], name="bus-{}.txt")
    named = abr.setting("synthetic", traces=tmp_path, trace_name="tram")
    for part, count in (("train", 2), ("valid", 2), ("test", 3)):
        assert len(named.sessions(part)) == count
    assert all("tram" in one.trace.id for one in named.sessions("train", episodes=20))
    with pytest.raises(ValueError, match=r"`trace_name` .*some valid traces .*'ship'.*bus-11"):
        abr.setting("synthetic", traces=tmp_path, trace_name="ship").sessions("valid")
