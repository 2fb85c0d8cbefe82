"""The sums of a training's time: seconds and counts, from marks in the order in which they happen."""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from time import perf_counter


@dataclass
class Spent:
    """Between two moments: seconds in total, and counts.

    Args:
        wall: All of it.
        data: Waiting for batches.
        logging: In loggers, but for what validation logs.
        validation: Validation.
        fetches: Batches that were asked for.
        steps: Batches that were trained on.
        samples: In those that told their size.
        unsized: Batches that did not.
    """

    wall: float = 0.0
    data: float = 0.0
    logging: float = 0.0
    validation: float = 0.0
    fetches: int = 0
    steps: int = 0
    samples: int = 0
    unsized: int = 0

    def __sub__(self, earlier: Spent) -> Spent:
        return Spent(*(now - then for now, then in zip(astuple(self), astuple(earlier), strict=True)))

    @property
    def training(self) -> float:
        """Seconds without validation."""
        return self.wall - self.validation


class Timeline:
    """Adds up where the time goes. One thread calls it."""

    def __init__(self) -> None:
        self._spent = Spent()
        self._began = perf_counter()
        self._waits_since: float | None = None
        self._validates_since: float | None = None

    def epoch_begins(self) -> None:
        """The loaders' iterators are made now, which starts workers: the wait for the first batch begins."""
        self._waits_since = perf_counter()

    def wait_begins(self) -> None:
        """The next batch is asked for. A validation that has no batches begins and does not end."""
        self.validation_ends()
        if self._waits_since is None:
            self._waits_since = perf_counter()

    def wait_ends(self) -> None:
        """It is there, or there is none."""
        self._spent.fetches += 1
        self.step_begins()

    def step_begins(self) -> None:
        """Nothing is waited for, unless the step asks for its batches itself."""
        if self._waits_since is not None:
            self._spent.data += perf_counter() - self._waits_since
            self._waits_since = None

    def validation_begins(self) -> None:
        """Twice is fine: its workers start before Lightning's hook is called."""
        self._waits_since = None  # a resumed training may validate before its first batch
        if self._validates_since is None:
            self._validates_since = perf_counter()

    def validation_ends(self) -> None:
        """Back to training."""
        if self._validates_since is not None:
            self._spent.validation += perf_counter() - self._validates_since
            self._validates_since = None

    def logged(self, seconds: float) -> None:
        """Loggers were busy; within validation that is validation's."""
        if self._validates_since is None:
            self._spent.logging += seconds

    def step_ends(self, samples: int | None) -> None:
        """A batch was trained on; None where it did not tell its size."""
        self._spent.steps += 1
        if samples is None:
            self._spent.unsized += 1
        else:
            self._spent.samples += samples

    def read(self, now: float) -> Spent:
        """Everything until `now`, a time of `perf_counter`; a validation that goes on included."""
        validates = 0.0 if self._validates_since is None else now - self._validates_since
        return replace(self._spent, wall=now - self._began, validation=self._spent.validation + validates)
