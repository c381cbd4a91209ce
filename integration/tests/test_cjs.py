"""The task from end to end, on the tiny backbone and generated graphs."""

import json
import shutil
import subprocess
import sys

import netllm
import numpy as np
import pytest
from netllm.cjs import CJS
from netllm.cjs.adapted_scheduler import Scheduler
from netllm.cjs.observation import COLUMN, JOBS, STAGES, seen
from netllm_adapt import AdaptedModel, Pool, Ragged
from netllm_baselines.cjs import TunedShare
from netllm_encoders import Graph
from netllm_sims import cjs
from torch_geometric.nn import SAGEConv

SMALL = {"num_jobs": 8, "num_executors": 6}
TINY = {"steps": 4, "batch": 2, "layers": 1, "dtype": "float32", "validate_every": 2, "rank": 2}


class Doubled(SAGEConv):
    """A layer of one's own."""

    def forward(self, stages, edges):
        return 2 * super().forward(stages, edges)


class Attentive(Graph):
    def __init__(self, **settings):
        super().__init__(**(settings | {"conv": Doubled}))


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return netllm.rl_collect(
        "cjs",
        policy=["tuned-share", "fair"],
        relabel="tuned-share",
        epsilon=0.1,
        setting="synthetic",
        episodes=6,
        set=SMALL,
        out=tmp_path_factory.mktemp("cjs") / "pool",
    )


@pytest.fixture(scope="module")
def run(pool, tmp_path_factory):
    out = tmp_path_factory.mktemp("cjs") / "run"
    netllm.adapt("cjs", pool=pool.path, backbone="tiny-random", out=out, validation=2, **TINY)
    return out


def test_a_collection_records_how_episodes_end(pool):
    for episode in pool:
        assert (episode.ended, episode.reason) == ("terminated", "all jobs are done")
        assert episode.final.keys() == episode.observations.keys()
        assert [len(episode.final[name]) for name in ("stages", "jobs", "edges")] == [0, 0, 0]
        assert episode.final["reward"] == episode.rewards[-1]


def test_columns_are_declared_in_the_simulators_order():
    assert tuple(STAGES) == (*cjs.STAGE_COLUMNS, "advised")
    assert tuple(JOBS) == cjs.JOB_COLUMNS


def test_a_table_holds_makespan_and_fairness_beside_completion_times():
    report = netllm.test("cjs", policy=["fifo"], setting="synthetic", set=SMALL, episodes=2)
    [result] = report.results
    assert {"jct_s", "makespan_s", "fairness", "utilisation"} < set(result.metrics)
    place = cjs.setting("synthetic", **SMALL)
    wanted = cjs.rollout(cjs.fifo(), place, place.episodes("test", episodes=2))
    assert [row["fairness"] for row in result.episodes] == wanted.fairness.tolist()


def test_what_is_seen_of_a_batch_is_what_is_seen_of_its_episodes():
    place = cjs.setting("synthetic", **SMALL)
    runs = [cjs.Simulator(place, e) for e in place.episodes("test", episodes=3)]
    for run in runs:
        for _ in range(5):
            run.step(*run.ask(cjs.fair()))
    advice = np.array([run.ask(cjs.fair()) for run in runs])
    whole = seen(cjs.observe(runs, [0, 1, 2]), advice)
    for k, run in enumerate(runs):
        one = seen(run.observe(), advice[k : k + 1])
        for name, field in one.items():
            part = whole[name]
            got = part.steps(k, k + 1).values if isinstance(part, Ragged) else part[k : k + 1]
            wanted = field.values if isinstance(field, Ragged) else field
            np.testing.assert_array_equal(got, wanted)


def test_the_advice_is_what_tuned_share_would_do(pool):
    by_teacher = pool[0]
    stages, ptr = by_teacher.observations["stages"]
    listed = by_teacher.observations["schedulable"].values
    for step, (choice, executors) in enumerate(by_teacher.labels):
        rows = slice(ptr[step], ptr[step + 1])
        advised = stages[rows][listed[rows], -1]
        wanted = np.zeros(len(advised))
        if choice >= 0:
            demand = stages[rows][listed[rows]][choice, COLUMN["demand"]]
            free = by_teacher.observations["committable"][step]
            wanted[choice] = min(executors, demand, free)
        np.testing.assert_array_equal(advised, wanted)


