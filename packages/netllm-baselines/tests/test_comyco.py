"""Comyco: Pensieve's network in NumPy, its expert, and its training."""

from itertools import product

import numpy as np
import pytest
from netllm_baselines.abr import BBA, Comyco, Hindsight, Random
from netllm_baselines.abr.pensieve_network import PensieveNetwork, blocks, inputs, shapes
from netllm_sims.abr import Session, Setting, Simulator, Trace, Video, rollout

RATES_KBPS = (400.0, 900.0, 2000.0)


def drawn(levels, seed=0):
    rng = np.random.default_rng(seed)
    return PensieveNetwork(
        arrays={name: rng.normal(0, 0.1, shape) for name, shape in shapes(levels).items()}
    )


def test_the_layers_are_those_of_the_paper():
    # Section 4.2 and figure 5: 128 filters of 4 taps without padding, 128 units, softmax.
    found = shapes(6)
    assert found["throughput.weight"] == found["sizes.weight"] == (128, 1, 4)
    assert found["hidden.weight"] == (128, 128 * (3 + 3 * 3))
    assert found["answer.weight"] == (6, 128)


def test_numpy_and_torch_give_the_same_logits():
    torch = pytest.importorskip("torch", reason="the network is trained with the extra `learned`")
    from netllm_baselines.abr.pensieve_torch import Network

    network = Network(7, generator=torch.Generator().manual_seed(3))
    x = np.random.default_rng(0).uniform(0, 2, (20, blocks(7)["sizes"].stop)).astype(np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(PensieveNetwork.of(network).logits(x), expected, atol=1e-5)


def test_the_inputs_are_in_the_units_of_the_paper(observe):
    seen = inputs(observe(measured_mbps=2.0, took_s=1.5))[0]
    np.testing.assert_allclose(seen[:3], [0.03, 0.4, 47 / 48], rtol=1e-6)
    np.testing.assert_allclose(seen[[8, 14]], [0.25, 0.15], rtol=1e-6)
    np.testing.assert_allclose(seen[15:], np.array([0.3, 0.75, 1.2, 1.85, 2.85, 4.3]) / 2)


def test_the_expert_takes_the_first_level_of_the_best_plan_within_its_horizon():
    rng = np.random.default_rng(4)
    sizes = np.array(RATES_KBPS) * 500 * rng.uniform(0.6, 1.5, (8, 1))
    video = Video(name="small", rates_kbps=RATES_KBPS, sizes_bytes=sizes, chunks=8)
    setting = Setting(name="small", video=video)
    time_s = np.cumsum(rng.uniform(0.5, 3.0, 12)) - 0.5
    session = Session("s", Trace(id="t", time_s=time_s, bandwidth_mbps=rng.uniform(0.2, 2, 12)))
    run = rollout(Random(setting), setting, [session], label=Hindsight(setting, horizon=3))
    futures = np.array(list(product(range(3), repeat=3)))
    for step in range(7):
        trial = Simulator(setting, [session] * len(futures), dtype=np.float64)
        trial.reset()
        for level in run.actions[0, :step]:
            trial.step(np.repeat(level, len(futures)))
        values = sum(trial.step(futures[:, i])[1] for i in range(min(3, 7 - step)))
        chosen = values[futures[:, 0] == run.labels[0, step]].max()
        assert chosen == pytest.approx(values.max(), abs=1e-9)


@pytest.mark.parametrize("place", ["synthetic", "real"])
def test_it_earns_more_than_the_buffer_alone(place, request):
    chosen = request.getfixturevalue(place)
    sessions = chosen.sessions("test")
    comyco, bba = (rollout(one(chosen), chosen, sessions).qoe.mean() for one in (Comyco, BBA))
    assert comyco > bba


def test_weights_come_back_as_they_were_saved(synthetic, tmp_path):
    path = tmp_path / "mine.npz"
    drawn(6).save(path)
    seen = np.random.default_rng(1).uniform(0, 2, (5, 21))
    again = Comyco(synthetic, weights=path).network
    np.testing.assert_array_equal(again.logits(seen), drawn(6).logits(seen))


def test_weights_that_do_not_fit_are_refused(synthetic, tmp_path):
    with pytest.raises(ValueError, match=r"among 5 rates, setting 'synthetic' has 6"):
        Comyco(synthetic, weights=drawn(5))
    other = drawn(6)
    (tmp_path / "half.npz").touch()
    PensieveNetwork(arrays={**other.arrays, "hidden.bias": np.zeros(3)}).save(tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"x\.npz: must hold the weights of comyco.*hidden.bias"):
        Comyco(synthetic, weights=tmp_path / "x.npz")
    with pytest.raises(ValueError, match=r"half\.npz"):
        Comyco(synthetic, weights=tmp_path / "half.npz")
    with pytest.raises(FileNotFoundError, match="train-baseline abr comyco"):
        Comyco(synthetic, weights=tmp_path / "gone.npz")


def test_a_ladder_shorter_than_a_convolution_is_refused():
    with pytest.raises(ValueError, match="at least 4 rates, got 3"):
        shapes(3)


def test_a_short_training_learns_from_few_decisions_and_repeats(synthetic, tmp_path):
    # The paper's point: far fewer samples than reinforcement learning needs.
    pytest.importorskip("torch", reason="Comyco is trained with the extra `learned`")
    from netllm_baselines.abr.comyco_training import train_comyco

    small = {"rounds": 2, "validation_sessions": 8, "width": 100, "horizon": 5}
    files = [
        train_comyco("synthetic", out=tmp_path / name, steps=4_000, seed=1, **small)
        for name in ("first.npz", "again.npz")
    ]
    first, again = (Comyco(synthetic, weights=file).network for file in files)
    assert all(np.array_equal(x, again.arrays[name]) for name, x in first.arrays.items())
    chance = rollout(Random(synthetic), synthetic, synthetic.sessions("valid")).qoe.mean()
    assert first.meta["valid_qoe"] > chance + 5
