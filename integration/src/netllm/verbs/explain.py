"""Explain: which inputs moved a decision of an adapted model, and what would have changed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netllm import registry
from netllm.deciders.policy_spec import PolicySpec, of_checkpoints
from netllm.report.provenance import device_name, nameable, provenance
from netllm.task import Task
from netllm.verbs import check_arguments
from netllm.verbs.check_writable import check_folder
from netllm.verbs.default_setting import world_of

if TYPE_CHECKING:
    from netllm_adapt import Adapted

    from netllm.explaining.contrast import Contrast
    from netllm.explaining.explainer import Explainer
    from netllm.explaining.explanation import Explanation

FILE = "explanation.json"
NEEDED = {"captum": "captum", "sklearn": "scikit-learn"}
"""Modules of the extra `explain`, and what they are called where they are installed from."""


def explain(
    task: str,
    *,
    checkpoint: str | Path,
    episode: str,
    out: str | Path,
    step: int | None = None,
    decisions: int = 24,
    episodes: int = 6,
    depth: int = 3,
    part: str = "test",
    setting: str | None = None,
    seed: int | None = None,
    data: str | Path | None = None,
    set: Mapping[str, Any] | None = None,
    device: str = "auto",
    trust_backbone: bool = False,
) -> Explanation:
    """Say which inputs moved the decisions of an adapted model in one episode.

    The model plays the episode. Decisions spread over it are compared with the same ones on a
    neutral observation, and integrated gradients (Captum) share the difference among the fields,
    summed by field and by how many steps ago. Of one decision also: attention over past steps, and
    one field after the other at other values, which shows where the answer changes. A rule tree
    imitates the decisions of several episodes; how often it agrees is measured on others. Writes
    explanation.json and plots; the model computes in float32, whatever it was adapted in.

    Args:
        task: What the model was adapted to, such as abr.
        checkpoint: The model: a run's folder, a checkpoint's, or `pretrained`.
        episode: The episode's id, as in results.json of `netllm test`, or its number in the part,
            from 0.
        out: Folder for explanation.json and plots; those of an earlier explanation are replaced.
        step: The decision of attention and sweeps, from 0; of those attributed the one whose answer
            is least sure unless given (where answers are numbers, the farthest from neutral).
        decisions: How many decisions are attributed, spread over the episode; each takes seconds.
        episodes: How many episodes are played, the explained one among them: for means, for ranges
            of sweeps, and for the rule tree, which is fitted to two thirds of them.
        depth: Questions that the rule tree asks at most, one after another.
        part: Part of the setting: train, valid or test.
        setting: Where the model plays; where it was adapted unless given.
        seed: Of random streams, and of episodes where the task draws them; the task's own unless
            given.
        data: Folder of real data; that of NETLLM_DATA unless given.
        set: Fields of the setting to override, over the checkpoint's own.
        device: Where the model computes: cpu, cuda, cuda:1, mps, or auto for a GPU if there is one.
        trust_backbone: Load, and fetch, a checkpoint's backbone from wherever the checkpoint says;
            without it only known ones are loaded.

    Raises:
        ValueError: for unknown names, an episode or step that is not there (with some that are),
            and a model that cannot be explained.
        ModuleNotFoundError: if the extra `netllm[explain]` is missing.
        OSError: if `out` cannot be written, before anything is played.
    """
    from netllm_adapt.files.locks import locked

    _check(Path(out), episodes, seed, decisions=decisions, depth=depth)
    found = registry.task(task)
    (spec,) = of_checkpoints(task, [str(checkpoint)], device=device, trust_backbone=trust_backbone)
    world = world_of(found, [spec], [] if setting is None else [setting], set or {}, data)
    (place,) = world.places
    seed = found.seeds(place)[0] if seed is None else seed
    every = found.episodes(place, part, seed=seed)
    number = _number(episode, [one.id for one in every], part, place.name)
    with locked(Path(out)):
        model = load(spec.in_setting(place))
        explainer = _explainer(found, model, place, every, number, count=episodes, seed=seed)
        about = provenance(
            **{"task": task, "setting": place.name, "part": part, "checkpoint": spec.name},
            **{"seed": seed, "number": number, "played": [one.id for one in explainer.recorded]},
            **{"overrides": nameable(world.overrides), "device": device_name(device)},
            episode=every[number].id,
        )
        explanation = _explained(explainer, about, step=step, count=decisions, depth=depth)
        _save(explanation, Path(out))
    return explanation


def load(spec: PolicySpec) -> Adapted:
    """The model of a checkpoint, in float32, with all of its weights frozen."""
    from netllm_adapt import Adapted

    model = Adapted.from_pretrained(
        spec.found(), dtype="float32", device=spec.device, trust_backbone=spec.trust_backbone
    )
    return model.requires_grad_(False)


def _check(folder: Path, episodes: int, seed: int | None, **counts: int) -> None:
    """Raise unless the extra is here, the numbers can be, and the folder can be written."""
    _check_installed()
    for name, count in counts.items():
        check_arguments.check_count(name, count)
    check_arguments.check_seed("seed", seed or 0)
    if episodes < 2:
        raise ValueError(
            f"`episodes` must be at least 2, one to fit a rule tree to and one to measure it on, "
            f"got {episodes}."
        )
    check_folder(folder, files=(FILE,))


def _check_installed() -> None:
    for module, package in NEEDED.items():
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"netllm explain needs {package}. In a clone: pip install './integration[explain]'",
                name=error.name,
            ) from error


def _number(episode: str, ids: Sequence[str], part: str, setting: str) -> int:
    """The place of an episode in its part, by its id or its number.

    Raises:
        ValueError: with a few that there are.
    """
    if episode in ids:
        return ids.index(episode)
    if episode.isdecimal() and int(episode) < len(ids):
        return int(episode)
    some = ", ".join(ids[:3])
    raise ValueError(
        f"`episode` must be the id of one of the {len(ids)} episodes of part {part!r} of setting "
        f"{setting!r}, such as {some}, or its number, 0 to {len(ids) - 1}, got {episode!r}."
    )


def _explainer(
    task: Task,
    model: Adapted,
    setting: Any,
    every: Sequence[Any],
    number: int,
    *,
    count: int,
    seed: int,
) -> Explainer:
    """The model with the episode that is explained, first, and others spread over the part.

    Raises:
        ValueError: if the part has but one episode.
    """
    import numpy as np

    from netllm.explaining.explainer import Explainer

    others = [one for k, one in enumerate(every) if k != number]
    if not others:
        raise ValueError(
            "The part must have two episodes at least, to measure a rule tree on another one than "
            "it is fitted to, got one. Choose another --part."
        )
    chosen = np.unique(np.linspace(0, len(others) - 1, min(count - 1, len(others))).astype(int))
    return Explainer(task, model, setting, [every[number], *(others[k] for k in chosen)], seed=seed)


def _explained(
    explainer: Explainer, about: Mapping[str, Any], *, step: int | None, count: int, depth: int
) -> Explanation:
    import numpy as np
    from tqdm import tqdm

    from netllm.explaining.attention import attention
    from netllm.explaining.attributions import attribution
    from netllm.explaining.explanation import Explanation
    from netllm.explaining.sweeps import sweep

    every = explainer.decisions(0)
    if step is not None and not 0 <= step < len(every):
        raise ValueError(
            f"`step` must be one of the {len(every)} decisions of episode {about['episode']}, 0 to "
            f"{len(every) - 1}, got {step}."
        )
    spread = np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int).tolist()
    steps = sorted({*spread, *([] if step is None else [step])})
    contrasts = [explainer.contrast(every[k]) for k in steps]
    least = min(contrasts, key=lambda one: one.sureness())
    at = least if step is None else contrasts[steps.index(step)]
    bar = tqdm(contrasts, desc="attribute", unit="decision", disable=None)
    attributions = [attribution(one, explainer.parts) for one in bar]
    seen = explainer.seen()
    sweeps = [sweep(at, part, seen[part.name]) for part in explainer.parts]
    return Explanation(
        about=about,
        value=_value(at),
        neutral=explainer.neutral.text,
        decisions=attributions,
        step=at.decision.step,
        attention=attention(at.decision),
        ago="tokens" if at.decision.actions is None else "steps",
        sweeps=[one for one in sweeps if one is not None],
        tree=explainer.rule_tree(depth=depth, seed=int(about["seed"])),
    )


def _value(contrast: Contrast) -> str:
    if contrast.chosen is not None:
        return "probability of the chosen answer"
    return "distance of the answer from the neutral one, root mean square, in the answer's unit"


def _save(explanation: Explanation, folder: Path) -> None:
    import json

    from netllm_adapt.files.writing import new_file

    from netllm.explaining.plots import save

    with new_file(folder / FILE) as work:
        text = json.dumps(explanation.document(), indent=1, allow_nan=False)
        work.write_text(text + "\n", encoding="utf-8")
    with new_file(folder / "rules.txt") as work:
        work.write_text(explanation.tree.text(), encoding="utf-8")
    save(explanation, folder)