def test_a_scheduler_without_simulators_says_so(run):
    place = cjs.setting("synthetic", **SMALL)
    simulator = cjs.Simulator(place, place.episodes("test", episodes=1)[0])
    scheduler = Scheduler(AdaptedModel.from_pretrained(run / "best"), place)
    scheduler.reset(0)
    with pytest.raises(RuntimeError, match="`begin` must be called"):
        scheduler.act(simulator.observe())


def may_unlock(observation):
    """Whether whatever stage of the source's job ends next unlocks another."""
    source, edges = observation["source_job"][0], observation["edges"].tolist()
    children = {child: [p for p, c in edges if c == child] for _, child in edges}
    found = []
    for stage, row in enumerate(observation["stages"]):
        mine = observation["stage_job"][stage] == source
        if mine and row[COLUMN["running"]] > 0 and row[COLUMN["unstarted"]] == 0:
            found.append([stage] in children.values())
    return bool(found) and all(found)


def test_waiting_against_advice_needs_someone_to_ask_again(run):
    place = cjs.setting("synthetic", **SMALL)
    simulator = cjs.Simulator(place, place.episodes("test", episodes=1)[0])
    model = AdaptedModel.from_pretrained(run / "best")
    model.head.none_logit[-1].bias.data.fill_(1e4)  # now it always wants to wait
    scheduler = Scheduler(model, place)
    scheduler.reset(0)
    scheduler.begin([simulator])
    waited = 0
    while not simulator.done:
        observation = simulator.observe()
        (answer,), advice = scheduler.act(observation), simulator.ask(TunedShare(place))
        unlocks = may_unlock(observation)
        assert tuple(answer) == ((-1, 1) if unlocks else advice)
        waited += unlocks and advice[0] >= 0
        simulator.step(*answer)
    assert waited
    assert 0 < scheduler.validity < 1


def test_with_more_jobs_than_were_learned_from_the_advice_is_followed(run):
    place = cjs.setting("synthetic", **SMALL)
    simulator = cjs.Simulator(place, place.episodes("test", episodes=1)[0])
    model = AdaptedModel.from_pretrained(run / "best")
    assert 1 <= model.state["most_jobs"] <= SMALL["num_jobs"]
    model.state["most_jobs"] = 1
    model.head.none_logit[-1].bias.data.fill_(1e4)  # alone it would always wait
    scheduler = Scheduler(model, place)
    scheduler.reset(0)
    scheduler.begin([simulator])
    against = 0
    while not simulator.done:
        observation = simulator.observe()
        (answer,), advice = scheduler.act(observation), simulator.ask(TunedShare(place))
        if len(observation["jobs"]) > 1:
            assert tuple(answer) == advice
            against += advice[0] >= 0 and may_unlock(observation)  # where it might wait
        simulator.step(*answer)
    assert against


def test_a_return_is_minus_the_mean_completion_time(pool):
    for episode in pool:
        assert episode.rewards.sum() == pytest.approx(-episode.meta["jct_s"], rel=1e-4)
        assert episode.observations["reward"][1:] == pytest.approx(episode.rewards[:-1])


def test_labels_are_what_the_teacher_would_have_done(pool):
    by_teacher, by_fair = pool[0], pool[1]
    assert (by_teacher.policy, by_fair.policy) == ("tuned-share", "fair")
    differs = (by_teacher.labels != by_teacher.actions).any(1)
    assert 0 < differs.mean() < 0.3  # only at random actions, a tenth of all
    assert (by_fair.labels != by_fair.actions).any(1).mean() > differs.mean()


def test_a_teacher_that_weighs_its_answers_can_be_learned_from(tmp_path):
    weighed = netllm.rl_collect(
        "cjs",
        policy=["rollout", "fair"],
        relabel="rollout",
        epsilon=0.1,
        setting="synthetic",
        episodes=2,
        set=SMALL,
        out=tmp_path / "weighed",
    )
    for episode in weighed:
        steps = len(episode.rewards)
        assert episode.labels.shape == (steps, 12, 3)
        assert (episode.labels[..., 2].sum(axis=1) > 0.19).all()
    out = tmp_path / "run"
    netllm.adapt("cjs", pool=weighed.path, backbone="tiny-random", out=out, validation=1, **TINY)
    facts = json.loads((out / "best" / "config.json").read_text())["about"]
    assert facts["teachers"] == ["rollout"]


