"""GENET and its rivals UDR: the published actors."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from netllm_baselines import _weights_files
from netllm_baselines.abr._session_memory import Observation, begins

if TYPE_CHECKING:
    from netllm_sims.abr import Setting

PUBLISHED_SEED = 100003
"""Seed of the random stream behind the published figures."""
LEVELS = 6
BRANCHES = (
    "fc_bitrate",
    "fc_buffer",
    "conv_throughput",
    "conv_delay",
    "conv_chunksizes",
    "fc_remain",
)
_WHAT = "the weights of a GENET actor"
_WEIGHTS = {
    "fc_bitrate": (1, 128),
    "fc_buffer": (1, 128),
    "conv_throughput": (4, 1, 6, 128),
    "conv_delay": (4, 1, 6, 128),
    "conv_chunksizes": (4, 1, 6, 128),
    "fc_remain": (1, 128),
    "fc_hidden": (768, 128),
    "fc_out": (128, 3),
}
_SHAPES = {f"actor.{name}.W": shape for name, shape in _WEIGHTS.items()} | {
    f"actor.{name}.b": shape[-1:] for name, shape in _WEIGHTS.items()
}


class Genet:
    """A published actor network that moves one level down, stays, or moves one up.

    Six branches of 128 units (last rate, buffer, 6 throughputs, 6 download times, 6 sizes of the
    next chunk, chunks left), a hidden layer of 128 and a softmax over the three moves. By default
    the move is drawn from the softmax, with one number of `np.random.RandomState(seed)` per chunk
    and one more after each session's last chunk: the published figures depend on that stream
    (`reset(100003)`), so the policy runs alone, session after session.

    Args:
        setting: Gives the ladder, which must have 6 rates, and the data folder.
        name: Published weights: `genet`, `udr_1`, `udr_2`, `udr_3` or `udr_real`.
        greedy: Take the most probable move instead; then sessions are independent and run in
            batches.
        weights: File to take the weights from; by default `abr/weights/NAME.npz` in the data
            folder.

    Raises:
        ValueError: The ladder has not 6 rates, or the file holds other arrays.
        FileNotFoundError: There is no such file.

    Source: Xia et al., SIGCOMM 2022, with the weights and `a3c.py` of NetLLM, commit 105bcf07. Its
    one-dimensional convolutions see a sequence of length one, so only tap 1 of each kernel counts;
    the critic is not needed.
    """

    def __init__(
        self,
        setting: "Setting",
        *,
        name: str = "genet",
        greedy: bool = False,
        weights: str | Path | None = None,
    ) -> None:
        video = setting.video
        if video.levels != LEVELS:
            raise ValueError(
                f"`{name}` must choose among {LEVELS} rates, got a ladder of {video.levels}. "
                "Use another policy, or a ladder of 6 rates."
            )
        self.sequential = not greedy
        self.greedy = greedy
        self._layers = _load(_find(setting, name) if weights is None else Path(weights))
        self._highest_kbps = video.rates_kbps[-1]
        self._chunks = video.chunks
        self.reset(PUBLISHED_SEED)

    def reset(self, seed: int) -> None:
        """Restart the random stream from `seed`."""
        self._rng = np.random.RandomState(seed)
        self._begun = False

    def act(self, observation: Observation) -> Int[ndarray, "batch"]:
        """Level of the next chunk of each session.

        Raises:
            ValueError: The policy samples and there is more than one session.
        """
        level: ndarray = observation["level"]
        probabilities = self.move_probabilities(observation)
        if self.greedy:
            move = probabilities.argmax(axis=1)
        else:
            move = self._draw(probabilities, starts=bool(begins(observation)[0]))
        return np.clip(level + move - 1, 0, LEVELS - 1)

    def move_probabilities(self, observation: Observation) -> Float[ndarray, "batch 3"]:
        """Probability of moving one level down, staying, and moving one up."""
        inputs = (
            observation["rate_kbps"][:, None] / self._highest_kbps,
            observation["buffer_s"][:, None] / 10,
            observation["throughput_mbps"] / 8,  # MB/s
            observation["delay_s"] / 10,
            observation["sizes_mb"][:, 0],
            observation["chunks_left"][:, None] / self._chunks,
        )
        branches = [
            self._relu(name, values.astype(np.float32))
            for name, values in zip(BRANCHES, inputs, strict=True)
        ]
        hidden = self._relu("fc_hidden", np.concatenate(branches, axis=1))
        weight, bias = self._layers["fc_out"]
        logits = hidden @ weight + bias
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def _relu(self, name: str, values: Float[ndarray, "batch _"]) -> Float[ndarray, "batch 128"]:
        weight, bias = self._layers[name]
        return np.maximum(values @ weight + bias, 0)

    def _draw(
        self, probabilities: Float[ndarray, "batch 3"], *, starts: bool
    ) -> Int[ndarray, "batch"]:
        if len(probabilities) != 1:
            raise ValueError(
                f"`observation` must hold one session, got {len(probabilities)}: a sampled actor "
                "follows one random stream through all sessions. Run them one by one, or take the "
                "greedy one."
            )
        if starts and self._begun:
            self._rng.randint(1, 1000)  # the reference draws once more after a session's last chunk
        self._begun = True
        threshold = self._rng.randint(1, 1000) / 1000
        return (probabilities.cumsum(axis=1) > threshold).argmax(axis=1)


GenetGreedy = partial(Genet, greedy=True)
"""GENET by its most probable move."""
UDR1 = partial(Genet, name="udr_1")
"""The same network trained without GENET's curriculum, on environments of a narrow range."""
UDR2 = partial(Genet, name="udr_2")
"""The same, of a middle range."""
UDR3 = partial(Genet, name="udr_3")
"""The same, of a wide range."""
UDRReal = partial(Genet, name="udr_real")
"""The same, on recorded traces."""
UDR1Greedy = partial(UDR1, greedy=True)
"""`UDR1` by its most probable move."""
UDR2Greedy = partial(UDR2, greedy=True)
"""`UDR2` by its most probable move."""
UDR3Greedy = partial(UDR3, greedy=True)
"""`UDR3` by its most probable move."""
UDRRealGreedy = partial(UDRReal, greedy=True)
"""`UDRReal` by its most probable move."""


def _find(setting: "Setting", name: str) -> Path:
    data = setting.data or os.environ.get("NETLLM_DATA")
    if not data:
        raise FileNotFoundError(
            f"`{name}` needs its published weights `abr/weights/{name}.npz`, got no data folder. "
            "Set NETLLM_DATA or pass `data`."
        )
    return Path(data) / "abr" / "weights" / f"{name}.npz"


def _load(file: Path) -> dict[str, tuple[ndarray, ndarray]]:
    if not file.exists():
        known = sorted(path.stem for path in file.parent.glob("*.npz"))
        raise FileNotFoundError(
            f"{file}: there are no such weights; found there: {known or 'none'}. "
            "Set NETLLM_DATA to a folder that holds them, or pass `weights`; netllm test abr "
            "--policy genet:FILE.npz."
        )
    arrays, _ = _weights_files.read_npz(file, _WHAT, facts=False)
    actor = {name: one for name, one in arrays.items() if not name.startswith("critic.")}
    try:
        _weights_files.check_shapes(actor, _SHAPES)
    except ValueError as fault:
        raise _weights_files.damaged(file, _WHAT, fault) from None
    layers = {}
    for name in (*BRANCHES, "fc_hidden", "fc_out"):
        weight = arrays[f"actor.{name}.W"]
        layers[name] = weight[1, 0] if weight.ndim == 4 else weight, arrays[f"actor.{name}.b"]
    return layers
