"""Settings and observations that the tests share; array shapes are checked while they run."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook
from netllm_sims.abr import LADDER_KBPS, Setting, setting
from numpy import ndarray

# Compiled modules load later, at the first plan, and stay as they are.
with install_import_hook("netllm_baselines", "beartype.beartype"):
    from netllm_baselines.abr import (
        BBA,
        L2A,
        MPC,
        Bola,
        Dynamic,
        Genet,
        Hindsight,
        LoLPlus,
        MPCPaper,
        Panda,
        Random,
        Soda,
        Steady,
        Throughput,
    )

CHECKED = (
    BBA,
    L2A,
    MPC,
    Bola,
    Dynamic,
    Genet,
    Hindsight,
    LoLPlus,
    MPCPaper,
    Panda,
    Random,
    Soda,
    Steady,
    Throughput,
)

Observe = Callable[..., dict[str, ndarray]]


@pytest.fixture(scope="session")
def synthetic() -> Setting:
    return setting("synthetic")


@pytest.fixture(scope="session")
def live() -> Setting:
    """Generated traces, half a second per chunk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NETLLM_DATA", raising=False)
        return setting("live")


@pytest.fixture(scope="session")
def real() -> Setting:
    data = os.environ.get("NETLLM_DATA")
    if not data or not Path(data, "abr").is_dir():
        pytest.skip("NETLLM_DATA names no folder with the real ABR data")
    return setting("default", data=data)


@pytest.fixture(scope="session")
def real_live(real: Setting) -> Setting:
    return setting("live", data=real.data)


@pytest.fixture(scope="session")
def reference() -> dict[str, dict[str, float]]:
    """QoE by policy and trace that NetLLM's public code reached."""
    return json.loads((Path(__file__).parent / "reference_abr.json").read_text())


@pytest.fixture
def observe() -> Observe:
    """What players see at their first decision; fields can be overridden, scalars hold for all."""

    def observation(batch: int = 1, **fields: object) -> dict[str, ndarray]:
        throughput_mbps = np.zeros((batch, 6))
        delay_s = np.zeros((batch, 6))
        throughput_mbps[:, -1] = fields.pop("measured_mbps", 2.0)
        delay_s[:, -1] = fields.pop("took_s", 1.08)
        seen = {
            "throughput_mbps": throughput_mbps,
            "delay_s": delay_s,
            "sizes_mb": np.tile(np.array(LADDER_KBPS) * 4 / 8000, (batch, 6, 1)),
            "rate_kbps": np.full(batch, 300.0),
            "level": np.zeros(batch, np.int64),
            "buffer_s": np.full(batch, 4.0),
            "stall_s": np.full(batch, 1.08),
            "chunks_left": np.full(batch, 47.0),
            "reward": np.zeros(batch),
        }
        for name, value in fields.items():
            seen[name] = np.broadcast_to(np.asarray(value, seen[name].dtype), seen[name].shape)
        return seen

    return observation