OWN = """
import numpy as np

ASKED = []


class Own:
    def __init__(self, executors):
        self.executors = executors

    def reset(self, seed):
        pass

    def act(self, observation):
        ASKED.append(self.executors)
        free = observation["committable"]
        return np.stack([0 * free, np.minimum(free, self.executors)], 1)


def one(setting):
    return Own(1)


def three(setting):
    return Own(3)
"""


def test_a_teacher_is_whom_the_user_names_whatever_its_class(tmp_path, monkeypatch):
    (tmp_path / "own_cjs_teachers.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)

    def collect(relabel):
        made = netllm.rl_collect(
            "cjs",
            policy="own_cjs_teachers:one",
            relabel=f"own_cjs_teachers:{relabel}",
            setting="synthetic",
            episodes=1,
            set=SMALL,
            out=tmp_path / relabel,
        )
        return made[0]

    taught = collect("three")
    assert (taught.actions[:, 1] == 1).all()
    wanted = np.minimum(taught.observations["committable"], 3)
    np.testing.assert_array_equal(taught.labels[:, 1], wanted)
    assert (wanted > 1).any()

    from own_cjs_teachers import ASKED

    ASKED.clear()
    again = collect("one")
    np.testing.assert_array_equal(again.labels, again.actions)
    assert len(ASKED) == len(again.actions)  # once where it both acts and labels


def test_pieces_of_a_collection_may_run_at_once(pool, tmp_path):
    again = netllm.rl_collect(
        "cjs",
        policy=["tuned-share", "fair"],
        relabel="tuned-share",
        epsilon=0.1,
        setting="synthetic",
        episodes=6,
        set=SMALL,
        jobs=2,
        out=tmp_path / "again",
    )
    for ours, theirs in zip(pool, again, strict=True):
        assert ours.id == theirs.id
        np.testing.assert_array_equal(ours.actions, theirs.actions)
        for name, field in ours.observations.items():
            for one, other in zip(field, theirs.observations[name], strict=True):
                np.testing.assert_array_equal(one, other)


def test_the_best_of_several_attempts_is_kept(tmp_path):
    def returns(best_of):
        made = netllm.rl_collect(
            "cjs",
            policy="random",
            setting="synthetic",
            episodes=6,
            best_of=best_of,
            set=SMALL,
            out=tmp_path / f"pool-{best_of}",
        )
        return np.array([episode.rewards.sum() for episode in made])

    once, best = returns(1), returns(3)
    assert (best >= once).all()
    assert (best > once).any()


SHORT = """
class Short:
    def reset(self, seed):
        pass

    def act(self, observation):
        return [[0, 1]]


def short(setting):
    return Short()
"""


def test_an_answer_for_too_few_episodes_is_refused_beside_strays_too(tmp_path, monkeypatch):
    (tmp_path / "own_cjs_short.py").write_text(SHORT)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"each of 2 episodes, got int64 of shape \(1, 2\)"):
        netllm.rl_collect(
            "cjs",
            policy="own_cjs_short:short",
            epsilon=0.5,
            setting="synthetic",
            episodes=2,
            set=SMALL,
            out=tmp_path / "pool",
        )


def test_an_adapted_model_is_tested_beside_its_rivals(run, tmp_path):
    report = netllm.test(
        "cjs", policy=["fair", "random"], checkpoint=run, setting="synthetic", episodes=3, set=SMALL
    )
    assert [result.label for result in report.results] == ["fair", "random", "run"]
    for result in report.results:
        assert [row["seed"] for row in result.episodes] == [666, 667, 668]
        assert all(np.isfinite(row["jct_s"]) for row in result.episodes)
    from netllm.report.plots import save

    paths = save(report, CJS().draws, tmp_path / "plots")
    assert {path.name for path in paths} == {"cdf.png", "box.png", "bars.png", "gantt.png"}
    assert all(path.stat().st_size > 5_000 for path in paths)


def test_a_checkpoint_drives_a_collection_and_learns_on_from_it(run, tmp_path):
    visited = netllm.rl_collect(
        "cjs",
        checkpoint=run,
        relabel="fair",
        setting="synthetic",
        episodes=2,
        set=SMALL,
        out=tmp_path / "visited",
    )
    assert [episode.policy for episode in visited] == ["run", "run"]
    assert (visited[0].labels != visited[0].actions).any()
    out = tmp_path / "on"
    netllm.adapt("cjs", pool=visited.path, start=run, out=out, validation=2, **TINY)
    facts = json.loads((out / "best" / "config.json").read_text())["about"]
    assert facts["started from"] == str(run)
    assert (facts["collected by"], facts["teachers"]) == (["run"], ["fair"])
    old, new = (AdaptedModel.from_pretrained(folder / "best") for folder in (run, out))
    changed = [
        name
        for (name, one), other in zip(
            old.named_parameters(), new.state_dict(keep_vars=True).values(), strict=True
        )
        if not one.equal(other)
    ]
    assert any("lora_" in name for name in changed)
    assert not any("base_layer" in name for name in changed)


