import importlib.metadata
import json
import subprocess
import sys

import pytest
import torch
from netllm_encoders import Graph
from torch_geometric.nn import GraphConv, MessagePassing, TransformerConv

STAGE_COLUMNS = {
    "unstarted": {"scale": 10.0, "log": True},
    "running": {"scale": 10.0},
    "moving": {"scale": 10.0},
    "committed": {"scale": 10.0},
    "demand": {"scale": 10.0},
    "tasks": {"scale": 10.0, "log": True},
    "recent_ms": {"scale": 1e3, "log": True},
    "work_ms": {"scale": 1e5, "log": True},
    "path_ms": {"scale": 1e4, "log": True},
}
JOB_COLUMNS = {
    "supply": {"scale": 10.0},
    "local": {"scale": 10.0},
    "stages_left": {"scale": 5.0},
    "age_ms": {"scale": 1e5, "log": True},
    "is_source": {},
}
WIDTH = 24


def make_graph(**settings) -> Graph:
    torch.manual_seed(0)
    columns = {"stage_columns": STAGE_COLUMNS, "job_columns": JOB_COLUMNS}
    return Graph(**{"width": WIDTH, "hidden": 8, "return_scale": 10.0} | columns | settings)


def make_step(seed: int, stages: int = 7, jobs: int = 3) -> dict[str, torch.Tensor]:
    """One step: jobs whose stages are chains with a few shortcuts, every other one schedulable."""
    generator = torch.Generator().manual_seed(seed)
    job = torch.randint(jobs, (stages,), generator=generator).sort().values
    links = [
        (i, j)
        for i in range(stages)
        for j in range(i + 1, stages)
        if job[i] == job[j] and (j == i + 1 or (i + j + seed) % 3 == 0)
    ]
    rows = torch.rand(stages, 9, generator=generator) * 20
    rows[:, 4] = torch.randint(1, 30, (stages,), generator=generator)
    rows[:, 6:] *= 1e3
    return {
        "stages": rows,
        "jobs": torch.rand(jobs, 5, generator=generator) * 20,
        "edges": torch.tensor(links, dtype=torch.int32).view(-1, 2),
        "stage_job": job.to(torch.int16),
        "schedulable": torch.arange(stages) % 2 == seed % 2,
        "frontier": torch.rand(stages, generator=generator) < 0.5,
        "committable": torch.tensor(5 + seed, dtype=torch.int16),
        "executors": torch.tensor(50, dtype=torch.int32),
        "can_wait": torch.tensor(seed % 3 == 0),
    }


def padding() -> dict[str, torch.Tensor]:
    step = {name: value[:0] if value.ndim else value * 0 for name, value in make_step(0).items()}
    return step | {"can_wait": torch.tensor(False)}


def together(steps: list[dict[str, torch.Tensor]], batch: int = 1) -> dict[str, object]:
    """The observation of these steps, in rows of equal length."""
    observation: dict[str, object] = {}
    for name, first in steps[0].items():
        values = [step[name] for step in steps]
        if first.ndim:
            sizes = torch.tensor([0, *map(len, values)])
            observation[name] = (torch.cat(values), sizes.cumsum(0))
        else:
            observation[name] = torch.stack(values).view(batch, -1)
    return observation


def test_tokens_are_return_globals_schedulable_stages_and_decision_and_padding_has_none():
    graph = make_graph()
    observation = together([make_step(0), padding(), make_step(1), padding()], batch=2)
    tokens, ptr = graph.observe(observation, torch.ones(2, 2))
    assert graph.tokens is None
    # Of 7 stages rows 0, 2, 4, 6 and rows 1, 3, 5 are schedulable.
    assert graph.count(observation).tolist() == [[7, 0], [6, 0]]
    assert ptr.tolist() == [0, 7, 7, 13, 13]
    assert tokens.shape == (13, WIDTH)
    assert tokens.dtype == torch.float32
    torch.testing.assert_close(tokens.std(-1, correction=0), torch.ones(13), rtol=1e-2, atol=0)


