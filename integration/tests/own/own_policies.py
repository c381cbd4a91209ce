"""A person's own policies, as `module:callable` names them."""

import numpy as np


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


def second(setting):
    return Level(1)


def dice(setting):
    return Dice()


def carrying(setting):
    return Carrying()


def stubborn(setting):
    return Stubborn()


def failing(setting):
    return Failing(0)
