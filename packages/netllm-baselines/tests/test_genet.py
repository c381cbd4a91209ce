from importlib.metadata import entry_points

import numpy as np
import pytest
from netllm_baselines.abr import Genet, GenetGreedy
from netllm_baselines.abr.genet import BRANCHES, PUBLISHED_SEED
from netllm_sims.abr import rollout, setting

INPUTS = dict(zip(BRANCHES, (1, 1, 6, 6, 6, 1), strict=True))


def arrays(seed: int) -> dict[str, np.ndarray]:
    """Random weights laid out as the published ones."""
    rng = np.random.default_rng(seed)
    shapes = {"fc_hidden": (768, 128), "fc_out": (128, 3)}
    for name, width in INPUTS.items():
        shapes[name] = (4, 1, width, 128) if name.startswith("conv") else (width, 128)
    weights = {}
    for name, shape in shapes.items():
        weights[f"actor.{name}.W"] = rng.normal(0, 0.1, shape).astype(np.float32)
        weights[f"actor.{name}.b"] = rng.normal(0, 0.1, shape[-1]).astype(np.float32)
    return weights


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / "own.npz"
    np.savez(file, **arrays(0))
    return file


def test_sampling_with_the_published_seed_earns_what_the_reference_earns(real, reference):
    run = rollout(Genet(real), real, real.sessions("test"), seed=PUBLISHED_SEED)
    expected = [reference["genet"][name] for name in run.ids]
    assert np.abs(run.qoe - expected).max() < 1e-4
    assert run.qoe.mean() == pytest.approx(0.847871, abs=1e-4)


def test_the_most_probable_moves_earn_what_the_reference_earns(real):
    run = rollout(GenetGreedy(real), real, real.sessions("test"))
    assert run.qoe.mean() == pytest.approx(0.827491, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "drawn", "likeliest"),
    [
        ("udr_1", 0.809, 0.933),
        ("udr_2", 0.799, 0.919),
        ("udr_3", 0.705, 0.607),
        ("udr_real", 0.807, 0.938),
    ],
)
def test_udr_earns_by_name_what_the_readme_says(real, name, drawn, likeliest):
    found = {one.name: one for one in entry_points(group="netllm.policies")}
    sessions = real.sessions("test")
    for policy, qoe in ((f"abr.{name}", drawn), (f"abr.{name}-greedy", likeliest)):
        run = rollout(found[policy].load()(real), real, sessions, seed=PUBLISHED_SEED)
        assert run.qoe.mean() == pytest.approx(qoe, abs=1e-3)


def test_only_the_second_tap_of_a_kernel_counts(synthetic, observe, weights, tmp_path):
    changed = arrays(0)
    for name, array in changed.items():
        if array.ndim == 4:
            changed[name] = np.where(np.arange(4)[:, None, None, None] == 1, array, 99)
    np.savez(tmp_path / "changed.npz", **changed)
    seen = observe(3, buffer_s=[1, 10, 30])
    one = Genet(synthetic, weights=weights).move_probabilities(seen)
    assert np.allclose(one.sum(axis=1), 1)
    assert np.array_equal(
        one, Genet(synthetic, weights=tmp_path / "changed.npz").move_probabilities(seen)
    )


def test_a_sampled_session_takes_48_numbers_of_the_stream(synthetic, weights):
    policy = Genet(synthetic, weights=weights)
    sessions = synthetic.sessions("test")[:2]
    together = rollout(policy, synthetic, sessions, seed=3)
    policy.reset(3)
    policy._rng.randint(1, 1000, size=48)
    state = policy._rng.get_state()
    policy.reset(0)
    policy._rng.set_state(state)
    skipped = _play(policy, synthetic, sessions[1])
    assert together.actions[1].tolist() == skipped


def test_as_a_teacher_it_answers_with_levels_for_its_probabilities_are_of_moves(synthetic, weights):
    policy = GenetGreedy(synthetic, weights=weights)
    some = synthetic.sessions("test")[:2]
    done = rollout(
        policy, synthetic, some, label=GenetGreedy(synthetic, weights=weights), soft=True
    )
    assert np.array_equal(done.labels, done.actions)


def _play(policy, setting, session) -> list[int]:
    """Roll out without the reset that `rollout` begins with."""
    from netllm_sims.abr import Simulator

    simulator = Simulator(setting, [session], dtype=np.float64)
    observation, done, levels = simulator.reset(), [False], []
    while not done[0]:
        level = policy.act(observation)
        levels.append(int(level[0]))
        observation, _, done = simulator.step(level)
    return levels


def test_a_batch_is_refused_when_sampling(synthetic, observe, weights):
    with pytest.raises(ValueError, match="must hold one session, got 2"):
        Genet(synthetic, weights=weights).act(observe(2))


def test_missing_weights_are_named(synthetic, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz: there are no such weights"):
        Genet(synthetic, weights=tmp_path / "nowhere.npz")
    monkeypatch.delenv("NETLLM_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="Set NETLLM_DATA"):
        Genet(synthetic)


def test_foreign_weights_are_refused(synthetic, tmp_path):
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match=r"must hold the weights of a GENET actor.*fc_bitrate"):
        Genet(synthetic, weights=tmp_path / "foreign.npz")
    (tmp_path / "half.npz").write_bytes((tmp_path / "foreign.npz").read_bytes()[:100])
    with pytest.raises(ValueError, match=r"half\.npz: must hold the weights of a GENET actor"):
        Genet(synthetic, weights=tmp_path / "half.npz")


def test_another_ladder_is_refused(weights):
    short = setting("synthetic", rates_kbps=(300.0, 800.0))
    with pytest.raises(ValueError, match="among 6 rates, got a ladder of 2"):
        Genet(short, weights=weights)
