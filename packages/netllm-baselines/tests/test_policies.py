"""What all ABR policies have in common."""

import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from netllm_baselines.abr import (
    BBA,
    L2A,
    MPC,
    PPO,
    Bola,
    Dynamic,
    Fugu,
    GenetGreedy,
    Hindsight,
    LoLPlus,
    MPCPaper,
    Panda,
    Soda,
    Steady,
    Throughput,
)
from netllm_sims.abr import rollout, setting

PLAIN = (BBA, Bola, Dynamic, L2A, MPC, Panda, Soda, Steady, Throughput)
NAMES = ("bba", "bola", "panda", "mpc", "mpc-paper", "genet", "genet-greedy", "random", "hindsight")
NAMES += ("soda", "throughput", "dynamic", "fugu", "comyco", "l2a", "lol-plus")
UDR = ("udr_1", "udr_2", "udr_3", "udr_real")


@pytest.mark.parametrize("policy", [*PLAIN, Hindsight])
def test_a_session_does_not_depend_on_its_batch(synthetic, policy):
    sessions = synthetic.sessions("test")[:4]
    together = rollout(policy(synthetic), synthetic, sessions)
    alone = [rollout(policy(synthetic), synthetic, [s]).actions[0] for s in sessions]
    assert np.array_equal(together.actions, alone)


def test_greedy_genet_does_not_depend_on_its_batch(real):
    sessions = real.sessions("test")[:4]
    together = rollout(GenetGreedy(real), real, sessions)
    alone = [rollout(GenetGreedy(real), real, [s]).actions[0] for s in sessions]
    assert np.array_equal(together.actions, alone)


@pytest.mark.parametrize("policy", [L2A, LoLPlus])
def test_near_the_live_edge_too_a_session_does_not_depend_on_its_batch(live, policy):
    sessions = live.sessions("test")[:4]
    together = rollout(policy(live), live, sessions)
    alone = [rollout(policy(live), live, [s]).actions[0] for s in sessions]
    assert np.array_equal(together.actions, alone)


@pytest.mark.parametrize("policy", [*PLAIN, LoLPlus, Fugu, MPCPaper, PPO])
def test_all_play_live_streams(live, policy):
    run = rollout(policy(live), live, live.sessions("test")[:10])
    assert run.actions.shape == (10, 239)
    assert run.live_latency_s.max() <= live.live_target_s + live.skip_s


def test_no_bound_is_known_live(live):
    with pytest.raises(ValueError, match=r"'live' is live, where .*Leave it out"):
        Hindsight(live)


@pytest.mark.parametrize("policy", [Bola, Dynamic, L2A, MPC, Panda, Soda, Throughput])
def test_a_session_that_begins_amid_a_batch_begins_afresh(synthetic, policy):
    run = rollout(BBA(synthetic), synthetic, synthetic.sessions("test")[:3], record=True)
    seen = run.observations
    # Row 0 plays session 0; row 1 plays five chunks of session 1 and then begins session 2.
    order = [[(0, t), (1, t) if t < 5 else (2, t - 5)] for t in range(12)]
    mixed = policy(synthetic)
    levels = []
    for pairs in order:
        rows, steps = zip(*pairs, strict=True)
        levels.append(mixed.act({name: x[list(rows), list(steps)] for name, x in seen.items()}))
    for session, expected in ((0, [x[0] for x in levels]), (2, [x[1] for x in levels[5:]])):
        alone = policy(synthetic)
        got = [
            alone.act({name: x[[session], t] for name, x in seen.items()})[0]
            for t in range(len(expected))
        ]
        assert got == expected


def test_a_batch_that_changes_its_size_is_refused(synthetic, observe):
    policy = Panda(synthetic)
    policy.act(observe(3))
    seen = observe(2)
    seen["throughput_mbps"][:, -2] = 1.0
    with pytest.raises(ValueError, match="the same 3 sessions as before, got 2"):
        policy.act(seen)


@pytest.mark.parametrize("policy", [*PLAIN, Hindsight])
def test_any_ladder_will_do(policy):
    own = setting("synthetic", rates_kbps=(500.0, 1111.0, 2345.5), chunk_s=2.0, chunks=20)
    run = rollout(policy(own), own, own.sessions("test")[:2])
    assert run.actions.shape == (2, 19)
    assert run.qoe.min() > -1


def test_the_rivals_are_entry_points():
    found = {e.name: e for e in entry_points(group="netllm.policies")}
    for name in (*NAMES, *UDR, *(f"{one}-greedy" for one in UDR)):
        assert callable(found[f"abr.{name}"].load())


def test_naming_the_rivals_loads_neither_torch_nor_numba():
    code = (
        "import sys; from netllm_baselines.abr import BBA, MPC, Genet, Hindsight, MPCPaper\n"
        "print(sorted({'torch', 'numba'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    import netllm_baselines.abr as rivals

    with pytest.raises(AttributeError, match="Pensieve"):
        rivals.Pensieve  # noqa: B018