def test_a_step_whose_stages_are_all_busy_has_no_tokens():
    step = make_step(0)
    step["schedulable"][:] = False
    tokens, ptr = make_graph().observe(together([step, make_step(1)]), torch.ones(1, 2))
    assert ptr.tolist() == [0, 0, 6]
    assert len(tokens) == 6


def test_padding_only_is_nothing():
    graph, observation = make_graph(), together([padding(), padding()])
    tokens, ptr = graph.observe(observation, torch.ones(1, 2))
    assert tokens.shape == (0, WIDTH)
    assert ptr.tolist() == [0, 0, 0]
    assert graph.act(torch.zeros(1, 2, 2, dtype=torch.int64), observation).isfinite().all()


@pytest.mark.parametrize(
    ("name", "place", "value"),
    [("edges", (0, 1), 7), ("edges", (0, 0), -1), ("stage_job", 2, 3), ("stage_job", 0, -1)],
)
def test_what_reaches_into_another_step_is_refused(name, place, value):
    step = make_step(0)
    step[name][place] = value
    of = "stages" if name == "edges" else "jobs"
    with pytest.raises(ValueError, match=f"'{name}' must number the {of} of its own.* got {value}"):
        make_graph().observe(together([step, make_step(1)]), torch.ones(1, 2))


def by_hand(graph: Graph, step: dict[str, torch.Tensor], to_go: float) -> torch.Tensor:
    """The tokens of one step, stage by stage in plain loops, from the weights."""
    levels, total = graph.levels, float(step["executors"])

    def scale(rows, columns, log=None):
        out = []
        for value, settings in zip(rows.tolist(), columns.values(), strict=True):
            x = torch.tensor(value / settings.get("scale", 1.0))
            out.append(x.log1p() if (settings.get("log", False) if log is None else log) else x)
        return out

    stages, job_of = [], step["stage_job"].tolist()
    for i, row in enumerate(step["stages"]):
        extra = [step["frontier"][i], step["schedulable"][i], row[4] / total]
        features = torch.tensor([*scale(row, STAGE_COLUMNS), *map(float, extra)])
        stages.append(levels.stage_layers(features))
    for layer in levels.rounds:
        sums = [torch.zeros_like(x) for x in stages]
        for parent, child in step["edges"].tolist():
            sums[parent] = sums[parent] + layer.message(stages[child])
        stages = [
            x + layer.update(torch.cat([x, layer.norm(s)]))
            for x, s in zip(stages, sums, strict=True)
        ]
    jobs = []
    for j, row in enumerate(step["jobs"]):
        mine = [i for i, job in enumerate(job_of) if job == j]
        raw = step["stages"][mine].sum(0)
        longest = step["stages"][mine, 8].max() if mine else torch.tensor(0.0)
        features = [*scale(row, JOB_COLUMNS), row[0] / total, *scale(raw, STAGE_COLUMNS, log=True)]
        features.append((longest / 1e4).log1p())
        summed = sum((stages[i] for i in mine), torch.zeros(8))
        jobs.append(levels.job_layers(torch.cat([torch.tensor(features), levels.job_norm(summed)])))
    features = [step["committable"] / total, float(step["can_wait"])]
    features += [torch.tensor(1.0 + len(x)).log() for x in (jobs, stages)]
    features += scale(step["stages"].sum(0), STAGE_COLUMNS, log=True)
    summed = levels.whole_norm(sum(jobs))
    whole = levels.whole_layers(torch.cat([torch.tensor(features), summed]))
    tokens = [("return", graph.return_encoder(torch.tensor([[to_go]]))[0, 0]), ("globals", whole)]
    for i in step["schedulable"].nonzero()[:, 0].tolist():
        joined = torch.cat([stages[i], jobs[job_of[i]], whole])
        tokens.append(("stage", graph.stage_layers(joined)))
    tokens.append(("decision", whole))
    return torch.stack([graph.projections[name](x[None, None])[0, 0] for name, x in tokens])


