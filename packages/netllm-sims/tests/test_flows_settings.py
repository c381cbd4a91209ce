import logging
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from netllm_sims.flows import NONE, joined, load_flows, rollout, setting, settings, write_flows
from netllm_sims.flows.synthetic_applications import ATTACKS, BENIGN, UNKNOWN
from netllm_sims.own_data import NoneOfPart
from netllm_sims.session_error import SessionError
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

SMALL = {"hosts": 20, "days": 10, "flows_per_day": 4}
SPLIT = ("default", "unseen-hosts", "unseen-days", "unknown-classes")


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flows")
    flows = joined([setting("synthetic").of_part(part) for part in ("train", "valid", "test")])
    write_flows(folder / "all.csv", flows)
    return folder


def places(flows):
    return {*flows.host.tolist()}, {*flows.day.tolist()}, {*flows.digests()}


def test_every_setting_trains_on_the_same_flows():
    trains = [setting(name, **SMALL).of_part("train") for name in SPLIT]
    assert all(train.digests() == trains[0].digests() for train in trains)
    assert {*trains[0].label.tolist()} == {*BENIGN, *ATTACKS} == {*setting("default").classes}


@pytest.mark.parametrize("name", SPLIT)
def test_no_flow_is_in_two_parts(name):
    parts = [places(setting(name, **SMALL).of_part(part))[2] for part in ("train", "valid", "test")]
    assert all(parts)
    assert not any(a & b for a, b in combinations(parts, 2))


def test_hosts_and_days_that_test_never_train():
    every = {n: [places(setting(n, **SMALL).of_part(p)) for p in ("train", "valid", "test")]
             for n in SPLIT}  # fmt: skip
    train, _, test = every["default"]
    assert test[0] <= train[0]
    assert test[1] == train[1]
    for name in ("unseen-hosts", "unknown-classes"):
        train, valid, test = every[name]
        assert not train[0] & (valid[0] | test[0])
        assert not valid[0] & test[0]
    train, valid, test = every["unseen-days"]
    assert max(train[1]) < min(valid[1]) <= max(valid[1]) < min(test[1])
    assert test[0] <= train[0]


def test_unknown_classes_only_test_and_have_a_warning_unless_they_are_named(own, caplog):
    unknown = setting("unknown-classes", **SMALL)
    assert {*unknown.of_part("test").label.tolist()} & {*UNKNOWN}
    assert not {*unknown.of_part("valid").label.tolist()} & {*UNKNOWN}
    assert not caplog.records
    (own / "train").mkdir()
    (own / "test").mkdir()
    every = load_flows(own / "all.csv")
    write_flows(own / "train" / "a.csv", every[every.label != "ssh"])
    write_flows(own / "test" / "a.csv", every[:200])
    (own / "all.csv").rename(own.parent / "moved.csv")
    with caplog.at_level(logging.WARNING):
        setting("default", flows=own).of_part("test")
    count = int((every[:200].label == "ssh").sum())
    assert f"never saw ssh, of which the test part of default has {count} of 200" in caplog.text
    (own.parent / "moved.csv").rename(own / "all.csv")
    for part in ("train", "test"):
        (own / part / "a.csv").unlink()
        (own / part).rmdir()


def test_further_hosts_and_classes_leave_the_others_flows_as_they_are():
    few, more = (setting("unknown-classes", **{**SMALL, "hosts": n}) for n in (20, 22))
    few, more = few.of_part("train"), more.of_part("train")
    both = {*few.host.tolist()} & {*more.host.tolist()}
    assert both
    host = min(both)
    assert places(few[few.host == host])[2] & places(more[more.host == host])[2]


