import json
from dataclasses import replace

import numpy as np
import pytest
from netllm_baselines.cjs import Decima
from netllm_baselines.cjs.decima_recipe import DecimaRecipe
from netllm_baselines.cjs.decima_weights import PERCEPTRONS, Weights
from netllm_sims import cjs

torch = pytest.importorskip("torch")

from netllm_baselines.cjs.decima_episodes import demonstrate, play, summary, training  # noqa: E402
from netllm_baselines.cjs.decima_learner import Learner, discounted  # noqa: E402
from netllm_baselines.cjs.decima_network import Network  # noqa: E402
from netllm_baselines.cjs.decima_training import train_decima  # noqa: E402

TINY = DecimaRecipe(
    teacher="", sequences=2, rollouts=2, first_jobs=3, last_jobs=4, epochs=1, validate_every=1
)


@pytest.fixture(scope="module")
def small():
    return cjs.setting("synthetic", num_jobs=6, num_executors=8)


def network(seed=0):
    return Network(hidden=32, score_hidden=64, generator=torch.Generator().manual_seed(seed))


def published_like():
    """Weights of the published shape: a policy that may ask for more than a stage's demand."""
    inputs = (5, 16, 16, 21, 16, 53, 36)
    arrays, rng = {}, np.random.default_rng(0)
    for name, width in zip(PERCEPTRONS, inputs, strict=True):
        widths = (64, 64, 1) if "policy" in name else (32, 16, 16)
        for layer, outputs in zip((0, 2, 4), widths, strict=True):
            arrays[f"{name}.{layer}.weight"] = rng.normal(0, 0.3, (outputs, width))
            arrays[f"{name}.{layer}.bias"] = np.zeros(outputs)
            width = outputs
    return Weights(arrays={name: array.astype(np.float32) for name, array in arrays.items()})


def _learner(setting, recipe):
    return Learner(setting=setting, recipe=recipe, seed=0)


@pytest.fixture(scope="module")
def played(small):
    own, rng = network(), np.random.default_rng(0)
    episodes = training(small, recipe=TINY, jobs=4, rng=rng)
    return own, play(Decima(small, weights=own.weights()), small, episodes, rng)


def test_torch_computes_what_the_compiled_network_does(played):
    """All decisions of four episodes at once, against each as it was taken."""
    own, (decisions, log_probability, _) = played
    log_new, entropy = own(decisions.select(np.arange(len(decisions))))
    np.testing.assert_allclose(log_new.detach(), log_probability, atol=2e-5)
    assert (entropy >= -1e-6).all()


def test_any_decisions_can_be_selected_in_any_order(played):
    own, (decisions, log_probability, _) = played
    some = np.random.default_rng(1).permutation(len(decisions))[:40]
    log_new, _ = own(decisions.select(some))
    np.testing.assert_allclose(log_new.detach(), log_probability[some], atol=2e-5)


def test_lanes_hold_each_decision_once_and_all_of_the_jobs_time(played):
    _, (decisions, _, lanes) = played
    rows = np.concatenate([lane.rows for lane in lanes])
    assert sorted(rows.tolist()) == list(range(len(decisions)))
    for lane in lanes:
        assert (np.diff(lane.time_s) >= 0).all()
        assert -lane.reward.sum() == pytest.approx(4 * lane.jct_s)


def test_episodes_of_a_sequence_share_jobs_and_luck(small):
    one, same, other, _ = training(small, recipe=TINY, jobs=3, rng=np.random.default_rng(0))
    assert one.jobs is same.jobs
    assert one.durations == same.durations != other.durations
    assert len(one.jobs) == 3
    assert one.jobs.arrival_ms[0] == 0
    assert one.seed in range(1000, 1100)


def test_later_rewards_count_less_by_time_not_by_step():
    """By hand, at a rate of ln 2 per s: 1 + (2 + 4 / 2) / 1, the first two at one time."""
    result = discounted(np.array([1.0, 2.0, 4.0]), np.array([0.0, 0.0, 1.0, 9.0]), np.log(2))
    np.testing.assert_allclose(result, [5, 4, 4])


