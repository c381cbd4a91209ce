"""Episodes that come and go: each decides as it does alone, whoever is asked beside it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from adapt_parts import (
    LinearEncoder,
    LinearHead,
    ListEncoder,
    PickHead,
    add_random_lora,
    make_episode,
    make_list_episode,
)
from netllm_adapt import (
    AdaptedModel,
    BackboneSpec,
    DecisionStream,
    Policy,
    Ragged,
    load_backbone,
)
from netllm_adapt.backbone import embedding_width
from netllm_adapt.stream import cuda_graphs, decision_stream
from torch import Tensor

WINDOW, STEPS, SESSIONS = 3, 20, 5
KINDS = {
    "fixed": (LinearEncoder, LinearHead, make_episode),
    "ragged": (ListEncoder, PickHead, make_list_episode),
}


def make_model(kind: str, architecture: str = "llama") -> AdaptedModel:
    encoder, head, _ = KINDS[kind]
    spec = BackboneSpec(f"tiny-random-{architecture}", dtype="float32", seed=1)
    plain = load_backbone(spec.name, dtype=spec.dtype, seed=spec.seed)
    width = embedding_width(plain)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = add_random_lora(plain, std=0.3)
        parts: dict[str, Any] = {"encoder": encoder(width), "head": head(width)}
        for parameter in [*parts["encoder"].parameters(), *parts["head"].parameters()]:
            torch.nn.init.normal_(parameter, std=1.0)
    return AdaptedModel(
        backbone=backbone, spec=spec, window=WINDOW, segment=40, target_return=9.0, **parts
    ).eval()


def question(kind: str, asked: list[tuple[int, int]]) -> dict[str, Any]:
    """What some sessions see, each at a step of its own: (session, step)."""
    seen = []
    for session, step in asked:
        episode = KINDS[kind][2](STEPS, session)
        fields = {
            name: field.steps(step, step + 1) if isinstance(field, Ragged) else field[step][None]
            for name, field in episode.observations.items()
        }
        earned = episode.rewards[step - 1] if step else 0.0
        seen.append(fields | {"reward": np.array([earned], np.float32)})
    joined: dict[str, Any] = {"episode": np.array([session for session, _ in asked])}
    for name, first in seen[0].items():
        parts = [one[name] for one in seen]
        if isinstance(first, Ragged):
            ptr = np.append(0, np.cumsum([part.ptr[-1] for part in parts]))
            joined[name] = Ragged(np.concatenate([part.values for part in parts]), ptr)
        else:
            joined[name] = np.concatenate(parts)
    return joined


def alone(model: AdaptedModel, kind: str, session: int, steps: int, took: Any = None) -> list[Any]:
    """A session's answers where nobody else is asked."""
    policy, answers = Policy(model), []
    for step in range(steps):
        answers.append(policy.act(question(kind, [(session, step)]))[0])
        if took and (session, step) in took:
            policy.took(np.array([took[session, step]]))
    return answers


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("kind", KINDS)
def test_sessions_that_come_and_go_answer_as_each_does_alone(kind: str, architecture: str) -> None:
    model = make_model(kind, architecture)
    come_and_go(model, kind, Policy(model))


def come_and_go(model: AdaptedModel, kind: str, policy: Policy) -> None:
    dice = np.random.default_rng(0)
    steps = dict.fromkeys(range(SESSIONS), 0)
    answers: dict[int, list[Any]] = {session: [] for session in steps}
    took: dict[tuple[int, int], int] = {}
    waiting, opened = list(steps), []
    while any(step < STEPS for step in steps.values()):
        if waiting and dice.random() < 0.4:
            policy.open([waiting[0]])
            opened.append(waiting.pop(0))
        going = [session for session in opened if dice.random() < 0.6]
        dice.shuffle(going)
        if not going:
            continue
        asked = [(session, steps[session]) for session in going]
        given = policy.act(question(kind, asked))
        done = np.array(given)
        for row, (session, step) in enumerate(asked):
            answers[session].append(given[row])
            if dice.random() < 0.2:
                took[session, step] = done[row] = 0
            steps[session] += 1
            if steps[session] == STEPS:
                opened.remove(session)
        policy.took(done)
        policy.close([session for session in going if steps[session] == STEPS])
    assert took
    varied = set()
    for session, own in answers.items():
        wanted = alone(model, kind, session, STEPS, took)
        assert [int(one) for one in own] == [int(one) for one in wanted], session
        varied |= {int(one) for one in own}
    assert len(varied) > 1  # a model with one answer would agree with anything