def test_seeds_name_job_sequences_whatever_the_part():
    options = {"policy": "fair", "setting": "synthetic", "set": SMALL}
    some = netllm.test("cjs", seeds=[668, 20], **options)
    assert [row["seed"] for row in some.results[0].episodes] == [668, 20]
    alone = netllm.test("cjs", seeds=668, **options)
    assert alone.results[0].episodes[0]["jct_s"] == some.results[0].episodes[0]["jct_s"]


def test_a_checkpoint_decides_alike_in_a_batch_and_alone(run):
    options = {"checkpoint": run, "setting": "synthetic", "set": SMALL}
    together = netllm.test("cjs", seeds=[666, 667, 668], **options).results[0]
    alone = [netllm.test("cjs", seeds=seed, **options).results[0] for seed in (666, 667, 668)]
    assert [row["jct_s"] for row in together.episodes] == pytest.approx(
        [one.episodes[0]["jct_s"] for one in alone]
    )


def test_the_return_asked_for_is_lowered_by_what_was_spent(run):
    place = cjs.setting("synthetic", **SMALL)
    model = AdaptedModel.from_pretrained(run / "best")
    model.target_return = -30.0
    asked = []
    encode = model.encoder.observe
    model.encoder.observe = lambda seen, back: asked.append(float(back[0, 0])) or encode(seen, back)
    done = cjs.rollout(
        Scheduler(model, place), place, place.episodes("test", episodes=1), record=True
    )
    spent_s = -np.cumsum(done.rewards_ms[0])[:-1] * 1e-3 / place.num_jobs
    assert asked == pytest.approx([-30.0, *(-30.0 + spent_s)], abs=1e-3)


def test_the_program_collects_adapts_and_tests(netllm, tmp_path):
    out = tmp_path / "pool"
    small = [f"--set={name}={value}" for name, value in SMALL.items()]
    collect = ("rl-collect", "cjs", "--policy", "fair", "--setting", "synthetic", "--episodes", "2")
    assert netllm(*collect, *small, "--out", out)[0] == 0
    assert len(Pool(out)) == 2
    code, _, err = netllm("pool", "export", out, tmp_path / "pool.csv")
    assert code == 2
    assert "any number of values" in " ".join(err.split())
    assert netllm("pool", "export", out, tmp_path / "pool.jsonl")[0] == 0
    row = json.loads((tmp_path / "pool.jsonl").read_text().splitlines()[0])
    assert len(row["stages"]) == len(row["action"])
    code, text, _ = netllm(
        *("test", "cjs", "--policy", "fair", "--setting", "synthetic", *small, "--seeds", "700"),
        "--json",
    )
    assert code == 0
    (result,) = json.loads(text)["results"]
    assert [(row["seed"], row["jct_s"] > 0) for row in result["episodes"]] == [(700, True)]


def test_a_recipe_names_the_convolution_and_the_checkpoint_keeps_it(pool, tmp_path):
    for conv in ("gat", "GATv2Conv"):
        out = tmp_path / conv
        options = {"backbone": "tiny-random", "validation": 1, **TINY, "steps": 2, "conv": conv}
        netllm.adapt("cjs", pool=pool.path, out=out, **options)
        config = json.loads((out / "best" / "config.json").read_text())
        assert config["encoder"]["config"]["conv"] == conv
        layer = AdaptedModel.from_pretrained(out / "best").encoder.levels.rounds[0].layer
        assert type(layer).__name__ == {"gat": "GATConv"}.get(conv, conv)


def test_a_checkpoint_whose_convolution_is_no_layer_of_the_library_is_refused(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run / "best", copy)
    (copy / "digests.json").unlink(missing_ok=True)
    text = (copy / "config.json").read_text()
    for conv in ("os.system", "netllm.cjs.task.CJS", "MessagePassing"):
        (copy / "config.json").write_text(text.replace('"conv": "decima"', f'"conv": "{conv}"'))
        with pytest.raises(ValueError, match=f"config.json: .*`conv` must be .* got '{conv}'"):
            AdaptedModel.from_pretrained(copy)


