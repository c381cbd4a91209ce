import os
import re
import sys
from pathlib import Path
from random import Random
from types import ModuleType

import hypothesis
import jaxtyping
import numpy as np
import pytest
from beartype import BeartypeConf, beartype

# The first example of a law compiles.
hypothesis.settings.register_profile("compiled", deadline=None)
hypothesis.settings.load_profile("compiled")

# As PEP 484 has it an int passes for a float, which beartype grants on demand only.
checker = ModuleType("netllm_sims_checker")
checker.check = beartype(conf=BeartypeConf(is_pep484_tower=True))
sys.modules[checker.__name__] = checker
# The modules with shapes in their signatures, but for those that numba compiles, and those of cjs,
# whose forward references the lowest jaxtyping cannot resolve.
CHECKED = {
    "cc": "capacity rollout simulator utility",
    "flows": "metrics rollout table train_valid_test",
    "abr": "link qoe rollout simulator synthetic trace_formats traces video",
    "vp": "clips frames geometry metrics resampling rollout side_information synthetic_scenes "
    "synthetic_viewers trajectories trajectory_formats trajectory_loading",
}
jaxtyping.install_import_hook(
    [f"netllm_sims.{task}.{name}" for task, names in CHECKED.items() for name in names.split()],
    "netllm_sims_checker.check",
)


@pytest.fixture
def real_data() -> Path:
    """The folder of real data."""
    folder = os.environ.get("NETLLM_DATA")
    if not folder or not (Path(folder) / "abr" / "traces").is_dir():
        pytest.skip("NETLLM_DATA names no folder of real data")
    return Path(folder)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real data, whatever the machine has."""
    monkeypatch.delenv("NETLLM_DATA", raising=False)


class Constant:
    """Chooses one level for ever."""

    def __init__(self, level: int) -> None:
        self.level = level

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation):
        return np.full(len(observation["buffer_s"]), self.level)


@pytest.fixture
def constant() -> type[Constant]:
    """A policy that chooses one level for ever."""
    return Constant


class BufferBased:
    """BBA as the reference has it: reservoir 5 s, cushion 10 s, six levels (ORACLES.md)."""

    def reset(self, seed: int) -> None:
        pass

    def act(self, observation):
        buffer_s = observation["buffer_s"]
        ramp = (5 * (buffer_s - 5) / 10).astype(np.int64)
        return np.where(buffer_s < 5, 0, np.where(buffer_s >= 15, 5, ramp))


@pytest.fixture
def buffer_based() -> BufferBased:
    """The published buffer-based policy."""
    return BufferBased()


@pytest.fixture
def unchecked_shapes():
    """Shapes are not checked by the test run, so that the code's own errors are reached."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def small():
    """A setting of 20 chunks and three levels; no sum of payloads of a test's traces is a size."""
    from netllm_sims.abr import Video, setting

    rates = (300.0, 1200.0, 4300.0)
    factor = np.random.default_rng(7).uniform(0.8, 1.2, (21, 1))
    sizes = np.floor(np.array(rates) * 500 * factor) + 0.3
    return setting(
        "synthetic", video=Video(name="v", rates_kbps=rates, sizes_bytes=sizes, chunks=20)
    )


@pytest.fixture(scope="session")
def play():
    """Function that gives all observations of a run, stacked, the start-up chunk's first."""
    from netllm_sims.abr import Simulator

    def run(config, sessions, levels, dtype=np.float64):
        simulator = Simulator(config, sessions, dtype=dtype)
        seen = [{name: value.copy() for name, value in simulator.reset().items()}]
        for level in levels:
            simulator.step(np.full(len(sessions), level))
            seen.append({name: value.copy() for name, value in simulator.observation.items()})
        return {name: np.stack([one[name] for one in seen], axis=1) for name in seen[0]}

    return run


NUMBERS = [b"NaN", b"1e308", b"1e400", b"9" * 5_000, b"-1", b"", b"null", b"[" * 200_000, b"x"]


def damages(content: bytes, count: int):
    """Seeded damages of a file: bits, lines, numbers, its end, its encoding."""
    for seed in range(count):
        random = Random(seed)
        at = random.randrange(len(content))
        lines = content.splitlines(keepends=True)
        line = random.randrange(len(lines))
        numbers = [*re.finditer(rb"-?\d+(\.\d+)?", content)]
        start, end = random.choice(numbers).span() if numbers else (at, at)
        yield random.choice(
            (
                content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :],
                content[:at],
                content[:at] + random.choice((b"\xff", b"\0", b'"')) + content[at:],
                b"".join(lines[:line] + lines[line + 1 :]),
                b"".join(lines[: line + 1] + lines[line:]),
                content[:start] + random.choice(NUMBERS) + content[end:],
                content[:start] + random.choice(NUMBERS) + content[end:],
            )
        )


@pytest.fixture
def survivors():
    """Function that damages a file again and again, and gives what was loaded nevertheless.

    All else must be refused by a short message that names the file.
    """

    def run(file: Path, load, count: int = 60) -> list:
        content, results, messages = file.read_bytes(), [], []
        for damaged in damages(content, count):
            file.write_bytes(damaged)
            try:
                results.append(load())
            except (ValueError, OSError) as error:
                messages.append(str(error))
        file.write_bytes(content)
        assert messages, "nothing was refused"
        assert [one for one in messages if file.name not in one or len(one) > 2_000] == []
        return results

    return run
