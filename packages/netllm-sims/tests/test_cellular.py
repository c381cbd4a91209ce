from dataclasses import replace

import numpy as np
import pytest
from netllm_sims.abr import CELLULAR, cellular_trace, setting, trace_statistics

GHENT = CELLULAR["ghent-4g"]


def test_a_seed_fixes_the_trace():
    once = cellular_trace(GHENT, 5)
    assert once.digest == cellular_trace(GHENT, np.random.default_rng(5)).digest
    assert once.digest != cellular_trace(GHENT, 6).digest
    assert once.period_s == 600
    assert cellular_trace(GHENT, 5, duration_s=90).period_s == 90


@pytest.mark.parametrize("name", CELLULAR)
def test_generated_traces_have_the_statistics_of_the_published_set(name):
    wanted = CELLULAR[name]
    found = trace_statistics([cellular_trace(wanted, [1, i]) for i in range(300)])
    assert found.mean_mbps == pytest.approx(wanted.mean_mbps, rel=0.06)
    assert found.deviation_mbps == pytest.approx(wanted.deviation_mbps, rel=0.06)
    assert found.between == pytest.approx(wanted.between, abs=0.06)
    assert found.outages == pytest.approx(wanted.outages, abs=0.01)
    assert found.outage_s == pytest.approx(wanted.outage_s, rel=0.1)
    assert found.after_1_s == pytest.approx(wanted.after_1_s, abs=0.1)
    # Norway's tunnels are long outages, which two states with one mean length do not give
    assert found.after_5_s == pytest.approx(wanted.after_5_s, abs=0.16)


def test_without_outages_and_differences_a_link_is_never_off():
    steady = replace(GHENT, outages=0.0, between=0.0, deviation_mbps=0.1)
    found = trace_statistics([cellular_trace(steady, i) for i in range(20)])
    assert found.outages == 0
    assert found.mean_mbps == pytest.approx(GHENT.mean_mbps, rel=0.01)


def test_statistics_that_contradict_one_another_are_refused():
    with pytest.raises(ValueError, match=r"`between` must be smaller .* got 2.0"):
        cellular_trace(replace(GHENT, between=2.0), 0)


def test_a_link_that_is_off_all_the_time_gets_one_second():
    off = replace(GHENT, outages=0.999, outage_s=1e9, deviation_mbps=1e3)
    trace = cellular_trace(off, 3, duration_s=60)
    assert np.count_nonzero(trace.bandwidth_mbps) == 1


def test_a_setting_takes_its_links_in_turn():
    tests = setting("4g-5g").sessions("test")
    assert [one.tags for one in tests[:5]] == [
        ("ghent-4g",),
        ("minneapolis-4g",),
        ("cork-5g",),
        ("minneapolis-5g",),
        ("ghent-4g",),
    ]
    assert {tag for one in setting("3g").sessions("valid") for tag in one.tags} == {"norway-3g"}


@pytest.mark.parametrize("name", ["3g", "4g-5g"])
def test_the_parts_share_no_trace(name):
    parts = [setting(name).sessions(part) for part in ("train", "valid", "test")]
    digests = [one.trace.digest for part in parts for one in part]
    assert len(set(digests)) == len(digests) == 460


def test_the_ladders_and_penalties_are_those_of_abrbench():
    third, fifth = setting("3g"), setting("4g-5g")
    assert third.rates_kbps == (300, 750, 1200, 1850, 2850, 4300)
    assert fifth.rates_kbps == (1000, 2500, 5000, 8000, 16000, 40000)
    assert (third.rebuffering, fifth.rebuffering) == (4.3, 40)
    # Pensieve: the quality of the highest rate, log(40 / 1) here
    assert setting("4g-5g", quality="log").rebuffering == pytest.approx(np.log(40), abs=0.01)
    assert setting("3g", quality="log").rebuffering == 2.66
    assert setting("4g-5g", rebuffering=7).rebuffering == 7
    assert setting("4g-5g", rates_kbps="500,9000").rates_kbps == (500, 9000)
    with pytest.raises(ValueError, match="`quality` 'hd' is defined for the rates"):
        setting("4g-5g", quality="hd")


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize("name", ["3g", "4g-5g"])
def test_traces_of_ones_own_take_the_place_of_generated_ones(name, tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.txt").write_text(f"0 {number + 1}\n90 {number + 2}\n")
    config = setting(name, traces=tmp_path, split=False)
    assert [one.id for one in config.sessions("test")] == ["0.txt", "1.txt", "2.txt"]
    assert config.rates_kbps == setting(name).rates_kbps
    assert [one.origin for one in config.sources] == ["own", "generated"]


def test_real_data_change_nothing_of_what_is_generated(real_data):
    config = setting("3g", data=real_data)
    assert config.synthetic
    assert config.sessions("test")[0].trace.digest == setting("3g").sessions("test")[0].trace.digest