def test_the_summary_adds_up_completion_times_of_a_fluid(small):
    """Recomputed job by job, shortest first."""
    run = cjs.Simulator(small, small.episodes("test", episodes=1)[0])
    for _ in range(30):
        run.step(0, 1)
    seen = run.observe()
    stages = seen["stages"].astype(float)
    left_s = (stages[:, 0] + stages[:, 1] / 2) * stages[:, 6] / 1000
    work_s = sorted(left_s[seen["stage_job"] == j].sum() for j in range(len(seen["jobs"])))
    done_s = np.cumsum(work_s) / 8
    (row,) = summary(seen)
    assert len(work_s) > 1
    assert row[0] == len(work_s) / 10
    assert row[4] == pytest.approx(done_s.sum() / 1000)
    assert row[5] == pytest.approx(np.minimum(done_s, 200).sum() / 1000)


def test_an_update_follows_the_advantages(small, played):
    """Decisions that did better than expected become likelier, the others less likely."""
    _, (decisions, log_probability, _) = played
    learner = _learner(small, TINY)
    gain = np.where(np.arange(len(decisions)) % 2, 1.0, -1.0)
    old, wanted = (torch.tensor(a, dtype=torch.float32) for a in (log_probability, gain))
    for _ in range(20):
        learner._improve(decisions, old, wanted, entropy=0.0)
    new, _ = learner._network(decisions.select(np.arange(len(decisions))))
    change = new.detach().numpy() - log_probability
    assert change[gain > 0].mean() > change[gain < 0].mean() + 0.01


def test_a_teacher_is_imitated(small):
    """Its choices become likelier, and counts beyond a stage's demand count as all of it."""
    numbers = replace(TINY, lessons=300, lesson_epochs=3, minibatch=64)
    published = Decima(small, weights=published_like())
    taught = demonstrate(published, small, numbers, np.random.default_rng(0))
    assert len(taught) >= 300
    graphs = taught.select(np.arange(len(taught)))
    ends = np.cumsum(np.bincount(graphs.option_decision))
    assert (graphs.picked.numpy() < ends).all()
    assert graphs.shares[graphs.picked, 1].max() == 1
    losses = [line["lesson_loss"] for line in _learner(small, numbers).imitate(taught)]
    assert losses[0] > losses[1] > losses[2]


def test_training_writes_weights_that_a_policy_takes_and_repeats_itself(small, tmp_path):
    files = [tmp_path / f"{name}.safetensors" for name in ("one", "two")]
    for file in files:
        train_decima(
            small, out=file, steps=300, seed=3, recipe=TINY, command="by hand",
            teacher="tuned-share", lessons=100, lesson_epochs=1,
        )  # fmt: skip
    assert files[0].read_bytes() == files[1].read_bytes()
    lines = [json.loads(x) for x in files[0].with_suffix(".jsonl").read_text().splitlines()]
    policy = Decima(small, weights=files[0])
    meta = policy.weights.meta
    assert (meta["command"], meta["recipe"]["teacher"]) == ("by hand", "tuned-share")
    assert meta["valid_jct_s"] == min(x["valid_jct_s"] for x in lines if "update" in x)
    valid = cjs.rollout(policy, small, small.episodes("valid")).jct_s.mean()
    assert valid == pytest.approx(meta["valid_jct_s"], rel=1e-9)


def test_useless_numbers_are_rejected(small, tmp_path):
    with pytest.raises(ValueError, match="Did you mean rollouts"):
        train_decima(small, out=tmp_path / "x", rolouts=3)
    with pytest.raises(ValueError, match="`rate` must be a float, got 'fast'"):
        train_decima(small, out=tmp_path / "x", rate="fast")
    for wrong, words in (
        ({"teacher": "fair"}, "`teacher` must be one of"),
        ({"rollouts": 1}, "at least 2"),
        ({"epochs": 0}, "`epochs` must be at least 1"),
        ({"first_jobs": 90}, "at most `last_jobs`"),
        ({"load_low": 2.0}, "at most `load_high`"),
        ({"clip": 0.0}, "`clip` must be positive"),
        ({"entropy": -1.0}, "not be negative"),
        ({"average": 1.0}, "lie in"),
    ):
        with pytest.raises(ValueError, match=words):
            DecimaRecipe(**wrong)
