"""Sessions that the learned rivals learn from and are validated on."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from netllm_sims.abr import Session, Setting, alter, randomise

from netllm_baselines.abr.session_recipe import SessionRecipe


def training(
    setting: Setting, count: int, *, recipe: SessionRecipe, rng: np.random.Generator
) -> list[Session]:
    """Random traces from random starts, most of them altered as the recipe says.

    A trace may be played faster or slower, its bandwidth scaled and disturbed, and it may go over
    into another trace during the session. Without that, the few traces are learned by heart.
    With `recipe.worlds` a share is played in randomised worlds instead.
    """
    _check(setting, "train", recipe)
    drawn: list[Session] = []
    while len(drawn) < count:
        some = setting.sessions("train", episodes=count, seed=int(rng.integers(2**31)))
        drawn += [session for session in some if recipe.traces in session.trace.id]
    drawn = drawn[:count]
    if recipe.worlds:
        wide = int(rng.binomial(len(drawn), recipe.worlds_share))
        elsewhere, near = drawn[:wide], drawn[wide:]
        worlds = recipe.worlds
        return [
            *randomise(elsewhere, drawn, setting.video, rng, share=1.0, worlds=worlds),
            *_altered(near, drawn, recipe, rng),
        ]
    return _altered(drawn, drawn, recipe, rng)


def _altered(
    sessions: Sequence[Session],
    others: Sequence[Session],
    recipe: SessionRecipe,
    rng: np.random.Generator,
) -> list[Session]:
    """The sessions, altered and scaled as the recipe says; parts of the others may follow."""
    altered = [
        alter(
            session,
            others,
            rng,
            stretch=recipe.stretch,
            noise=recipe.noise,
            noise_points=recipe.noise_points,
            splice_share=recipe.splice_share,
        )
        if rng.random() < recipe.alter_share
        else session
        for session in sessions
    ]
    return [
        replace(session, scale=rng.uniform(recipe.scale_low, recipe.scale_high))
        if rng.random() < recipe.scale_share
        else session
        for session in altered
    ]


def validation(setting: Setting, *, recipe: SessionRecipe) -> list[Session]:
    """Fixed random sessions of the validation part, unaltered; each trace once if none is drawn."""
    _check(setting, "valid", recipe)
    drawn = setting.sessions("valid", episodes=recipe.validation_sessions, seed=0)
    chosen = [session for session in drawn if recipe.traces in session.trace.id]
    return chosen or [s for s in setting.sessions("valid") if recipe.traces in s.trace.id]


def validation_worlds(setting: Setting, *, recipe: SessionRecipe) -> list[Session]:
    """The sessions of `validation`, each in a randomised world of its own; the same every time."""
    plain = validation(setting, recipe=recipe)
    rng = np.random.default_rng(0)
    return randomise(plain, plain, setting.video, rng, share=1.0, worlds=recipe.worlds)


def _check(setting: Setting, part: str, recipe: SessionRecipe) -> None:
    names = [session.trace.id for session in setting.sessions(part)]
    if not any(recipe.traces in name for name in names):
        raise ValueError(
            f"`traces` must be part of the names of some {part} traces of {setting.name!r}, "
            f"got {recipe.traces!r} and names such as {names[0]!r}."
        )
