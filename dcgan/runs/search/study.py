"""The study of a search: its journal, which several processes and machines share, and who runs which trial."""

import math
import socket
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from dcgan.common.errors import UserError
from dcgan.runs.run_dir import FAILURE, JOURNAL, list_checkpoints
from dcgan.runs.search.space import SearchSpace
from dcgan.runs.sweeps import short_hash

STUDY = "search"
LOCKS = ".search"  # a folder: the lock for the choice of trials, and one of each process of the search
SETTINGS, WORKER, REASON = "settings", "worker", "reason"  # user attributes of the study, of a trial, of a trial
LOCK_SECONDS = 60
MIN_TRIALS = 3  # that fail before their first step, until the search itself is taken to be wrong


def open_study(
    journal: str | Path, pruner: BasePruner | None = None, sampler: BaseSampler | None = None
) -> optuna.Study:
    """Open the study in a journal, which is created if it does not exist."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # on NFS, too; unlike a symbolic link, an abandoned lock file is found by all machines, after 30 s
    backend = JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal)))
    return optuna.create_study(
        storage=JournalStorage(backend),
        study_name=STUDY,
        load_if_exists=True,
        sampler=sampler or RandomSampler(),
        pruner=pruner or optuna.pruners.NopPruner(),
    )


def repair_journal(journal: Path) -> None:
    """Remove an incomplete last line, which a power cut may leave. Later lines would make the journal unreadable."""
    if not journal.exists():
        return
    lock = JournalFileOpenLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
    finally:
        lock.release()


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """Return a trial that another process may have created."""
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


class Search:
    """A search in a folder. As a context manager, it marks its trials as those of a process that is alive.

    Args:
        folder: Of the sweep. Trial i has its run in `run_dir(i)`.
        space: The search space.
        create_sampler: Called with `seed`, an integer, for each new trial. So a search that was stopped and continued
            makes the same choices as one that was not.
        seed: >= 0.
        n_trials: Number of trials of all processes and calls, >= 1.
        settings: What the trials have in common, as plain containers.

    Raises:
        UserError: The folder holds a search of another space or with other settings.
    """

    def __init__(
        self,
        folder: Path,
        space: SearchSpace,
        create_sampler: Callable[..., BaseSampler],
        seed: int,
        n_trials: int,
        settings: dict[str, Any],
    ) -> None:
        self.folder, self.space, self.create_sampler, self.seed = folder, space, create_sampler, seed
        self.n_trials = n_trials
        self.worker = f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
        self.journal, self.locks = folder / JOURNAL, folder / LOCKS
        self.locks.mkdir(parents=True, exist_ok=True)
        with self.lock():
            repair_journal(self.journal)
            self.study = open_study(self.journal)
            begun = self.study.user_attrs.setdefault(SETTINGS, settings)
            for key in settings:
                if begun.get(key) != settings[key]:
                    raise UserError(
                        f"{folder} holds a search with other {key} ({begun.get(key)}, now {settings[key]}): remove "
                        "that folder, or give the search another sweep.name"
                    )
            self.study.set_user_attr(SETTINGS, settings)

    def __enter__(self) -> "Search":
        self.alive = ExitStack()
        self.alive.enter_context(FileLock(self.locks / f"{self.worker}.lock"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.alive.close()
        (self.locks / f"{self.worker}.lock").unlink(missing_ok=True)

    def lock(self) -> FileLock:
        return FileLock(self.locks / "lock", timeout=LOCK_SECONDS)

    def run_dir(self, number: int) -> Path:
        return self.folder / f"trial_{number:04}"

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    @property
    def asked(self) -> list[FrozenTrial]:
        """The trials that count: those with a value for each key. A kill may leave one without."""
        return [trial for trial in self.trials if trial.params.keys() >= self.space.params.keys()]

    def next_trials(self, n: int) -> list[FrozenTrial]:
        """Return up to n trials to run now: first those that a killed process has left, then new ones.

        A new trial with the values of a finished one is not run: it gets that one's result.
        """
        with self.lock():
            numbers = [trial.number for trial in self.asked if self.is_abandoned(trial)][:n]
            while len(numbers) < n and len(self.asked) < self.n_trials:
                number = len(self.trials)
                self.study.sampler = self.create_sampler(seed=int(short_hash(f"{self.seed} {number}"), 16))
                trial = self.study.ask(self.space.distributions)
                same = (t for t in self.asked if t.state.is_finished() and t.params == trial.params)
                if (twin := next(same, None)) is None:
                    numbers.append(trial.number)
                else:
                    trial.set_user_attr(REASON, f"same settings as trial {twin.number}")
                    value = twin.value if twin.state == TrialState.COMPLETE else None
                    self.study.tell(trial, value, twin.state)
            for number in numbers:
                trial_of(self.study, number).set_user_attr(WORKER, self.worker)
            return [self.trials[number] for number in numbers]

    def is_abandoned(self, trial: FrozenTrial) -> bool:
        """Return True if the trial runs in no process of this search that is alive."""
        if trial.state != TrialState.RUNNING or trial.user_attrs.get(WORKER) == self.worker:
            return False
        try:
            with FileLock(self.locks / f"{trial.user_attrs.get(WORKER)}.lock", timeout=0):
                return True
        except Timeout:
            return False

    def tell(self, number: int, value: float) -> None:
        """Record the value of a trial that has ended. It has failed if the value is not finite.

        The run of a pruned trial has recorded that itself.
        """
        if self.trials[number].state.is_finished():
            return
        if math.isfinite(value):
            self.study.tell(number, value)
            return
        failure = self.run_dir(number) / FAILURE
        reason = failure.read_text().strip() if failure.exists() else "the objective is not a finite number"
        trial_of(self.study, number).set_user_attr(REASON, reason)
        self.study.tell(number, state=TrialState.FAIL)

    def reject_failures(self) -> None:
        """Raise UserError if the first trials have all failed before their first step: the next ones would, too."""
        states = [trial.state for trial in self.asked]
        if len(states) < min(MIN_TRIALS, self.n_trials) or set(states) != {TrialState.FAIL}:
            return
        if not any(list_checkpoints(self.run_dir(trial.number)) for trial in self.asked):
            reason = self.asked[-1].user_attrs.get(REASON, "")
            raise UserError(f"all of the first {len(states)} trials failed before their first step: {reason}")
