import numpy as np
import pytest
from netllm_sims.cc import KINDS, Link, Setting, generate, setting, settings
from netllm_sims.cc.train_valid_test import recorded

PARTS = ("train", "valid", "test")


def mean_mbps(trace):
    return np.diff(trace.time_s) @ trace.bandwidth_mbps[1:] / trace.period_s


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_fixes_a_generated_capacity_and_its_mean(kind):
    made = [
        generate(kind, np.random.default_rng(seed), mean_mbps=12.0, duration_s=40.0, id="t")
        for seed in (1, 1, 2)
    ]
    assert made[0].digest == made[1].digest
    assert kind == "steady" or made[0].digest != made[2].digest
    assert [mean_mbps(one) for one in made] == pytest.approx([12.0] * 3)
    assert all(one.period_s == pytest.approx(40.0) for one in made)


def test_a_cellular_capacity_has_outages_and_moves_within_milliseconds():
    # Sprout, section 3.1: rates that double within seconds, outages
    rng = np.random.default_rng(0)
    trace = generate("cellular", rng, mean_mbps=5.0, duration_s=200.0, id="t")
    by_second = trace.bandwidth_mbps[1:].reshape(-1, 50).mean(axis=1)
    assert by_second.std() / by_second.mean() > 0.3
    assert (trace.bandwidth_mbps[1:].reshape(-1, 5).mean(axis=1) == 0).any()


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"Did you mean steady"):
        generate("stedy", np.random.default_rng(0), mean_mbps=1.0, duration_s=1.0, id="t")


@pytest.mark.parametrize("name", settings())
def test_no_part_shares_a_trace_and_a_seed_fixes_the_links(name, no_data):
    place = setting(name, intervals=20)
    parts = {part: place.links(part, episodes=20) for part in PARTS}
    contents = [frozenset().union(*(link.contents for link in parts[part])) for part in PARTS]
    assert all(len(one) == 20 for one in contents)
    assert len(frozenset().union(*contents)) == 60
    again = place.links("train", episodes=20)
    assert [link.trace.digest for link in again] == [link.trace.digest for link in parts["train"]]
    other = place.links("train", episodes=20, seed=1)
    assert not contents[0] & frozenset().union(*(link.contents for link in other))
    assert [one.id for one in place.links("test", episodes=5, seed=3)] == [
        one.id for one in parts["test"][:5]
    ]


def test_links_are_drawn_within_the_ranges_and_those_of_unseen_range_outside(no_data):
    place, unseen = setting("default"), setting("unseen-range")
    for link in place.links("test"):
        mbps = mean_mbps(link.trace)
        bdp = mbps * 1e3 * link.rtt_ms / 12_000
        assert 4.0 <= mbps <= 40.001
        assert 20.0 <= link.rtt_ms <= 120.0
        assert 0.499 <= link.buffer_packets / bdp <= 4.001
    for link in unseen.links("test"):
        mbps = mean_mbps(link.trace)
        assert 0.999 <= mbps <= 4.0 or 39.999 <= mbps <= 160.001
        assert 5.0 <= link.rtt_ms <= 20.0 or 120.0 <= link.rtt_ms <= 480.0
    lossy = [link.loss for link in place.links("train")]
    assert 0.15 < np.mean(np.array(lossy) > 0) < 0.35
    assert max(lossy) <= 0.01


def test_a_competitor_begins_in_the_first_quarter(no_data):
    starts = [link.competitors for link in setting("two-flows").links("test")]
    assert all(len(one) == 1 and 0 <= one[0] < 75 for one in starts)


def test_the_name_says_what_stands_in_for_recorded_traces(no_data):
    told = {name: setting(name).synthetic for name in settings()}
    assert [name for name, synthetic in told.items() if not synthetic] == [
        "unseen-range",
        "satellite",
    ]
    assert all(one.origin == "generated" for name in told for one in setting(name).sources)


def test_recorded_traces_are_scaled_and_in_one_part_only(real_data):
    for name, kind in (("default", "broadband"), ("cellular", "mobile")):
        place = setting(name, data=real_data)
        assert not place.synthetic
        assert kind in place.kinds
        assert place.sources[0].origin == "published"
        traces = {part: recorded(place, kind, part) for part in PARTS}
        digests = [{trace.digest for trace in traces[part]} for part in PARTS]
        assert all(digests)
        assert len(set().union(*digests)) == sum(map(len, digests))
        alone = setting(name, data=real_data, kinds=kind)
        for link in alone.links("test", episodes=10):
            assert place.least_mbps <= mean_mbps(link.trace) * link.scale <= place.most_mbps + 1e-6


def test_own_traces_are_taken_as_they_are(tmp_path, no_data):
    for k in range(5):
        (tmp_path / f"t{k}").write_text(f"0 {k + 1}\n10 {k + 1}\n")
    place = setting("default", traces=str(tmp_path))
    links = [link for part in PARTS for link in place.links(part, episodes=10)]
    assert {link.scale for link in links} == {1.0}
    assert len({link.trace.digest for link in links}) == 5
    assert "3 train, 1 validate, 1 test" in place.divided
    assert not place.synthetic
    assert place.sources[0].origin == "own"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"intervals": 2}, "`intervals` must lie in"),
        ({"least_mbps": 50.0}, "`least_mbps` must be > 0 and at most `most_mbps`"),
        ({"most_mbps": "inf"}, "at most `most_mbps`, a finite number, got 4.0 and inf"),
        ({"lossy": 2}, "`lossy` must lie in"),
        ({"kinds": "stedy"}, "Did you mean steady"),
        ({"kinds": "mobile"}, "there is no data"),
        ({"kinds": ""}, "`kinds` must be one or more names"),
        ({"competitor": 1}, "Did you mean competitors"),
        ({"traces": "nowhere"}, "there is no such folder of traces"),
    ],
)
def test_values_that_do_not_fit_are_refused(overrides, message, no_data):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        setting("default", **overrides)


def test_unknown_names_and_numbers_of_links_are_refused(no_data):
    with pytest.raises(ValueError, match="Did you mean satellite"):
        setting("sattelite")
    place = setting("synthetic")
    with pytest.raises(ValueError, match="one of train, valid, test"):
        place.links("tests")
    with pytest.raises(ValueError, match="at most 100"):
        place.links("test", episodes=101)
    assert isinstance(place, Setting)


def test_a_link_out_of_range_is_refused():
    trace = generate("steady", np.random.default_rng(0), mean_mbps=1.0, duration_s=1.0, id="t")
    with pytest.raises(ValueError, match=r"`loss` of link `a` must lie in \[0, 0.5\], got 0.9"):
        Link(id="a", trace=trace, loss=0.9)
    with pytest.raises(ValueError, match="must begin at intervals >= 0"):
        Link(id="a", trace=trace, competitors=(-1,))