def test_an_encoder_with_a_layer_of_ones_own_is_read_with_its_class(run, tmp_path):
    model = AdaptedModel.from_pretrained(run / "best")
    settings = {k: v for k, v in model.encoder.config().items() if k != "conv"}
    model.encoder = Attentive(**settings)
    model.save_pretrained(tmp_path / "own")
    again = AdaptedModel.from_pretrained(tmp_path / "own", parts=[Attentive])
    assert type(again.encoder.levels.rounds[0].layer) is Doubled
    with pytest.raises(ValueError, match=r"from_pretrained\(FOLDER, parts=\[Attentive\]\)"):
        AdaptedModel.from_pretrained(tmp_path / "own")


def test_adapting_without_a_pool_says_how_to_collect_one(netllm, tmp_path):
    code, _, err = netllm("adapt", "cjs", "--out", tmp_path / "run")
    assert code == 2
    assert "netllm rl-collect cjs" in " ".join(err.split())


def test_the_rivals_of_the_table_are_registered():
    assert set(CJS().rivals) <= {*netllm.policies("cjs"), "decima-ours"}


WAITING = np.array([[-1, 1]])


def permuted(observation, order):
    """The same cluster with its stages listed in another order."""
    rank = np.argsort(order)
    fields = ("stages", "schedulable", "frontier", "stage_job", "stage_id")
    return observation | {
        **{name: observation[name][order] for name in fields},
        "edges": rank[observation["edges"]],
    }


def test_the_order_of_stages_moves_little_probability(run):
    import torch
    from netllm_adapt import DecisionStream
    from netllm_adapt.observations import tensors

    place = cjs.setting("synthetic", num_jobs=20, num_executors=20)
    simulator = cjs.Simulator(place, place.episodes("test", episodes=1)[0])
    for _ in range(60):
        simulator.step(*simulator.ask(cjs.fair()))
    observation = simulator.observe()
    model = AdaptedModel.from_pretrained(run / "best")

    def chances(observation):
        fields = {name: tensors(field) for name, field in seen(observation, WAITING).items()}
        stream = DecisionStream(model, batch=1)
        hidden = stream.hidden(fields, torch.tensor([-40.0]), None)
        steps = {
            name: field if isinstance(field, Ragged) else field[:, None]
            for name, field in fields.items()
        }
        with torch.no_grad():
            logs, _ = model.head.distribution(hidden, steps)
        by_row = np.zeros(len(observation["stages"]))
        by_row[observation["schedulable"]] = logs.exp().numpy()[:-1]
        return by_row

    own = chances(observation)
    assert observation["schedulable"].sum() >= 5
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(len(own))
        other = chances(permuted(observation, order))
        assert 0.5 * np.abs(other - own[order]).sum() < 0.15


def test_the_other_tasks_never_load_torch_geometric(tmp_path):
    script = """
import sys
from netllm import registry
from netllm.task.build_model import build_model
for name in ("abr", "vp"):
    task = registry.task(name)
    recipe = task.recipe("tiny-random")
    model = build_model(task, task.setting("synthetic"), "tiny-random", recipe)
    model.save_pretrained(name)
    type(model).from_pretrained(name)
sys.exit("torch_geometric" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


def test_a_planner_is_tested_beside_its_model_and_is_better(run):
    report = netllm.test(
        "cjs", checkpoint=run, policy="fair", plan=6, setting="synthetic", set=SMALL, episodes=4
    )
    fair, model, planned = report.results
    assert planned.label == f"{model.label} plan 6"
    assert (model.plan, planned.plan, planned.knows) == (None, 6, "job profiles")
    assert planned.metrics["jct_s"].mean < model.metrics["jct_s"].mean
    pairs = {(one.checkpoint, one.rival) for one in report.comparisons}
    assert {(planned.label, model.label), (planned.label, fair.label)} <= pairs


def test_a_planner_that_cannot_be_is_refused(run, tmp_path):
    with pytest.raises(ValueError, match="at least 3 simulations, got 2"):
        netllm.test("cjs", checkpoint=run, plan=2, setting="synthetic", set=SMALL, episodes=1)
    with pytest.raises(ValueError, match="needs a checkpoint"):
        netllm.test("cjs", policy="fair", plan=6, setting="synthetic", set=SMALL, episodes=1)
    with pytest.raises(ValueError, match="abr has no planner"):
        netllm.test("abr", checkpoint="pretrained", plan=6, episodes=1)
