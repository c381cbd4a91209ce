"""An adapted model as a policy: `reset(seed)` and `act(observation)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    """Decides for a batch of episodes that start together, or for episodes that come and go.

    The return-to-go begins at `target_return` and is lowered by the `reward` that each further
    observation reports. Where episodes end one by one, a field `episode` numbers those that are
    left. Where they come and go, as in a server, `open` and `close` say so: then `episode` numbers
    those that are asked about, any of the open ones, and the others stay as they are.

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
        self._rows: dict[int, int] | None = None
        """Of episodes that come and go, by number, their rows of the stream."""
        self._asked: list[int] | slice = slice(None)
        """The rows that were asked about last."""
        self._fresh: set[int] = set()
        """Rows of episodes that are at their first step."""

    def open(self, episodes: Sequence[int]) -> None:
        """Begin these episodes beside those that are open; none sees another.

        Args:
            episodes: their numbers, which observations name in a field `episode`.

        Raises:
            ValueError: if one is open, or `act` began with episodes that start together.
        """
        if self._rows is None and self._stream is not None:
            raise ValueError("`open` must come before the first `act`. Begin anew with `reset`.")
        known = self._rows or {}
        if (twice := {*episodes} & {*known}) or len({*episodes}) < len(episodes):
            raise ValueError(f"`episodes` must not be open, each once, got {sorted(twice)} again.")
        self._rows = known
        if not episodes:
            return
        if self._stream is None:
            self._stream = DecisionStream(self._model, batch=len(episodes))
            rows = [*range(len(episodes))]
        else:
            rows = self._stream.open(len(episodes))
        more = max(rows) + 1 - len(self._return)
        if more > 0:
            self._return = torch.cat([self._return, self._return.new_zeros(more)])
            if self._action is not None:
                unknown = self._action.new_zeros(more, *self._action.shape[1:])
                self._action = torch.cat([self._action, unknown])
        self._return[rows] = self._target
        self._rows.update(zip(episodes, rows, strict=True))
        self._fresh.update(rows)

    def close(self, episodes: Sequence[int]) -> None:
        """Forget these episodes, which were opened.

        Raises:
            ValueError: if one is not open.
        """
        rows = self._rows_of(episodes)
        if self._stream is not None and rows:
            self._stream.close(rows)
        for episode in episodes:
            (self._rows or {}).pop(episode)
        self._fresh.difference_update(rows)
        self._asked = []

    def act(self, observation: Mapping[str, np.ndarray | Ragged]) -> Int[np.ndarray, "batch ..."]:
        """The next action of every episode.

        Raises:
            SessionError: if a number is not finite, naming session and field; nothing has changed
                then, so that the other sessions can be asked about again.
            ValueError: if the observation has no `reward`, or is of other episodes than before, or
                than were opened.
        """
        hidden = self._hidden(observation)
        assert self._stream is not None
        return self._remember(
            self._stream.answer(hidden, greedy=self._greedy, generator=self._generator)
        )

    def probabilities(
        self, observation: Mapping[str, np.ndarray | Ragged]
    ) -> Float[np.ndarray, "batch answers"]:
        """The probability of every answer, in place of `act`, of a head that has a distribution.

        Its last action is then the most probable one, unless `took` says what was done.

        Raises:
            ValueError: if the head has none, and as `act` does.
        """
        if not hasattr(self._model.head, "distribution"):
            raise ValueError(
                f"Probabilities need a head with a `distribution`, which "
                f"{type(self._model.head).__name__} has not. Ask for answers with `act`."
            )
        hidden = self._hidden(observation)
        assert self._stream is not None
        odds = self._stream.distribution(hidden)
        self._remember(odds.argmax(-1))
        probabilities: Float[np.ndarray, "batch answers"] = odds.softmax(-1).cpu().numpy()
        return probabilities

    def missed(
        self, observation: Mapping[str, np.ndarray | Ragged], actions: Int[np.ndarray, "step ..."]
    ) -> None:
        """Learn of steps of open episodes that it was not asked about: what was seen and done.

        The next answer is what it would be if it had been asked. The steps pass through the
        backbone together with the next one that is asked about.

        Args:
            observation: of each step; `episode` may name an episode several times, in the order of
                its steps.
            actions: what was done at each step.

        Raises:
            ValueError: as `act` does, or if no episodes are open.
        """
        if self._rows is None or self._stream is None:
            raise ValueError("Only of open episodes can steps be missed. Begin them with `open`.")
        fields = self._fields(observation)
        episodes = fields["episode"].tolist()
        own = [*dict.fromkeys(episodes)]
        row_of = dict(zip(own, self._rows_of(own), strict=True))
        rows = [row_of[episode] for episode in episodes]
        _, before = self._before([*row_of.values()], fields["reward"].new_zeros(len(own)))
        returns = []
        for row, reward in zip(rows, fields["reward"], strict=True):
            if row in self._fresh:
                self._fresh.discard(row)
            else:
                self._return[row] -= reward
            returns.append(self._return[row].clone())
        done = torch.from_numpy(np.asarray(actions)).to(self._device)
        self._stream.skip(fields, torch.stack(returns), done, rows, before)
        if self._action is None:
            self._action = done.new_zeros(len(self._return), *done.shape[1:])
        for row, action in zip(rows, done, strict=True):
            self._action[row] = action

    def _fields(self, observation: Mapping[str, np.ndarray | Ragged]) -> dict[str, Any]:
        """The observation's fields as tensors, checked."""
        if "reward" not in observation:
            raise ValueError(
                "The observation must have a field `reward`, what each episode's last action "
                f"earned (anything at its first step), got {[*observation]}."
            )
        if self._rows is not None and "episode" not in observation:
            raise ValueError("The observation must number open episodes in a field `episode`.")
        check_finite(observation, unread=() if self._stream is not None else ("reward",))
        return {name: tensors(value).to(self._device) for name, value in observation.items()}

    def _hidden(self, observation: Mapping[str, np.ndarray | Ragged]) -> Any:
        """Hidden states of the next step of every episode, or of those that are asked about."""
        fields = self._fields(observation)
        if self._rows is not None:
            assert self._stream is not None
            rows = self._rows_of(fields["episode"].tolist())
            returns, before = self._before(rows, fields["reward"])
            hidden = self._stream.hidden(fields, returns, before, rows)
            self._return[rows] = returns
            self._asked = rows
            return hidden
        self._follow(fields)
        self._return = self._next_return(fields["reward"])
        if self._stream is None:
            self._stream = DecisionStream(self._model, batch=len(fields["reward"]))
        return self._stream.hidden(fields, self._return, self._action)

    def _before(
        self, rows: list[int], reward: Float[Tensor, "batch"]
    ) -> tuple[Float[Tensor, "batch"], Int[Tensor, "batch ..."] | None]:
        """What is still to be earned in these rows, and what was done there at the step before."""
        first = torch.tensor([row in self._fresh for row in rows], device=self._device)
        returns = self._return[rows] - torch.where(first, 0.0, reward)
        return returns, None if self._action is None or bool(first.all()) else self._action[rows]

    def _remember(self, answer: Int[Tensor, "batch ..."]) -> Int[np.ndarray, "batch ..."]:
        """The answers to the episodes that were asked about, as their last actions from now on."""
        if self._rows is None:
            self._action = answer
        else:
            assert isinstance(self._asked, list)
            if self._action is None:
                self._action = answer.new_zeros(len(self._return), *answer.shape[1:])
            self._action[self._asked] = answer
            self._fresh.difference_update(self._asked)
        actions: Int[np.ndarray, "batch ..."] = answer.cpu().numpy()
        return actions

    def _rows_of(self, episodes: Sequence[int]) -> list[int]:
        """The rows of episodes that come and go."""
        known = self._rows or {}
        if len({*episodes} & {*known}) < len(episodes):
            closed = [episode for episode in episodes if episode not in known]
            raise ValueError(
                f"`episode` must number open episodes, each once, got {closed or episodes}. "
                "Open them with `open`."
            )
        return [known[episode] for episode in episodes]

    def took(self, actions: Int[np.ndarray, "batch ..."]) -> None:
        """Remember these as the last actions: something else was done than answered.

        Raises:
            ValueError: if there is no last answer, or it has another shape.
        """
        before = None if self._action is None else self._action[self._asked]
        if before is None or actions.shape != tuple(before.shape):
            asked = None if before is None else tuple(before.shape)
            raise ValueError(
                f"`actions` must have the last answer's shape, {asked}, got {actions.shape}."
            )
        taken = torch.from_numpy(np.asarray(actions)).to(before)
        if self._rows is None:
            self._action = taken
        else:
            assert self._action is not None
            self._action[self._asked] = taken

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