def test_a_row_that_is_used_again_remembers_nothing() -> None:
    model = make_model("fixed")
    policy = Policy(model)
    policy.open([0, 1])
    for step in range(WINDOW + 2):
        policy.act(question("fixed", [(0, step), (1, step)]))
    policy.close([0])
    policy.open([2])
    rows = [int(policy.act(question("fixed", [(2, step)]))[0]) for step in range(STEPS)]
    assert rows == [int(one) for one in alone(model, "fixed", 2, STEPS)]
    held = policy._stream
    assert held is not None
    assert len(held._sessions) == 2  # the closed one's row, not a third


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_hidden_states_in_a_row_that_is_used_again_are_those_of_the_new_session(
    architecture: str,
) -> None:
    model = make_model("fixed", architecture)

    def hidden(stream: DecisionStream, asked: list[tuple[int, int]], rows: list[int]) -> Any:
        seen = {name: torch.from_numpy(v) for name, v in question("fixed", asked).items()}
        del seen["episode"]
        returns = -seen.pop("reward")
        before = torch.zeros(len(asked), dtype=torch.long)
        first = not any(step for _, step in asked)
        return stream.hidden(seen, returns, None if first else before, rows)

    alone: dict[int, DecisionStream] = {}
    stream = DecisionStream(model, batch=2)
    schedule = [[(0, step), (1, step)] for step in range(WINDOW + 2)]
    schedule += [[(1, WINDOW + 2 + step), (2, step)] for step in range(2 * WINDOW)]
    rows = {0: 0, 1: 1}
    for asked in schedule:
        if asked[-1] == (2, 0):
            stream.close([rows.pop(0)])
            (rows[2],) = stream.open(1)
            assert rows == {1: 1, 2: 0}
        got = hidden(stream, asked, [rows[session] for session, _ in asked])
        for own, (session, step) in zip(got, asked, strict=True):
            one = alone.setdefault(session, DecisionStream(model, batch=1))
            wanted = hidden(one, [(session, step)], [0])[0]
            torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-4)


def test_episodes_that_start_together_are_decided_as_opened_ones() -> None:
    model = make_model("fixed")
    together, opened = Policy(model), Policy(model)
    opened.open([3, 1, 4])
    for step in range(WINDOW + 3):
        asked = question("fixed", [(3, step), (1, step), (4, step)])
        assert np.array_equal(together.act(asked), opened.act(asked))


def test_episodes_are_opened_once_before_they_are_asked_about() -> None:
    policy = Policy(make_model("fixed"))
    policy.open([7])
    with pytest.raises(ValueError, match=r"must not be open, each once, got \[7\] again"):
        policy.open([8, 7])
    with pytest.raises(ValueError, match=r"must number open episodes, each once, got \[8\]"):
        policy.act(question("fixed", [(7, 0), (8, 0)]) | {"episode": np.array([7, 8])})
    with pytest.raises(ValueError, match=r"each once, got \[7, 7\]"):
        policy.act(question("fixed", [(7, 0), (7, 0)]))
    with pytest.raises(ValueError, match="in a field `episode`"):
        policy.act({"reward": np.zeros(1)})
    with pytest.raises(ValueError, match=r"got \[9\]"):
        policy.close([9])
    policy.act(question("fixed", [(7, 0)]))
    begun = Policy(make_model("fixed"))
    begun.act(question("fixed", [(0, 0)]))
    with pytest.raises(ValueError, match="`open` must come before the first `act`"):
        begun.open([1])