def test_tokens_equal_plain_loops_over_steps_stages_and_edges():
    graph, to_go = make_graph(), torch.tensor([[3.0, 0.0, -8.0]])
    steps = [make_step(0), padding(), make_step(1, stages=12, jobs=5)]
    tokens, _ = graph.observe(together(steps), to_go)
    expected = torch.cat([by_hand(graph, steps[0], 3.0), by_hand(graph, steps[2], -8.0)])
    torch.testing.assert_close(tokens, expected, atol=1e-5, rtol=1e-5)


def test_each_step_is_encoded_alone():
    graph, steps = make_graph(), [make_step(seed, 5 + seed) for seed in range(6)]
    to_go = torch.rand(2, 3)
    tokens, ptr = graph.observe(together(steps, batch=2), to_go)
    for i, step in enumerate(steps):
        alone, _ = graph.observe(together([step]), to_go.view(6, 1, 1)[i])
        torch.testing.assert_close(tokens[ptr[i] : ptr[i + 1]], alone, atol=1e-5, rtol=1e-5)


def permuted(step: dict[str, torch.Tensor], order: torch.Tensor) -> dict[str, torch.Tensor]:
    rows = {k: step[k][order] for k in ("stages", "stage_job", "schedulable", "frontier")}
    return step | rows | {"edges": order.argsort()[step["edges"].long()]}