def test_a_split_by_packet_leaks_what_a_split_by_flow_does_not():
    """As captures do, each packet shows its client's port, which is drawn for each flow."""
    flows = setting("default", **SMALL).of_part("train")
    rng = np.random.default_rng(0)
    known = flows.sizes_bytes != 0
    flow = np.repeat(np.arange(len(flows)), known.sum(1))
    port = rng.integers(32_768, 61_000, len(flows))[flow]
    rows = np.stack([flows.sizes_bytes[known], flows.gaps_ms[known], port], 1)

    def accuracy(groups):
        tests = rng.permutation(np.unique(groups))[: len(np.unique(groups)) // 3]
        test = np.isin(groups, tests)
        nearest = KNeighborsClassifier(1).fit(rows[~test], flows.label[flow][~test])
        return nearest.score(rows[test], flows.label[flow][test])

    by_packet, by_flow = accuracy(np.arange(len(rows))), accuracy(flow)
    assert by_packet > 0.8
    assert by_flow < 0.5


def test_a_split_by_flow_leaks_what_a_split_by_host_does_not():
    places = [setting(name, hosts=40, days=10) for name in ("default", "unseen-hosts")]

    def rows(flows):
        return np.column_stack([flows.sizes_bytes, np.log1p(flows.gaps_ms), flows.server_port])

    train = places[0].of_part("train")
    trees = RandomForestClassifier(60, random_state=0).fit(rows(train), train.label)
    by_flow, by_host = (
        f1_score(flows.label, trees.predict(rows(flows)), average="macro")
        for flows in (place.of_part("test") for place in places)
    )
    assert by_flow > by_host + 0.05


def test_generated_flows_are_what_their_protocol_allows():
    every = setting("unknown-classes", **SMALL).of_part("test")
    assert (every.sizes_bytes[:, 0] > 0).all()
    assert (every.gaps_ms[:, 0] == 0).all()
    assert np.abs(every.sizes_bytes).max() <= 1_500
    assert ((every.sizes_bytes != 0) >= (every.gaps_ms > 0)).all()
    counts = (every.sizes_bytes != 0).sum(1)
    tcp = (every.protocol == 6) & (every.label != "scan")
    assert (every.sizes_bytes[tcp, 1] < 0).all()
    assert (np.diff(np.sort(counts)) >= 0).all()
    assert counts.min() >= 1


def test_what_is_written_is_read_again(own):
    flows = setting("synthetic").of_part("train")
    again = load_flows(own / "all.csv")[: len(flows)].of_packets(20)
    assert again.label.tolist() == flows.label.tolist()
    assert again.server_port.tolist() == flows.server_port.tolist()
    np.testing.assert_allclose(again.sizes_bytes, flows.sizes_bytes)
    np.testing.assert_allclose(again.gaps_ms, flows.gaps_ms, rtol=1e-5)


def test_own_flows_are_divided_and_say_so(own):
    found = setting("unseen-hosts", flows=own, benign="web,video,bulk,voip,chat,ssh,dns")
    assert not found.synthetic
    assert "were divided by host" in found.divided
    assert found.sources[0].origin == "own"
    assert found.is_benign("web")
    assert not found.is_benign("scan")
    with pytest.raises(ValueError, match="needs `unknown`"):
        setting("unknown-classes", flows=own)


def test_too_few_hosts_cannot_be_divided_by_host(tmp_path):
    flows = setting("synthetic").of_part("train")
    one = {name: np.full(len(flows), "one") for name in ("host", "label")}
    write_flows(tmp_path / "one.csv", replace(flows, **one))
    with pytest.raises(NoneOfPart, match="at least three hosts, got 1"):
        setting("unseen-hosts", flows=tmp_path).of_part("test")
    assert len(setting("default", flows=tmp_path).of_part("test"))
    assert len(setting("default", flows=tmp_path, split="none").of_part("test"))


HEADER = "host,day,class,protocol,server_port,sizes_bytes,gaps_ms"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,d,web,6,443,100 -200,0", r"x.csv:2: .* number for each packet, got 2 and 1"),
        ("a,d,web,6,443,-100,0", r"x.csv:2: .* the server, which does not begin"),
        ("a,d,web,6,443,100 0,0 1", r"x.csv:2: .* none of them 0"),
        ("a,d,web,6,443,100 70000,0 1", r"x.csv:2: .* sizes up to 65,535"),
        ("a,d,web,6,443,100 -5,0 -1", r"x.csv:2: `gaps_ms` must be a number >= 0"),
        ("a,d,web,6,443,100 -5,0 1e12", r"x.csv:2: .* Is it in milliseconds"),
        ("a,d,,6,443,100,0", r"x.csv:2: `class` must not be empty"),
        ("a,d,web,600,443,100,0", r"x.csv:2: `protocol` must be a whole number from 0 to 255"),
        ("a,d,web,6,70000,100,0", r"x.csv:2: `server_port` must be a whole number from 0 to 65,5"),
        ("a,d,web,6", r"x.csv:2: the row must have 7 cells .* Was the file cut"),
    ],
)
def test_a_row_that_is_no_flow_is_refused_with_its_line(tmp_path, row, message):
    (tmp_path / "x.csv").write_text(f"{HEADER}\n{row}\n")
    with pytest.raises(ValueError, match=message):
        load_flows(tmp_path / "x.csv")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("host,day,class,protocol", "without server_port"),
        ("host,day,class,protocol,server_port", "or statistics"),
        ("host,day,class,protocol,server_port,sizes_bytes", "must name both"),
        (HEADER, "a row for each flow, got none"),
    ],
)
def test_a_file_without_flows_is_refused(tmp_path, header, message):
    (tmp_path / "x.csv").write_text(f"{header}\n")
    with pytest.raises(ValueError, match=message):
        load_flows(tmp_path)


