"""The loaders of pools, checkpoints, backbones and results."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mutating.judging import Subject, Wrong


def _array(values: Any) -> Any:
    return [str(values.dtype), list(values.shape), values.ravel().tolist()]


def _make_pool(folder: Path) -> Path:
    import numpy as np
    from netllm_adapt import Episode, PoolWriter, Ragged

    with PoolWriter(
        folder / "pool", task="abr", setting="default", provenance={"seed": 7}, shard_episodes=4
    ) as writer:
        for number in range(8):
            random = np.random.default_rng(number)
            writer.add(
                Episode(
                    id=f"trace-{number}",
                    policy="bba",
                    seed=number,
                    observations={
                        "buffer_s": random.random(5),
                        "sizes_mb": random.random((5, 3), np.float32),
                        "stages": Ragged(random.random((8, 2)), np.array([0, 1, 3, 3, 6, 8])),
                    },
                    actions=random.integers(0, 6, 5),
                    rewards=random.normal(size=5),
                    labels=random.integers(0, 6, 5),
                    meta={"trace": f"{number}.log", "scale": 1.5},
                )
            )
    return folder / "pool"


def _pool(path: Path) -> Any:
    from netllm_adapt import Pool

    pool = Pool(path)
    about = pool.provenance
    return {
        "episodes": [_episode(pool[number]) for number in range(len(pool))],
        "provenance": [
            about.get("task"),
            [one.get("seed") for one in about.get("collections", [])],
        ],
        "collected": pool.collected,
        "info": [pool.info()[name] for name in ("task", "settings", "episodes", "steps")],
    }


def _episode(episode: Any) -> Any:
    arrays = {"actions": episode.actions, "rewards": episode.rewards, "labels": episode.labels}
    for name, value in episode.observations.items():
        ragged = {} if not hasattr(value, "ptr") else {f"{name}.ptr": value.ptr}
        arrays |= ragged | {name: value.values if ragged else value}
    told = [episode.id, episode.policy, episode.seed, episode.meta]
    return [told, {n: a if a is None else _array(a) for n, a in arrays.items()}]


def _pool_says(path: Path) -> Any:
    import pyarrow.parquet as pq  # type: ignore[import-untyped]

    episodes, shards = [], []
    told = path / "_provenance.json"
    about = json.loads(told.read_bytes()) if told.exists() else {"collections": []}
    for file in sorted(path.glob("*.parquet")):
        rows = pq.read_table(file).to_pylist()
        episodes += [_row(row) for row in rows]
        shards.append((file.name, len(rows)))
    steps = sum(len(episode[1]["actions"][2]) for episode in episodes)
    settings = [one["setting"] for one in about["collections"]]
    firsts = [one["first_shard"] for one in about["collections"]]
    return {
        "episodes": episodes,
        "provenance": [about.get("task"), [one.get("seed") for one in about["collections"]]],
        "collected": [
            sum(n for name, n in shards if first <= name and not (later and name >= later))
            for first, later in zip_longest(firsts, firsts[1:])
        ],
        "info": ["abr", settings, len(episodes), steps],
    }


def _row(row: dict[str, Any]) -> Any:
    import numpy as np

    wrong = [n for n in ("id", "policy") if not isinstance(row[n], str)]
    if wrong or not isinstance(row["seed"], int) or row["steps"] != len(row["actions"]):
        raise Wrong("a row has another type than it was written with")
    stages = row["observation.stages"]
    counts = np.cumsum([0, *map(len, stages)])
    flat = np.array([value for step in stages for value in step], np.float64)
    arrays = {
        "actions": np.array(row["actions"], np.int64),
        "rewards": np.array(row["rewards"], np.float64),
        "labels": np.array(row["labels"], np.int64),
        "buffer_s": np.array(row["observation.buffer_s"], np.float64),
        "sizes_mb": np.array(row["observation.sizes_mb"], np.float32),
        "stages.ptr": counts,
        "stages": flat,
    }
    told = [row["id"], row["policy"], row["seed"], json.loads(row["meta"])]
    return [told, {name: _array(array) for name, array in arrays.items()}]


def _make_checkpoint(folder: Path) -> Path:
    import torch
    from netllm.abr import ABR
    from netllm_adapt import AdaptedModel, BackboneSpec, add_lora, load_backbone
    from netllm_sims.abr import setting

    task, spec = ABR(), BackboneSpec("tiny-random-llama", layers=1, dtype="float32")
    backbone = add_lora(load_backbone(spec.name, layers=1, dtype="float32"), rank=2)
    torch.manual_seed(0)
    AdaptedModel(
        backbone=backbone,
        encoder=task.encoder(setting("synthetic"), task.recipe("tiny-random-llama"), width=64),
        head=task.head(setting("synthetic"), width=64),
        spec=spec,
        window=4,
        segment=64,
        target_return=3.5,
        about={"task": "abr", "setting": "synthetic", "command": "netllm adapt abr"},
    ).save_pretrained(folder / "checkpoint")
    return folder / "checkpoint"


def _checkpoint(path: Path) -> Any:
    from netllm_adapt import AdaptedModel

    model = AdaptedModel.from_pretrained(path)
    state = model.state_dict()
    return {
        "settings": [model.window, model.segment, model.target_return, model.about],
        "spec": repr(model.spec),
        "parts": [model.encoder.config(), model.head.config()],
        "scaling": repr(model.backbone.peft_config["default"].lora_alpha),
        "weights": {n: _array(x.float().numpy()) for n, x in state.items() if "lora" in n},
        "other": {n: float(x.double().sum()) for n, x in state.items()},
    }


def _model(result: Any) -> Any:
    kinds = [type(one).__name__ for one in result["settings"]]
    return [result["weights"], result["other"], kinds, sorted(result["parts"][0])]


def _make_backbone(folder: Path) -> Path:
    from netllm_adapt import load_backbone

    load_backbone("tiny-random-llama", layers=1, dtype="float32").save_pretrained(folder / "model")
    return folder / "model"


def _backbone(path: Path) -> Any:
    from netllm_adapt import load_backbone

    model = load_backbone(str(path), dtype="float32")
    state = {name: float(x.double().abs().sum()) for name, x in model.state_dict().items()}
    config = model.config.to_dict()
    told = ("hidden_size", "num_hidden_layers", "num_attention_heads", "rms_norm_eps", "hidden_act")
    return {"weights": state, "config": {name: config[name] for name in told}}


def _names(result: Any) -> Any:
    return sorted(result["weights"])


def _make_results(folder: Path) -> Path:
    rows = [{"id": f"t{i}", "seed": 0, "qoe": 1.0 + i / 7, "rebuffer_s": 0.1 * i} for i in range(5)]
    metrics = {"qoe": {"mean": 1.2857, "ci95": [1.0, 1.5]}}
    results = [
        {
            "task": "abr", "setting": "default", "policy": policy, "checkpoint": None,
            "metrics": metrics, "subsets": {"clean": {"episodes": 3, "metrics": metrics}},
            "episodes": rows, "seconds": 1.5, "decisions_per_s": 320.0, "teachers": ["mpc"],
        }
        for policy in ("bba", "mpc")
    ]  # fmt: skip
    file = folder / "results.json"
    file.write_text(json.dumps({"version": 1, "task": "abr", "results": results}, indent=1))
    return file


def _results(path: Path) -> Any:
    from netllm.report.result import saved_results

    return [
        {
            "who": [one.task, one.setting, one.policy, one.checkpoint, one.teachers],
            "metrics": {key: [m.mean, m.ci95] for key, m in one.metrics.items()},
            "clean": [[n, s.episodes] for n, s in one.subsets.items()],
            "episodes": one.episodes,
            "speed": [one.seconds, one.decisions_per_s],
        }
        for one in saved_results(path)
    ]


def _results_say(path: Path) -> Any:
    document = json.loads(path.read_bytes().decode("utf-8-sig"))
    return [_result(one) for one in document["results"]]


def _result(one: dict[str, Any]) -> Any:
    numbers = [one["seconds"], one["decisions_per_s"]]
    for name, known in (("policy", str), ("checkpoint", str), ("task", str), ("setting", str)):
        if not isinstance(one[name], known | None):
            raise Wrong(f"{name} is no text")
    for row in one["episodes"]:
        if not {"id", "seed", "qoe"} <= set(row):
            raise Wrong("an episode lacks a field")
        numbers += [row["qoe"], row.get("rebuffer_s", 0.0)]
    for metric in one["metrics"].values():
        numbers += [metric["mean"], *(metric["ci95"] or [])]
        if metric["ci95"] is not None and len(metric["ci95"]) != 2:
            raise Wrong("an interval has two ends")
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise Wrong("a number is none")
    return {
        "who": [
            *(one[n] for n in ("task", "setting", "policy", "checkpoint")),
            one.get("teachers", []),
        ],
        "metrics": {key: [m["mean"], m["ci95"]] for key, m in one["metrics"].items()},
        "clean": [[n, s["episodes"]] for n, s in one.get("subsets", {}).items()],
        "episodes": one["episodes"],
        "speed": [one["seconds"], one["decisions_per_s"]],
    }


SUBJECTS = {
    "pool": Subject(
        {"*.parquet": "parquet", "*.json": "json"}, _make_pool, _pool,
        "rows and facts that somebody wrote in their types; damage never", _pool_says, related=True,
    ),
    "checkpoint": Subject(
        {"*.json": "json", "*.safetensors": "safetensors"}, _make_checkpoint, _checkpoint,
        "numbers of config.json that are plausible, never weights", shape=_model, related=True,
    ),
    "backbone": Subject(
        {"*.json": "json", "*.safetensors": "safetensors"}, _make_backbone, _backbone,
        "as many weights: a folder of transformers has no digest", shape=_names, related=True,
    ),
    "results": Subject(
        {"*.json": "json"}, _make_results, _results,
        "texts and numbers may be others; fields that are lost must be told", _results_say,
    ),
}  # fmt: skip
