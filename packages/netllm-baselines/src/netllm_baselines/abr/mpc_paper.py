"""RobustMPC as the NetLLM repository computes it, errors included."""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines.abr._session_memory import Observation, begins

if TYPE_CHECKING:
    from netllm_sims.abr import Setting, Simulator

HORIZON = 5
BUFFER_ADDED_S = 4.0
REBUFFERING = 4.3


class MPCPaper:
    """The MPC behind NetLLM's published comparison, for reproduction only: `MPC` is the rival.

    What differs from RobustMPC: levels move by at most one per chunk; the sizes are read one chunk
    too late; neither round trip nor buffer cap is modelled; the last of equal sequences wins; and
    prediction errors are carried from session to session, so results depend on their order. Hence
    it is rolled out alone, in order, with one reset. Throughputs of the first session are rounded
    to float32, as there.

    Args:
        setting: Names the ladder; its weights and lengths are ignored, as the reference has them
            fixed.

    Source: `run_baseline.py` of NetLLM, commit 105bcf07.
    """

    sequential = True

    def __init__(self, setting: "Setting") -> None:
        rates = setting.video.rates_kbps
        self._rates_kbps = np.array(rates)
        self._sequences = [_gradual(start, len(rates)) for start in range(len(rates))]
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Forget the errors of all sessions."""
        self._errors: list[float] = []
        self._predicted: float | None = None
        self._sessions = 0
        self._simulator: Simulator | None = None

    def begin(self, simulator: "Simulator") -> None:
        """Learn from the last chunk of the session before, which the reference still measures."""
        if self._simulator is not None:
            self._predict(self._simulator.observation)
        self._simulator = simulator

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of the one session.

        Raises:
            ValueError: There is more than one session.
        """
        from netllm_baselines.abr._level_search import plan_gradual

        if len(observation["level"]) != 1:
            raise ValueError(
                f"`observation` must hold one session, got {len(observation['level'])}: "
                "`mpc-paper` carries state from session to session. Run them one by one."
            )
        if begins(observation)[0]:
            self._sessions += 1
        rate = self._predict(observation)
        depth = min(HORIZON, int(observation["chunks_left"][0]))
        level = plan_gradual(
            self._sequences[int(observation["level"][0])][:, :depth],
            # One chunk too late: row 0 is the chunk to be chosen.
            observation["sizes_mb"][0, 1 : depth + 1].astype(np.float64) / rate,
            float(observation["buffer_s"][0]),
            int(observation["level"][0]),
            self._rates_kbps,
            np.array([BUFFER_ADDED_S, REBUFFERING]),
        )
        return np.array([level])

    def _predict(self, observation: Observation) -> float:
        """Robust prediction in MB/s, after noting the error of the one before."""
        measured: Float[ndarray, "6"] = observation["throughput_mbps"][0] / 8
        if self._sessions <= 1:
            measured = measured.astype(np.float32)
        last = float(measured[-1])
        error = 0.0 if self._predicted is None else abs(self._predicted - last) / last
        self._errors = [*self._errors, error][-HORIZON:]
        seen = [float(value) for value in measured[-HORIZON:] if value > 0]
        self._predicted = 1 / (sum(1 / value for value in seen) / len(seen))
        return self._predicted / (1 + max(self._errors))


def _gradual(start: int, levels: int) -> Int[ndarray, "sequence 5"]:
    """All sequences that move by at most one level at a time, in lexicographic order."""
    sequences = [[start]]
    for _ in range(HORIZON):
        sequences = [
            [*sequence, level]
            for sequence in sequences
            for level in range(sequence[-1] - 1, sequence[-1] + 2)
            if 0 <= level < levels
        ]
    return np.array(sequences)[:, 1:]
