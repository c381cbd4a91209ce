"""A person's own policies, as `module:callable` names them."""

import numpy as np

BUILT, READY = [], set()
"""Policies that compile, and the levels for which one has."""


class Level:
    """Always the same level."""

    def __init__(self, level):
        self.level = level

    def reset(self, seed):
        pass

    def act(self, observation):
        return np.full(len(observation["level"]), self.level)


class Dice:
    """Any level, by a seeded die."""

    def reset(self, seed):
        self.random = np.random.default_rng(seed)

    def act(self, observation):
        return self.random.integers(6, size=len(observation["level"]))


class Carrying(Dice):
    """A die whose numbers depend on the order of episodes."""

    sequential = True


class Compiled(Level):
    """Compiles at its first question in a process; every one that was built is remembered."""

    def __init__(self, level):
        super().__init__(level)
        self.compiled = self.asked = 0
        BUILT.append(self)

    def act(self, observation):
        self.asked += 1
        if self.level not in READY:
            self.compiled += 1
            READY.add(self.level)
        return super().act(observation)


class Counting(Level):
    """One level more with each question since it was built, whatever the episode."""

    sequential = True

    def __init__(self):
        super().__init__(-1)

    def act(self, observation):
        self.level = (self.level + 1) % 6
        return super().act(observation)


class Stubborn:
    """No policy: it does not act."""

    def reset(self, seed):
        pass


class Failing(Level):
    """Can be built, but not asked."""

    def act(self, observation):
        raise ValueError("no level for you")


class Forgetful(Level):
    """Reads what no observation has."""

    def act(self, observation):
        return observation["not_there"]


def forgetful(setting):
    return Forgetful(0)


def lowest(setting):
    return Level(0)


def highest(setting):
    return Level(5)


def second(setting):
    return Level(1)


def dice(setting):
    return Dice()


def carrying(setting):
    return Carrying()


def compiled_low(setting):
    return Compiled(0)


def compiled_high(setting):
    return Compiled(5)


def counting(setting):
    return Counting()


def stubborn(setting):
    return Stubborn()


def failing(setting):
    return Failing(0)
