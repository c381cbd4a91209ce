"""The trials of a sweep, in a storage that several workers share and that outlives each of them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

_log = logging.getLogger(__name__)
STORAGE, RUN = "sweep.db", "trial-"
FOLDER = "folder"
"""What a trial that is tried again keeps in mind: the folder of the first try."""
YOUNG_S = 10.0
"""A trial that began within has perhaps not locked its folder yet."""
_LOOK_S = 1.0


class Trials:
    """Asks for trials until there are enough, and takes over those whose worker has died.

    Args:
        out: folder of the sweep; the runs of its trials lie in it.
        storage: URL of another storage than the folder's own SQLite file.
        maximise: whether more is better.
        settings: what a sweep that is gone on with must agree with, as JSON can hold it.
        seed: of the search.

    Raises:
        ModuleNotFoundError: if Optuna is not installed.
        ValueError: if the storage is damaged, or holds a sweep with other settings.
    """

    def __init__(
        self,
        out: Path,
        storage: str | None,
        *,
        maximise: bool,
        settings: Mapping[str, Any],
        seed: int,
    ) -> None:
        optuna = _optuna()
        self.out = out
        self._place = storage or str(out / STORAGE)
        with self._readable(), _in_turn(out):  # two would make the tables at once
            self.study: Study = optuna.create_study(
                study_name=out.name,
                storage=storage or f"sqlite:///{out / STORAGE}",
                direction="maximize" if maximise else "minimize",
                sampler=optuna.samplers.TPESampler(seed=seed, constant_liar=True),
                load_if_exists=True,
            )
            self._check(json.loads(json.dumps(settings, default=str)))

    def _check(self, settings: Mapping[str, Any]) -> None:
        """Keep the settings, or compare them with those that are kept."""
        begun = self.study.user_attrs.get("settings")
        if begun is None:
            self.study.set_user_attr("settings", settings)
            return
        for name in begun.keys() | settings.keys():
            if begun.get(name) != settings.get(name):
                raise ValueError(
                    f"{self.out}: the sweep was begun with {name}={begun.get(name)!r}, got "
                    f"{settings.get(name)!r}. Go on with what it was begun with, or choose another "
                    "`--out`."
                )

    def folder(self, trial: Trial | FrozenTrial) -> Path:
        """Where a trial's run lies: a further try goes on in that of the first."""
        return self.out / str(trial.user_attrs.get(FOLDER, f"{RUN}{trial.number:04}"))

    def run(self, count: int, work: Callable[[Any, Path], float]) -> None:
        """Do trials until `count` have ended, those of other workers included.

        Args:
            count: how many there are to be, of earlier calls too.
            work: what a trial does in its folder, and its figure. A `RuntimeError` of it, such as
                a loss that is not finite, ends the trial alone.

        Raises:
            BlockingIOError: if somebody else writes the folder of a trial.
        """
        with self._readable():
            while True:
                self._take_over()
                known = self.study.get_trials(deepcopy=False)
                states = [trial.state.name for trial in known]
                again = sum(FOLDER in trial.user_attrs for trial in known)
                ended = states.count("COMPLETE") + states.count("FAIL") - again
                if ended >= count:
                    return
                if ended + states.count("RUNNING") >= count:
                    time.sleep(_LOOK_S)  # others are at the last ones, and may die
                    continue
                self._try(work)

    def _try(self, work: Callable[[Any, Path], float]) -> None:
        """One trial, in a folder that nobody else writes."""
        from netllm_adapt.files.locks import locked

        failed = _optuna().trial.TrialState.FAIL
        trial = self.study.ask()
        folder = self.folder(trial)
        with locked(folder):
            try:
                self.study.tell(trial, work(trial, folder))
            except RuntimeError as error:
                _log.warning("%s failed: %s", folder, error)
                self.study.tell(trial, state=failed)
            except BaseException:
                self.study.tell(trial, state=failed)
                self._once_more(trial.params, folder.name)
                raise

    def _take_over(self) -> None:
        """Queue the trials again whose worker has died; each goes on in its folder."""
        from netllm_adapt.files.locks import locked, writer_of

        states = _optuna().trial.TrialState
        with suppress(BlockingIOError), locked(self.out):  # another worker is at it
            for trial in self.study.get_trials(states=(states.RUNNING,), deepcopy=False):
                folder = self.folder(trial)
                if _age_s(trial) > YOUNG_S and writer_of(folder) is None:
                    _log.warning("%s: its worker has died; it is tried again.", folder)
                    self.study.tell(trial.number, state=states.FAIL)
                    self._once_more(trial.params, folder.name)

    def _once_more(self, params: Mapping[str, Any], folder: str) -> None:
        self.study.enqueue_trial(dict(params), user_attrs={FOLDER: folder})

    @contextmanager
    def _readable(self) -> Iterator[None]:
        """A block whose errors of a damaged storage say which one it is."""
        from sqlalchemy.exc import DatabaseError, OperationalError

        try:
            yield
        except (DatabaseError, _optuna().exceptions.StorageInternalError) as error:
            cause = error.__cause__ or error
            if isinstance(cause, OperationalError) and "locked" in str(cause):
                raise OSError(f"{self._place}: is in use by another worker. Try again.") from error
            told = getattr(cause, "orig", None) or cause
            raise ValueError(
                f"{self._place}: must be the storage of a sweep, but {told}. Choose another "
                "`--out`, or take it away: the runs of the trials stay."
            ) from error


@contextmanager
def _in_turn(folder: Path) -> Iterator[None]:
    """A block in which one worker at a time is; the others wait."""
    from netllm_adapt.files.locks import locked

    with ExitStack() as held:
        while True:
            try:
                held.enter_context(locked(folder))
                break
            except BlockingIOError:
                time.sleep(_LOOK_S / 10)
        yield


def _age_s(trial: FrozenTrial) -> float:
    begun = trial.datetime_start or datetime.now()
    return (datetime.now() - begun).total_seconds()


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ModuleNotFoundError(
            "A sweep needs Optuna. In a clone: pip install './integration[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
