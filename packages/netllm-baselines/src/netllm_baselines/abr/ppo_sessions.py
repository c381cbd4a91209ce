"""Sessions that PPO learns from and is validated on."""

from dataclasses import replace

import numpy as np
from netllm_sims.abr import Session, Setting, Trace

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
    altered = [
        _alter(session, drawn, recipe, rng) if rng.random() < recipe.alter_share else session
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


def _check(setting: Setting, part: str, recipe: PPORecipe) -> None:
    names = [session.trace.id for session in setting.sessions(part)]
    if not any(recipe.traces in name for name in names):
        raise ValueError(
            f"`traces` must be part of the names of some {part} traces of {setting.name!r}, "
            f"got {recipe.traces!r} and names such as {names[0]!r}."
        )


def _alter(
    session: Session, others: list[Session], recipe: PPORecipe, rng: np.random.Generator
) -> Session:
    stretch = float(np.exp(rng.uniform(-recipe.stretch, recipe.stretch)))
    time_s = session.trace.time_s * stretch
    bandwidth = session.trace.bandwidth_mbps
    sigma, run = rng.uniform(0, recipe.noise), int(rng.integers(1, recipe.noise_points + 1))
    steps = rng.normal(-(sigma**2) / 2, sigma, len(bandwidth) // run + 1)
    bandwidth = bandwidth * np.exp(np.repeat(steps, run)[: len(bandwidth)])
    start_s = session.start_s * stretch
    if rng.random() < recipe.splice_share:
        cut = int(np.searchsorted(time_s, start_s + rng.uniform(20, 150)))
        if 1 < cut < len(time_s):
            other = others[int(rng.integers(len(others)))].trace
            first = int(rng.integers(len(other.time_s) // 2 + 1))
            later_s = other.time_s[first + 1 :] - other.time_s[first] + time_s[cut - 1]
            time_s = np.concatenate([time_s[:cut], later_s])
            bandwidth = np.concatenate([bandwidth[:cut], other.bandwidth_mbps[first + 1 :]])
    if not bandwidth[1:].any():
        return session
    trace = Trace(id=session.trace.id, time_s=time_s, bandwidth_mbps=bandwidth)
    return replace(session, trace=trace, start_s=min(start_s, 0.999 * trace.period_s))
