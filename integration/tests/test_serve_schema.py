"""Observations cross JSON unchanged, whatever the task, and what is wrong is named."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from netllm import registry
from netllm.serve.schema import arrays, decisions_type, joined, split
from netllm_sims import cjs


def through(task, setting, batch):
    """A batch after it was split, written, read, checked and joined."""
    fields = registry.task(task).observation_fields(setting)
    kind = decisions_type(task, fields, remembers=False)
    asked = {"decisions": [{"observation": one} for one in split(fields, batch)]}
    read = msgspec.json.decode(msgspec.json.encode(asked), type=kind)
    rows = [arrays(fields, one.observation) for one in read.decisions]
    return joined(fields, rows, [*range(len(rows))])


def assert_same(given, batch, but=()):
    assert {*given} - {"episode"} == {*batch} - {*but} - {"episode"}
    for name, values in given.items():
        if name != "episode":
            assert np.array_equal(values, batch[name]), name
            assert values.dtype.kind == batch[name].dtype.kind, name


def test_what_players_see_crosses_json_unchanged():
    task = registry.task("abr")
    setting = task.setting("synthetic")
    environment = task.environment(
        setting, task.episodes(setting, "test", count=3), seed=0, record=False
    )
    environment.step(np.array([0, 3, 5]))
    seen = environment.observation()
    assert_same(through("abr", setting, seen), seen)


def test_what_is_seen_of_clusters_crosses_json_with_rows_counted_anew():
    setting = cjs.setting("synthetic", num_jobs=8, num_executors=6)
    running = [cjs.Simulator(setting, one) for one in setting.episodes("test", episodes=3)]
    for steps, simulator in enumerate(running):
        for _ in range(4 * steps + 3):
            simulator.step(*simulator.ask(cjs.fair()))
    seen = cjs.observe(running, range(3))
    assert len(np.unique(seen["stage_job"])) > 3
    assert (np.diff(seen["edge_ptr"]) > 0).any()
    assert_same(through("cjs", setting, seen), seen, but={"stage_id", "job_id"})


@pytest.mark.parametrize("beside", [{}, {"memory": 8, "crowd": 4}], ids=["plain", "side"])
def test_windows_cross_json_unchanged(beside):
    setting = registry.task("vp").setting("synthetic", **beside)
    clip = setting.clips("test", episodes=1)[0]
    seen = {**clip.fields(slice(0, 4)), "video": np.array([clip.video] * 4)}
    assert_same(through("vp", setting, seen), seen)


def test_a_task_that_says_nothing_is_asked_what_its_environment_shows(install):
    points = {"netllm.tasks": {"smallest": "smallest_task:Smallest"}}
    install("smallest-task", "0.1.0", points, Path(__file__).parent / "own")
    task = registry.task("smallest")
    fields = task.observation_fields(task.setting("default"))
    assert {name: (field.kind, field.shape) for name, field in fields.items()} == {
        "reward": (float, ()),
        "shown": (float, ()),
    }
    assert fields["reward"].default == 0


CLUSTER = {
    "stages": [[1, 0, 0, 0, 1, 1, 5, 5, 5]] * 2,
    "jobs": [[0, 0, 1, 0, 0]] * 2,
    "edges": [],
    "schedulable": [True, True],
    "frontier": [True, True],
    "stage_job": [0, 1],
    "committable": 1,
    "executors": 3,
    "source_job": -1,
    "time_ms": 1.5,
    "job_ms": 0,
    "can_wait": True,
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"stage_job": [0]},
            r"`observation.stage_job` must have as many rows as `observation.stag",
        ),
        ({"stage_job": [0, 2]}, r"`observation.stage_job` must hold rows of `jobs`.* 2, got 2"),
        ({"edges": [[0, 2]]}, r"`observation.edges` must hold rows of `stages`"),
        ({"source_job": 2}, r"`observation.source_job` must hold rows of `jobs`"),
        ({"edges": [[0, -1]]}, r"`int` >= 0 - at `\$.decisions\[0\].observation.edges\[0\]\[1\]`"),
        ({"stages": [[1.0]] * 2}, r"length >= 9 - at `\$.decisions\[0\].observation.stages\[0\]`"),
        ({"committable": 0}, r"`int` >= 1 - at `\$.decisions\[0\].observation.committable`"),
        ({"time_ms": 1e39}, r"<= 3.4\d+e\+38 - at `\$.decisions\[0\].observation.time_ms`"),
        ({"can_wait": 1}, r"Expected `bool`, got `int` - at `\$.*can_wait`"),
        ({"surprise": 1}, r"unknown field `surprise` - at `\$.decisions\[0\].observation`"),
    ],
)
def test_a_field_that_is_wrong_is_named(change, message):
    fields = registry.task("cjs").observation_fields(None)
    kind = decisions_type("cjs", fields, remembers=False)
    asked = {"decisions": [{"observation": CLUSTER}]}
    right = msgspec.convert(asked, kind).decisions[0].observation
    assert arrays(fields, right)["edges"].shape == (0, 2)
    with pytest.raises((ValueError, msgspec.ValidationError), match=message):
        arrays(
            fields,
            msgspec.convert({"decisions": [{"observation": CLUSTER | change}]}, kind)
            .decisions[0]
            .observation,
        )


def test_what_is_missing_is_named_by_who_sends_it():
    fields = registry.task("cjs").observation_fields(None)
    with pytest.raises(ValueError, match="must have the field 'stages', got"):
        split(fields, {"episode": np.array([0])})
