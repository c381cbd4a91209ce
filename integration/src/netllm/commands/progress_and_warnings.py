"""What a command says on standard error while it runs: progress, notes, warnings."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import tqdm

if TYPE_CHECKING:
    Bar = tqdm.tqdm[Any]
else:
    Bar = tqdm.tqdm

_OTHERS = ("adapt", "baselines", "encoders", "heads", "sims")
PACKAGES = ("netllm", *(f"netllm_{name}" for name in _OTHERS))
STEPS = "netllm.steps"
"""Logger of the steps of a long command; they are shown unless it is to be quiet."""


class Lines(Bar):
    """Progress as whole lines, for files and pipes: at the start, at the end and in between."""

    every_s = 30.0
    """Seconds between two lines."""
    layout = "{desc}{n_fmt}/{total_fmt} {unit} in {elapsed}, {remaining} to go{postfix}"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options |= {"disable": bool(options.get("disable")), "file": _WholeLines()}
        options |= {"mininterval": self.every_s, "miniters": 1, "bar_format": self.layout}
        if options.get("desc"):
            options["desc"] = f"{options['desc']}: "  # as tqdm has it after `set_description`
        self._begun = False
        super().__init__(*arguments, **options)

    def refresh(self, *arguments: Any, **options: Any) -> None:
        """Print a line, if it is the first or the last one is old enough."""
        if self._begun and time.time() - self.last_print_t < self.every_s:
            return
        self._begun = True
        super().refresh(*arguments, **options)
        self.last_print_t = time.time()


class Silence(Bar):
    """No progress at all."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options | {"disable": True})


class _WholeLines:
    """Standard error, without the moves of a cursor."""

    def write(self, text: str) -> None:
        if line := text.strip():
            print(line, file=sys.stderr)

    def flush(self) -> None:
        sys.stderr.flush()


class _Style(logging.Formatter):
    """`netllm: warning: …`; plain text for what is no trouble."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        level = record.levelno
        return text if level < logging.WARNING else f"netllm: {record.levelname.lower()}: {text}"


class _Once(logging.Filter):
    """Lets each warning through once: a long command's steps would repeat theirs."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is new, or no warning."""
        text = record.getMessage()
        new = record.levelno != logging.WARNING or text not in self._said
        self._said.add(text)
        return new


@contextmanager
def told(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """For the block, send messages and progress of all packages to standard error.

    Args:
        quiet: nothing but errors.
        verbose: also what is merely good to know.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Style())
    handler.addFilter(_Once())
    handler.setLevel(logging.ERROR if quiet else logging.NOTSET)
    levels = dict.fromkeys(PACKAGES, logging.INFO) if verbose else {}
    levels[STEPS] = logging.INFO
    before = {name: logging.getLogger(name).level for name in levels}
    library: Any = tqdm
    root = logging.getLogger()
    root.addHandler(handler)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    with warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore")
        if quiet or not sys.stderr.isatty():
            # Packages look the class up when they begin to show progress.
            library.tqdm = Silence if quiet else Lines
            os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # the hub's client's own
        try:
            yield
        finally:
            library.tqdm = Bar
            root.removeHandler(handler)
            for name, level in before.items():
                logging.getLogger(name).setLevel(level)


def step(line: str) -> None:
    """Say what a long command does now."""
    logging.getLogger(STEPS).info("%s", line)
