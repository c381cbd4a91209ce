"""Which model cards the results of a test are written into."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from netllm.verbs.check_writable import check_file
from netllm.verbs.policy_spec import PolicySpec


def own_cards(specs: Iterable[PolicySpec]) -> list[Path]:
    """The cards of the checkpoints that are tested, which are all one's own and can be written.

    Raises:
        ValueError: if there is no checkpoint, or one is shipped with netllm or lies on a hub.
        OSError: if one cannot be written.
    """
    checkpoints = [spec for spec in specs if spec.checkpoint is not None]
    if not checkpoints:
        raise ValueError(
            "`update_card` needs a checkpoint whose card is updated: name one with --checkpoint."
        )
    for spec in checkpoints:
        if spec.checkpoint == "pretrained" or spec.folder is not None:
            where = "is shipped with netllm" if spec.folder is None else "lies on the model hub"
            raise ValueError(
                f"`update_card` writes into the folders of one's own checkpoints, but "
                f"{spec.checkpoint} {where}. Leave --update-card out, or copy the checkpoint into "
                "a folder and test that."
            )
    cards = [spec.found() / "README.md" for spec in checkpoints]
    for card in cards:
        check_file(card)
    return cards
