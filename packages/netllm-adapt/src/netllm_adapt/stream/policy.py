"""An adapted model as a policy: `reset(seed)` and `act(observation)`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from netllm_adapt.episodes import Ragged
from netllm_adapt.model.decider import AdaptedModel
from netllm_adapt.observations import check_finite, tensors
from netllm_adapt.stream.decision_stream import DecisionStream


class Policy:
    """Decides for a batch of episodes that start together.

    The return-to-go begins at `target_return` and is lowered by the `reward` that each further
    observation reports. Where episodes end one by one, a field `episode` numbers those that are
    left.

    Args:
        model: the adapted model; it is put into eval mode.
        target_return: return asked for; the model's own if None. Without effect on a model that is
            told of no returns.
        greedy: the most likely answer, else one sampled with the seed of `reset`.
    """

    def __init__(
        self, model: AdaptedModel, *, target_return: float | None = None, greedy: bool = True
    ) -> None:
        self._model = model.eval()
        self._target = (model.target_return or 0.0) if target_return is None else target_return
        self._greedy = greedy
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin new episodes; their number is that of the next observation."""
        self._device = self._model.device
        self._generator = torch.Generator(device=self._device).manual_seed(seed)
        self._stream: DecisionStream | None = None
        self._return = torch.zeros(0, device=self._device)
        self._action: Int[Tensor, "batch ..."] | None = None
        self._episodes: list[int] = []

    def act(self, observation: Mapping[str, np.ndarray | Ragged]) -> Int[np.ndarray, "batch ..."]:
        """The next action of every episode.

        Raises:
            SessionError: if a number is not finite, naming session and field; nothing has changed
                then, so that the other sessions can be asked about again.
            ValueError: if the observation has no `reward`, or is of other episodes than before.
        """
        if "reward" not in observation:
            raise ValueError(
                "The observation must have a field `reward`, what each episode's last action "
                f"earned (anything at its first step), got {[*observation]}."
            )
        check_finite(observation, unread=() if self._stream is not None else ("reward",))
        fields: dict[str, Any] = {
            name: tensors(value).to(self._device) for name, value in observation.items()
        }
        self._follow(fields)
        self._return = self._next_return(fields["reward"])
        if self._stream is None:
            self._stream = DecisionStream(self._model, batch=len(fields["reward"]))
        self._action = self._stream.decide(
            fields, self._return, self._action, greedy=self._greedy, generator=self._generator
        )
        actions: Int[np.ndarray, "batch ..."] = self._action.cpu().numpy()
        return actions

    def took(self, actions: Int[np.ndarray, "batch ..."]) -> None:
        """Remember these as the last actions: something else was done than answered.

        Raises:
            ValueError: if there is no last answer, or it has another shape.
        """
        if self._action is None or actions.shape != tuple(self._action.shape):
            asked = None if self._action is None else tuple(self._action.shape)
            raise ValueError(
                f"`actions` must have the last answer's shape, {asked}, got {actions.shape}."
            )
        self._action = torch.from_numpy(np.asarray(actions)).to(self._action)

    def _follow(self, fields: Mapping[str, Any]) -> None:
        """Drop the episodes that have ended."""
        episodes = fields["episode"].tolist() if "episode" in fields else []
        before = self._episodes
        if self._stream is None or self._action is None or episodes == before:
            self._episodes = episodes
            return
        if not {*episodes} <= {*before}:
            raise ValueError(
                f"`episode` must number episodes that go on, of {before}, got {episodes}. Begin "
                "new ones with `reset`."
            )
        numbers = [before.index(episode) for episode in episodes]
        rows = torch.tensor(numbers, device=self._device)
        self._stream.keep(rows)
        self._episodes = episodes
        self._return, self._action = self._return[rows], self._action[rows]

    def _next_return(self, reward: Float[Tensor, "batch"]) -> Float[Tensor, "batch"]:
        if self._stream is None:
            return torch.full_like(reward, self._target)
        if reward.shape != self._return.shape:
            raise ValueError(
                f"The observation must be of the {len(self._return)} episodes that go on, got "
                f"`reward` of shape {tuple(reward.shape)}. Number those that are left in a field "
                "`episode`, or begin anew with `reset`."
            )
        return self._return - reward
