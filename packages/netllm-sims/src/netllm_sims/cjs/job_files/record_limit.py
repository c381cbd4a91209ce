"""How many records of a log or trace are kept: as many as what may be read of a file allows."""

from netllm_sims.files import reading


class RecordLimit:
    """Counts records that take memory, and refuses those beyond the limit of `reading`.

    Args:
        what: The records, in the plural.
        each_bytes: Memory that one takes, about, with all that is made of it.
    """

    def __init__(self, what: str, each_bytes: int) -> None:
        self._what = what
        self._each_bytes = each_bytes
        self.most = reading.most_bytes() // each_bytes

    def check(self, where: object, count: int) -> None:
        """Raise ValueError unless so many fit."""
        if count > self.most:
            more = -(-2 * count * self._each_bytes // 1_000_000)
            raise ValueError(
                f"{where}: at most {self.most:,} {self._what} are kept in memory, got more. Give "
                f"a part of the file, or set the environment variable {reading.LIMIT} to more, "
                f"such as {reading.LIMIT}={more}MB."
            )
