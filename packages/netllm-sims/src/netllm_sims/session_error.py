"""The error of one session among several that run together."""

from collections.abc import Sequence

import numpy as np
from numpy import ndarray


class SessionError(ValueError):
    """What one session of a batch shows or is answered cannot be used; the others can.

    Args:
        message: What is wrong.
        session: Its id.
        field: What of it, such as `history_deg` or `answer`.
    """

    def __init__(self, message: str, *, session: str, field: str) -> None:
        super().__init__(message)
        self.session = session
        self.field = field

    def __reduce__(self) -> "tuple[object, ...]":
        """Worker processes give errors back by pickle."""
        return _remade, (str(self), self.session, self.field)


def _remade(message: str, session: str, field: str) -> SessionError:
    return SessionError(message, session=session, field=field)


def check_answers(answers: ndarray, sessions: Sequence[str], field: str) -> None:
    """Raise SessionError where a policy's answer to one of the sessions is NaN or infinite.

    Args:
        answers: One for each session, along the first axis; other shapes are checked elsewhere.
        sessions: Their ids.
        field: What was asked for.
    """
    if answers.dtype.kind != "f" or not answers.ndim or len(answers) != len(sessions):
        return
    fine = np.isfinite(answers).reshape(len(answers), -1).all(axis=1)
    if not fine.all():
        row = int(fine.argmin())
        raise SessionError(
            f"The policy must answer session `{sessions[row]}` (row {row} of the batch) with a "
            f"finite `{field}`, got {answers[row]!s:.80}.",
            session=sessions[row],
            field=field,
        )