def test_permuting_stages_permutes_their_tokens():
    graph, step = make_graph(), make_step(0, stages=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    tokens, _ = graph.observe(together([step]), torch.ones(1, 1))
    moved, _ = graph.observe(together([permuted(step, order)]), torch.ones(1, 1))
    # Schedulable rows are 0, 2, …: row 2·i has token 2 + i.
    places = [2 + row // 2 for row in order.tolist() if row % 2 == 0]
    assert places != sorted(places)
    torch.testing.assert_close(moved, tokens[[0, 1, *places, -1]], atol=1e-5, rtol=1e-5)
    rank = {place: i for i, place in enumerate(places)}
    torch.testing.assert_close(
        graph.act(torch.tensor([[[2, 4]]]), together([step])),
        graph.act(torch.tensor([[[rank[4], 4]]]), together([permuted(step, order)])),
    )


def test_messages_go_from_children_to_parents_as_many_levels_as_rounds():
    graph, step = make_graph(rounds=2), make_step(0, stages=4, jobs=1)
    step["edges"] = torch.tensor([[0, 1], [1, 2], [2, 3]])
    cluster = graph._read(together([step]))
    before, *_ = graph.levels(cluster)
    cluster.stages[3, 0] += 5
    after, *_ = graph.levels(cluster)
    assert (before != after).any(-1).tolist() == [False, True, True, True]


def test_large_clusters_stay_in_range():
    graph = make_graph(hidden=32)
    step = make_step(0, stages=3000, jobs=450)
    step["edges"] = torch.stack([torch.zeros(299), torch.arange(1, 300)], -1).long()
    step["stages"][:, 7] = 1e9
    tokens, ptr = graph.observe(together([step]), torch.ones(1, 1))
    assert ptr.tolist() == [0, 1503]
    assert tokens.isfinite().all()
    *_, whole = graph.levels(graph._read(together([step])))
    assert whole.abs().max() < 10


def test_the_action_is_told_by_the_stage_and_the_executors_it_can_get():
    graph, step = make_graph(), make_step(0)
    step["stages"][0, 4], step["stages"][2, 4], step["committable"] = 3.0, 30.0, torch.tensor(8)
    observation = together([step])

    def token(choice, executors):
        return graph.act(torch.tensor([[[choice, executors]]]), observation)

    assert token(0, 1).shape == (1, 1, 1, WIDTH)
    assert not torch.allclose(token(0, 2), token(0, 3))
    assert torch.equal(token(0, 3), token(0, 8))  # its demand
    assert torch.equal(token(0, 0), token(0, 1))
    assert not torch.allclose(token(1, 7), token(1, 8))
    assert torch.equal(token(1, 8), token(1, 30))  # committable
    assert not torch.allclose(token(0, 3), token(1, 3))
    assert torch.equal(token(-1, 1), token(-1, 5))
    step["stages"][2] = step["stages"][0]
    step["stage_job"][2] = step["stage_job"][0]
    assert torch.equal(token(0, 2), graph.act(torch.tensor([[[1, 2]]]), together([step])))


def test_each_action_is_encoded_alone_and_padding_is_none():
    graph = make_graph()
    steps = [make_step(0), padding(), make_step(1), make_step(2)]
    action = torch.tensor([[[1, 3], [0, 0], [-1, 1], [2, 4]]])
    tokens = graph.act(action, together(steps))
    torch.testing.assert_close(tokens[:, :1], graph.act(action[:, :1], together(steps[:1])))
    torch.testing.assert_close(tokens[:, 3:], graph.act(action[:, 3:], together(steps[3:])))
    assert torch.equal(tokens[:, 1], tokens[:, 2])


def test_every_weight_learns():
    graph, observation = make_graph(), together([make_step(0), padding(), make_step(1)])
    tokens, _ = graph.observe(observation, torch.ones(1, 3))
    actions = graph.act(torch.tensor([[[1, 3], [0, 0], [-1, 1]]]), observation)
    (tokens.square() * torch.rand(WIDTH)).sum().backward()
    (actions.square() * torch.rand(WIDTH)).sum().backward()
    for name, weight in graph.named_parameters():
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0, name


def test_autocast_changes_little():
    graph, observation = make_graph(), together([make_step(0), make_step(1)])
    action = torch.tensor([[[1, 3], [-1, 0]]])
    full = graph.observe(observation, torch.ones(1, 2))[0], graph.act(action, observation)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = graph.observe(observation, torch.ones(1, 2))[0], graph.act(action, observation)
    for a, b in zip(full, half, strict=True):
        torch.testing.assert_close(a, b.float(), atol=0.2, rtol=0)


def test_config_rebuilds_the_encoder():
    graph, observation = make_graph(rounds=1, gain=0.1), together([make_step(0)])
    twin = Graph(**json.loads(json.dumps(graph.config())))
    assert twin.config() == graph.config()
    twin.load_state_dict(graph.state_dict())
    to_go = torch.ones(1, 1)
    assert torch.equal(graph.observe(observation, to_go)[0], twin.observe(observation, to_go)[0])


def test_the_encoder_is_found_by_its_entry_point():
    (entry,) = importlib.metadata.entry_points(group="netllm.encoders", name="graph")
    assert entry.load() is Graph


@pytest.mark.parametrize("name", ["stages", "edges", "can_wait"])
def test_a_missing_field_is_named(name):
    observation = together([make_step(0)])
    del observation[name]
    with pytest.raises(ValueError, match=f"must hold the field '{name}', got .* another task"):
        make_graph().observe(observation, torch.ones(1, 1))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("stages", torch.zeros(7, 8), r"'stages' must have shape \(rows, 9\), got \(7, 8\)"),
        ("jobs", torch.zeros(3, 4), r"'jobs' must have shape \(rows, 5\), got \(3, 4\)"),
        ("frontier", torch.zeros(7, 1) > 0, r"must have shape \(rows\), got \(7, 1\)"),
        ("committable", torch.zeros(1), r"must be one value per step, .* got shape \(1,\)"),
        ("executors", torch.ones(1, 2), r"'executors' must be one value per step"),
        ("schedulable", torch.zeros(6) > 0, "2 offsets, the last 6, .* got 2, the last 7"),
    ],
)
def test_values_of_another_shape_are_refused(name, values, words, unchecked_shapes):
    observation = together([make_step(0)])
    old = observation[name]
    observation[name] = (values, old[1]) if isinstance(old, tuple) else values
    with pytest.raises(ValueError, match=words):
        make_graph().observe(observation, torch.ones(1, 1))


def test_offsets_of_another_batch_are_refused(unchecked_shapes):
    observation = together([make_step(0), make_step(1)])
    with pytest.raises(ValueError, match=r"as many rows and steps as 'committable', \(1, 2\), got"):
        make_graph().observe(observation, torch.ones(2, 1))
    observation["frontier"] = observation["frontier"][0], torch.tensor([0, 6, 14])
    with pytest.raises(ValueError, match="'frontier' must have one row per stage of every step"):
        make_graph().observe(observation, torch.ones(1, 2))


