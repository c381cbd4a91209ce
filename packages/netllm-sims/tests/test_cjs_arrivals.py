import numpy as np
import pytest
from netllm_sims import cjs
from netllm_sims.cjs.arrivals import DAY, PATTERNS, SWING, arrival_ms

MANY = 100_000
OTHERS = [pattern for pattern in PATTERNS if pattern != "poisson"]


def arrivals(pattern, seed=0, **numbers):
    setting = cjs.setting("synthetic", arrivals=pattern, **numbers)
    return setting.workload(seed)


@pytest.mark.parametrize("pattern", OTHERS)
def test_the_jobs_and_their_order_are_those_of_the_steady_rate(pattern):
    other, steady = arrivals(pattern, seed=666), arrivals("poisson", seed=666)
    assert [job.dag.name for job in other.jobs] == [job.dag.name for job in steady.jobs]
    assert other.arrival_ms[0] == 0
    assert other.digest != steady.digest
    assert other.digest == arrivals(pattern, seed=666).digest
    assert other.digest != arrivals(pattern, seed=667).digest


def test_the_steady_rate_is_what_it_always_was():
    waits_ms = np.random.default_rng(3).exponential(1 / 4e-5, 199)
    assert arrivals("poisson", seed=3).arrival_ms.tolist() == [0.0, *np.cumsum(waits_ms)]


@pytest.mark.parametrize("pattern", ["bursts", "day-night"])
def test_the_mean_rate_is_that_of_the_setting(pattern):
    waits_ms = np.diff(arrival_ms(pattern, 1, MANY, 100.0))
    assert waits_ms.mean() == pytest.approx(100, rel=0.05)


def test_waits_between_bursts_make_the_stated_variation():
    """Of a hyperexponential wait E[X²] = 2 (0.9 · 0.1² + 0.1 · 9.1²) m²."""
    waits_ms = np.diff(arrival_ms("bursts", 2, MANY, 1.0))
    assert waits_ms.var() / waits_ms.mean() ** 2 == pytest.approx(15.58, rel=0.1)
    assert np.mean(waits_ms < 1 / 10 * np.log(2)) == pytest.approx(0.45, abs=0.02)


def test_by_day_and_night_the_rate_is_a_wave_of_the_stated_height():
    """The first Fourier coefficient of 1 + a sin(2π (t + φ)) has the size a / 2."""
    days = arrival_ms("day-night", 3, MANY, 1.0) / DAY
    wave = np.exp(2j * np.pi * days).mean()
    assert abs(wave) == pytest.approx(SWING / 2, abs=0.02)
    hour = np.random.default_rng([3, 1]).random()
    noon = (days + hour) % 1
    assert np.mean(noon < 0.5) == pytest.approx(0.5 + SWING / np.pi, abs=0.02)


def test_episodes_begin_at_different_hours():
    early = [arrival_ms("day-night", seed, 30, 1.0)[-1] for seed in range(8)]
    assert max(early) > 2 * min(early)


def test_the_second_half_comes_twice_as_fast():
    waits_ms = np.diff(arrival_ms("shift", 4, MANY, 100.0))
    half = MANY // 2
    assert waits_ms[: half - 1].mean() == pytest.approx(100, rel=0.05)
    assert waits_ms[half - 1 :].mean() == pytest.approx(50, rel=0.05)


@pytest.mark.parametrize("pattern", OTHERS)
@pytest.mark.parametrize("numbers", [{"num_jobs": 1}, {"num_jobs": 3, "mean_interarrival_ms": 0}])
def test_few_jobs_or_no_waits_are_arrivals_too(pattern, numbers):
    found = arrivals(pattern, **numbers).arrival_ms
    assert found[0] == 0
    assert (numbers["num_jobs"] == 1) or (found == 0).all()


def test_an_unknown_pattern_names_the_nearest():
    with pytest.raises(ValueError, match=r"`arrivals`: Unknown way 'burst'.*Did you mean bursts"):
        cjs.setting("synthetic", arrivals="burst")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("bursts", "bursts"), ("day-night", "day-night"), ("shifted-rate", "shift")],
)
def test_settings_of_each_pattern_have_all_parts(real_data, name, pattern):
    setting = cjs.setting(name)
    assert setting.arrivals == pattern
    plain = cjs.setting("default").workload(1000)
    assert len(setting.episodes("train", seeds=[1000])) == 1
    assert [job.dag.name for job in setting.workload(1000).jobs] == [
        job.dag.name for job in plain.jobs
    ]
    assert len(setting.episodes("test")) == 20