def test_files_of_different_sources_are_kept_apart(tmp_path):
    for name, column in (("a", "loss"), ("b", "delay")):
        text = f"host,day,class,protocol,server_port,{column}\nh,d,web,6,443,1\n"
        (tmp_path / f"{name}.csv").write_text(text)
    with pytest.raises(ValueError, match=r"b.csv:1: must have the columns of a.csv"):
        load_flows(tmp_path)


class Told:
    """Answers what it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.stack([self.answer] * len(observation["protocol"]))


def test_a_policy_may_answer_classes_probabilities_or_none():
    place = setting("unknown-classes", **SMALL)
    some = place.episodes("test", count=5)
    assert len({one.id for one in some}) == 5
    count = len(place.classes)
    web = place.classes.index("web")
    numbers = rollout(Told(web), place, some)
    sure = rollout(Told(np.eye(count)[web]), place, some)
    unsure = rollout(Told(np.full(count, 0.4 / count)), place, some)
    for one, other, third in zip(numbers.answers, sure.answers, unsure.answers, strict=True):
        assert one.answer.tolist() == other.answer.tolist() == [web] * len(one.truth)
        assert third.answer.tolist() == [NONE] * len(one.truth)
        assert not one.alarm.any()
        assert not third.alarm.any()
    assert numbers.decisions == sum(len(one.flows) for one in some)
    scan = rollout(Told(place.classes.index("scan")), place, some)
    assert all(one.alarm.all() for one in scan.answers)


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (99, ValueError, "numbers of classes"),
        (np.ones(3), ValueError, "Was it made for other classes"),
        (np.full(11, 0.2), SessionError, "add up to at most 1"),
        (np.full(11, np.nan), SessionError, "add up to at most 1"),
    ],
)
def test_an_answer_that_is_no_distribution_is_refused(answer, error, message):
    place = setting("default", **SMALL)
    with pytest.raises(error, match=message):
        rollout(Told(answer), place, place.episodes("test", count=2))


def test_unknown_names_and_impossible_numbers_are_refused():
    assert set(SPLIT) < set(settings())
    with pytest.raises(ValueError, match="unseen-hosts"):
        setting("unseen-host")
    with pytest.raises(ValueError, match="flow, host, day, none"):
        setting("default", split="packet")
    with pytest.raises(ValueError, match="`hosts` must lie in"):
        setting("default", hosts=2)
    with pytest.raises(ValueError, match="`benign` is for own flows"):
        setting("default", benign="web")
    with pytest.raises(ValueError, match=r"`unknown`: Unknown class 'gmae'\. Did you mean game"):
        setting("default", unknown="gmae").of_part("test")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"unknown": "shh"}, "`unknown`: Unknown class 'shh'. Did you mean ssh"),
        ({"benign": "web,dsn"}, "`benign`: Unknown class 'dsn'. Did you mean dns"),
        ({"unknown": ",".join([*BENIGN, *ATTACKS])}, "`unknown` must leave a class to learn"),
    ],
)
def test_classes_that_own_flows_do_not_have_are_refused(own, fields, message):
    with pytest.raises(ValueError, match=message):
        setting("default", flows=own, **fields).of_part("test")


HEADERS = "host,day,class,protocol,server_port"


def parts(folder, **content):
    """A folder with folders of parts, each with a file."""
    for part, text in content.items():
        (folder / part).mkdir()
        (folder / part / "a.csv").write_text(text)
    return folder


def test_a_part_without_any_class_that_trained_is_refused(tmp_path):
    rows = {
        part: f"{HEADERS},x\na,1,{label},6,443,1\n"
        for part, label in (("train", "web"), ("valid", "ssh"), ("test", "web"))
    }
    place = setting("default", flows=parts(tmp_path, **rows))
    with pytest.raises(ValueError, match="the valid part must have flows of a class that trained"):
        place.of_part("valid")


def test_parts_with_other_statistics_are_refused(tmp_path):
    train = f"{HEADERS},x\na,1,web,6,443,1\n"
    place = setting("default", flows=parts(tmp_path, train=train, test=train.replace("x", "y")))
    with pytest.raises(ValueError, match=r"test: must have the columns of .*train, got other"):
        place.of_part("test")


def test_more_than_a_hundred_generated_days_sort_by_time():
    place = setting("unseen-days", hosts=5, days=110, flows_per_day=1)
    trained, tested = ({*place.of_part(part).day.tolist()} for part in ("train", "test"))
    assert max(int(day[3:]) for day in trained) < min(int(day[3:]) for day in tested)
