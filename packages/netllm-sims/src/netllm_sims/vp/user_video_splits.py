"""Which users and videos belong to training, validation and test."""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from netllm_sims.own_data import PARTS, divided

__all__ = ["PARTS", "PUBLISHED", "Pairs", "by_user", "published"]


class Pairs(NamedTuple):
    """The videos and users of one part, in the published order: the part is their product."""

    videos: tuple[int, ...]
    users: tuple[int, ...]


# fmt: off
PUBLISHED: dict[str, dict[str, Pairs]] = {
    "Jin2022": {
        "train": Pairs(
            (1, 5, 9, 2, 6, 11, 15, 16, 13, 17, 21, 22, 26, 19, 23),
            (50, 54, 6, 34, 66, 63, 52, 39, 62, 46, 75, 28, 65, 18, 37, 13, 80, 33, 69, 78, 19,
             40, 10, 43, 61, 72, 56, 41, 79, 82, 27, 71, 57, 67, 8, 2, 12, 81, 1, 64, 32, 42),
        ),
        "valid": Pairs(
            (3, 7, 12, 10, 20, 27),
            (9, 25, 73, 29, 31, 70, 58, 11, 14, 38, 16, 76, 77, 74, 24, 5, 17, 20, 51, 68, 36),
        ),
        "test": Pairs(
            (4, 8, 14, 18, 24, 25),
            (83, 15, 3, 35, 48, 22, 55, 4, 45, 60, 26, 21, 44, 23, 53, 84, 59, 49, 7, 47, 30),
        ),
    },
    "Wu2017": {
        "train": Pairs(
            (9, 7, 4, 1, 6),
            (23, 3, 19, 24, 18, 28, 9, 26, 6, 15, 21, 25, 32, 38, 45, 34, 48, 44, 29, 43, 4, 36,
             39, 8, 17, 42, 30, 11, 22, 37),
        ),
        "valid": Pairs((8, 2), (40, 20, 14, 1, 31, 12, 33, 27, 10)),
        "test": Pairs((3, 5), (16, 7, 46, 5, 35, 2, 41, 47, 13)),
    },
}
# fmt: on
"""Splits of the public NetLLM code, `config.py`. No video and no user is in two parts."""


def published(dataset: str, part: str) -> list[tuple[str, str]]:
    """Video and user of every listed pair, video by video, as `("video4", "user83")`."""
    pairs = PUBLISHED[dataset][part]
    return [(f"video{v}", f"user{u}") for v in pairs.videos for u in pairs.users]


def by_user(users: Iterable[str]) -> dict[str, list[str]]:
    """Users of each part for data that come without a split: a fifth validates, a fifth tests.

    The order is that of the SHA-256 of the users' ids, not of the files: the first fifth is `test`,
    the next `valid`, each at least one user. Fewer than three users cannot be split and are all
    `test`.
    """
    ordered = sorted(set(users), key=lambda user: hashlib.sha256(user.encode()).hexdigest())
    return divided(ordered)