@pytest.mark.parametrize("choice", [4, -2])
def test_an_action_that_is_no_schedulable_stage_is_refused(choice):
    observation = together([padding(), make_step(0)], batch=2)
    action = torch.tensor([[[7, 1]], [[choice, 1]]])
    with pytest.raises(ValueError, match=f"4 schedulable stages, .* got {choice} in row 1, step 0"):
        make_graph().act(action, observation)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stage_columns": {"tasks": {}}}, "`stage_columns` must declare the column 'demand'"),
        ({"job_columns": {}}, "`job_columns` must declare the column 'supply', got"),
        ({"job_columns": {"supply": {"scale": 0.0}}}, "job_columns: column 'supply': `scale` must"),
        ({"job_columns": {"supply": {"unit": 1}}}, "column 'supply': unknown setting 'unit'"),
        ({"rounds": -1}, "must be at least 1, and `rounds` at least 0, got 24, 8 and -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make_graph(**settings)


class ParentsToo(MessagePassing):
    """A layer of one's own: messages go both ways."""

    def __init__(self, features: int, out: int) -> None:
        super().__init__(aggr="mean")
        self.linear = torch.nn.Linear(features, out)

    def forward(self, stages: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        return self.propagate(torch.cat([edges, edges.flip(0)], 1), x=self.linear(stages))


CONVOLUTIONS = {
    "decima": {"conv": "decima"},
    "gin": {"conv": "gin"},
    "gat": {"conv": "gat", "conv_settings": {"heads": 2}},
    "sage": {"conv": "sage"},
    "name": {"conv": "GATv2Conv", "conv_settings": {"heads": 2, "concat": False}},
    "class": {"conv": TransformerConv},
    "function": {"conv": lambda hidden: GraphConv(hidden, hidden, aggr="max")},
    "own": {"conv": ParentsToo},
}
each_convolution = pytest.mark.parametrize("settings", CONVOLUTIONS.values(), ids=CONVOLUTIONS)


@each_convolution
def test_with_any_convolution_a_batch_equals_its_steps_one_by_one(settings):
    graph = make_graph(**settings).eval()
    steps = [make_step(seed, 5 + seed) for seed in range(4)]
    to_go = torch.rand(2, 2)
    tokens, ptr = graph.observe(together(steps, batch=2), to_go)
    for i, step in enumerate(steps):
        alone, _ = graph.observe(together([step]), to_go.view(4, 1, 1)[i])
        torch.testing.assert_close(tokens[ptr[i] : ptr[i + 1]], alone, atol=1e-5, rtol=1e-5)


@each_convolution
def test_with_any_convolution_permuting_stages_permutes_their_embeddings(settings):
    graph, step = make_graph(**settings).eval(), make_step(0, stages=9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(3))
    stages, jobs, whole = graph.levels(graph._read(together([step])))
    moved = graph.levels(graph._read(together([permuted(step, order)])))
    for before, after in zip((stages[order], jobs, whole), moved, strict=True):
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


@each_convolution
def test_with_any_convolution_a_stage_learns_of_its_children_and_not_of_its_parents(settings):
    graph, step = make_graph(rounds=1, **settings).eval(), make_step(0, stages=4, jobs=1)
    step["edges"] = torch.tensor([[0, 1], [1, 2], [2, 3]])
    before, after = graph._read(together([step])), graph._read(together([step]))
    after.stages[2, 0] += 5
    changed = (graph.levels(before)[0] != graph.levels(after)[0]).any(-1).tolist()
    assert changed == [False, True, True, settings.get("conv") is ParentsToo]


@each_convolution
def test_with_any_convolution_every_round_learns(settings):
    graph, step = make_graph(**settings), make_step(0, stages=12, jobs=1)
    assert len(step["edges"]) > 12  # attention learns where a stage has several children
    tokens, _ = graph.observe(together([step]), torch.ones(1, 1))
    (tokens.square() * torch.rand(WIDTH)).sum().backward()
    for name, weight in graph.levels.rounds.named_parameters():
        assert weight.grad.isfinite().all(), name
        assert weight.grad.abs().sum() > 0 or name.endswith("lin_key.bias"), name  # cancels out


@pytest.mark.parametrize("name", ["decima", "gin", "gat", "sage", "name", "class"])
def test_the_configuration_names_the_convolution(name):
    graph, observation = make_graph(**CONVOLUTIONS[name]).eval(), together([make_step(0)])
    config = json.loads(json.dumps(graph.config()))
    assert isinstance(config["conv"], str)
    twin = Graph(**config).eval()
    twin.load_state_dict(graph.state_dict())
    to_go = torch.ones(1, 1)
    assert torch.equal(graph.observe(observation, to_go)[0], twin.observe(observation, to_go)[0])


@pytest.mark.parametrize("name", ["function", "own"])
def test_a_convolution_of_ones_own_comes_from_a_class_and_never_from_a_configuration(name, caplog):
    own = CONVOLUTIONS[name]["conv"]
    config = make_graph(conv=own).config()
    assert "A checkpoint cannot name the convolution" in caplog.text
    with pytest.raises(ValueError, match=r"`conv` must be a short name .* parts=\[CLASS\]"):
        Graph(**config)

    class Mine(Graph):
        def __init__(self, **settings) -> None:
            super().__init__(**(settings | {"conv": own}))

    caplog.clear()
    graph = Mine(**config)
    assert not caplog.text
    assert Mine(**graph.config()).state_dict().keys() == graph.state_dict().keys()


def test_a_configuration_from_before_there_was_a_choice_is_decimas():
    config = make_graph().config()
    del config["conv"], config["conv_settings"]
    graph = Graph(**config)
    names = [name for name in graph.state_dict() if name.startswith("levels.rounds.0.")]
    layers = ["message.0", "message.2", "norm", "update.0", "update.2"]
    assert names == [f"levels.rounds.0.{x}.{y}" for x in layers for y in ("weight", "bias")]


def test_graphs_without_edges_are_encoded_by_all():
    step = make_step(0)
    step["edges"] = step["edges"][:0]
    for settings in CONVOLUTIONS.values():
        tokens, _ = make_graph(**settings).observe(together([step]), torch.ones(1, 1))
        assert tokens.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"conv": "gats"}, "`conv` must be a short name .* got 'gats'. Did you mean 'gat'"),
        ({"conv": "os.system"}, "`conv` must be a short name .* got 'os.system'"),
        ({"conv": "MessagePassing"}, "`conv` must be a short name .* built of in_channels"),
        ({"conv": "decima", "conv_settings": {"heads": 2}}, "'decima' has no settings, got heads"),
        ({"conv": "gat", "conv_settings": {"heads": 3}}, "`heads` must divide the 8 features"),
        ({"conv": "sage", "conv_settings": {"head": 3}}, "'sage' cannot be made for 8 features"),
        ({"conv": "GATConv", "conv_settings": {"heads": 2}}, r"got \(2, 16\) for \(2, 8\)"),
        ({"conv": "RGCNConv", "conv_settings": {"num_relations": 2}}, "must be called as layer"),
        ({"conv": torch.nn.Linear}, r"'torch.nn.modules.linear.Linear' must be called as"),
    ],
)
def test_a_convolution_that_does_not_fit_is_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        make_graph(**settings)


def test_a_missing_library_is_named_with_its_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    with pytest.raises(
        ModuleNotFoundError, match=r'pip install "./packages/netllm-encoders\[graph\]"'
    ):
        make_graph()


def test_the_package_loads_torch_geometric_for_graphs_only():
    code = (
        "import sys, netllm_encoders as e; e.Graph; e.Viewport(width=8, history=4); "
        "assert 'torch_geometric' not in sys.modules; "
        "e.Graph(width=8, stage_columns={'demand': {}}, job_columns={'supply': {}}); "
        "assert 'torch_geometric' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
