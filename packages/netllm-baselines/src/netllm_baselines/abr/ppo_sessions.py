"""Sessions that PPO learns from and is validated on."""

from dataclasses import replace

import numpy as np
from netllm_sims.abr import Session, Setting, alter, randomise

from netllm_baselines.abr.ppo_recipe import PPORecipe


def training(setting: Setting, *, recipe: PPORecipe, rng: np.random.Generator) -> list[Session]:
    """Random traces from random starts, most of them altered as the recipe says.

    A trace may be played faster or slower, its bandwidth scaled and disturbed, and it may go over
    into another trace during the session. Without that, the actor learns the few traces by heart.
    """
    _check(setting, "train", recipe)
    drawn: list[Session] = []
    while len(drawn) < recipe.sessions:
        some = setting.sessions("train", episodes=recipe.sessions, seed=int(rng.integers(2**31)))
        drawn += [session for session in some if recipe.traces in session.trace.id]
    drawn = drawn[: recipe.sessions]
    if recipe.worlds:
        return _randomised(drawn, setting, recipe, rng, share=recipe.alter_share)
    altered = [
        alter(
            session,
            drawn,
            rng,
            stretch=recipe.stretch,
            noise=recipe.noise,
            noise_points=recipe.noise_points,
            splice_share=recipe.splice_share,
        )
        if rng.random() < recipe.alter_share
        else session
        for session in drawn
    ]
    return [
        replace(session, scale=rng.uniform(recipe.scale_low, recipe.scale_high))
        if rng.random() < recipe.scale_share
        else session
        for session in altered
    ]


def validation(setting: Setting, *, recipe: PPORecipe) -> list[Session]:
    """Fixed random sessions of the validation part, unaltered; each trace once if none is drawn."""
    _check(setting, "valid", recipe)
    drawn = setting.sessions("valid", episodes=recipe.validation_sessions, seed=0)
    chosen = [session for session in drawn if recipe.traces in session.trace.id]
    return chosen or [s for s in setting.sessions("valid") if recipe.traces in s.trace.id]


def validation_worlds(setting: Setting, *, recipe: PPORecipe) -> list[Session]:
    """The sessions of `validation`, each in a randomised world of its own; the same every time."""
    plain = validation(setting, recipe=recipe)
    return _randomised(plain, setting, recipe, np.random.default_rng(0), share=1.0)


def _randomised(
    sessions: list[Session],
    setting: Setting,
    recipe: PPORecipe,
    rng: np.random.Generator,
    *,
    share: float,
) -> list[Session]:
    worlds = recipe.worlds
    return randomise(sessions, sessions, setting.video, rng, share=share, worlds=worlds)


def _check(setting: Setting, part: str, recipe: PPORecipe) -> None:
    names = [session.trace.id for session in setting.sessions(part)]
    if not any(recipe.traces in name for name in names):
        raise ValueError(
            f"`traces` must be part of the names of some {part} traces of {setting.name!r}, "
            f"got {recipe.traces!r} and names such as {names[0]!r}."
        )