def test_what_was_done_is_told_of_those_that_were_asked_last() -> None:
    policy = Policy(make_model("fixed"))
    policy.open([0, 1])
    policy.act(question("fixed", [(1, 0)]))
    with pytest.raises(ValueError, match=r"last answer's shape, \(1,\), got \(2,\)"):
        policy.took(np.zeros(2, np.int64))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_an_answer_after_steps_that_were_missed_is_that_of_a_session_asked_at_each(
    kind: str, share: float
) -> None:
    model, dice = make_model(kind), np.random.default_rng(0)
    took = {(k, n): 0 for k in range(SESSIONS) for n in range(STEPS) if dice.random() < 0.3}
    wanted = np.array([alone(model, kind, session, STEPS, took) for session in range(SESSIONS)])
    done = wanted.copy()
    for one in took:
        done[one] = 0
    assert (done != wanted).any()
    asked = dice.random((SESSIONS, STEPS)) < share
    policy, missed, compared = Policy(model), [0] * SESSIONS, 0
    policy.open(range(SESSIONS))
    for step in range(STEPS):
        now = [session for session in range(SESSIONS) if asked[session, step]]
        late = [
            (session, earlier)
            for earlier in range(step)
            for session in now
            if missed[session] <= earlier
        ]
        if late:
            policy.missed(question(kind, late), np.array([done[one] for one in late]))
        if not now:
            continue
        given = policy.act(question(kind, [(one, step) for one in now]))
        assert [int(one) for one in given] == [int(wanted[one][step]) for one in now]
        policy.took(done[now, step])
        for session in now:
            missed[session] = step + 1
        compared += len(now)
    assert compared > SESSIONS


def test_steps_can_be_missed_in_open_episodes_only() -> None:
    with pytest.raises(ValueError, match="Only of open episodes"):
        Policy(make_model("fixed")).missed(question("fixed", [(0, 0)]), np.array([0]))


class OddsHead(LinearHead):
    """The same, which tells its logits."""

    def distribution(self, hidden: torch.Tensor, observation: Any) -> torch.Tensor:
        return self.logits(hidden)


def test_probabilities_are_a_step_like_an_answer() -> None:
    model = make_model("fixed")
    weights = model.head.state_dict()
    model.head = OddsHead(model.head.width)
    model.head.load_state_dict(weights)
    odds, answers = Policy(model), Policy(model)
    for step in range(STEPS):
        seen = question("fixed", [(0, step), (1, step)])
        given = odds.probabilities(seen)
        assert given.argmax(1).tolist() == answers.act(seen).tolist()
        assert np.allclose(given.sum(1), 1, atol=1e-5)
    with pytest.raises(ValueError, match="a head with a `distribution`, which PickHead has not"):
        Policy(make_model("ragged")).probabilities(question("ragged", [(0, 0)]))


class Repeated:
    """What a GPU replays, computed anew on the same memory."""

    def __init__(self) -> None:
        self.recorded = self.replayed = 0

    def __call__(self, run: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        result = run()
        self.recorded += 1

        def replay() -> None:
            self.replayed += 1
            result.copy_(run())

        return replay, result


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> Repeated:
    """The first stream's passes are recorded by it."""
    record = Repeated()
    streams = iter([record])
    monkeypatch.setattr(decision_stream, "recorder", lambda device: next(streams, None))
    return record


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_passes_answer_as_others_do(
    kind: str, record: Repeated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graphs, "OFTEN", 2)  # sessions are short and differ in their tokens
    model = make_model(kind, "gpt2")  # the lean pass does not cover it
    come_and_go(model, kind, Policy(model))
    assert 0 < record.recorded < record.replayed


def test_passes_are_recorded_anew_once_the_ring_has_moved(record: Repeated) -> None:
    model = make_model("fixed", "gpt2")
    policies = Policy(model), Policy(model)
    for step in range(STEPS):
        going = [0, 1, 2] if step < STEPS // 2 else [0, 2]
        asked = question("fixed", [(session, step) for session in going])
        given, wanted = (policy.act(asked).tolist() for policy in policies)
        assert given == wanted
        assert record.recorded == (step >= cuda_graphs.OFTEN) + (step >= STEPS - 2), step


def test_graphs_are_asked_for_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.delenv(cuda_graphs.SWITCH, raising=False)
    assert cuda_graphs.recorder(gpu) is None
    monkeypatch.setenv(cuda_graphs.SWITCH, "1")
    assert cuda_graphs.recorder(gpu) is cuda_graphs.on_gpu
    assert cuda_graphs.recorder(cpu) is None
    monkeypatch.setenv(cuda_graphs.SWITCH, "yes")
    with pytest.raises(ValueError, match="NETLLM_CUDA_GRAPHS must be 0 or 1, got 'yes'"):
        cuda_graphs.recorder(gpu)
