"""The run above the jobs of a multirun: how far they are, and which is the best."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mlflow_dovetail import names, store
from mlflow_dovetail.journal import Progress, is_complete
from mlflow_dovetail.records import MetricPoint, Run, RunStatus
from mlflow_dovetail.run.abandoned import is_all_over
from mlflow_dovetail.run.spawning import is_recorded
from mlflow_dovetail.run_folder import RunFolder, root_for
from mlflow_dovetail.store import RunStore

Direction = Literal["minimize", "maximize"]

# What the recorder says of a run whose process is gone without a word.
_VANISHED = "vanished"
_RECORDER_SECONDS = 60.0
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Parent:
    """A sweep's parent run. It goes along to the processes of the jobs.

    Args:
        tracking_uri: As `mlflow_dovetail.store.open` takes it.
        experiment_name: Of the parent and its children.
        run_id: Of the parent.
        direction: Which of the jobs' values is the best; None where nobody has said, and then none is.
        total: How many jobs the sweep has; None where that is not known.
        began_ms: When this call of the sweep began, since the epoch; a sweep that is taken up again has several.
    """

    tracking_uri: str | None
    experiment_name: str
    run_id: str
    direction: Direction | None
    total: int | None
    began_ms: int
    is_study: bool = False
    """A job counts when its value is known; elsewhere when its run is FINISHED, also where it returns nothing."""

    def open(self) -> RunStore:
        """The store with the runs."""
        return store.open(self.tracking_uri, self.experiment_name)

    def keep_value(self, job: int, value: float) -> None:
        """Write what a job has returned to its run, or runs, also where the store has not all of it yet."""
        for folder in self._unsent(job):
            folder.say("sweep", {names.TAG_SWEEP_VALUE: repr(value)})
        with self.open() as runs:
            for child in self._children(runs):
                if child.tags.get(names.TAG_SWEEP_JOB) == str(job):
                    runs.set_tags(child.run_id, {names.TAG_SWEEP_VALUE: repr(value)})

    def values(self) -> dict[int, float]:
        """What the jobs have returned whose runs are FINISHED, by the job's number."""
        with self.open() as runs:
            done = [child for child in self._children(runs) if value_of(child) is not None]
        return {int(child.tags[names.TAG_SWEEP_JOB]): float(child.tags[names.TAG_SWEEP_VALUE]) for child in done}

    def tell(self) -> None:
        """Write to the parent how far its children are, and, when another child is the best now, what that one has."""
        with self.open() as runs:
            self._tell(runs, self._children(runs))

    def end(self, error_status: RunStatus) -> None:
        """End the parent.

        Args:
            error_status: What the sweep's own end makes of it. FINISHED holds only where no child of this call is
                FAILED or KILLED.
        """
        with self.open() as runs:
            children = self._ended_children(runs) if error_status == "FINISHED" else self._children(runs)
            self._tell(runs, children)
            of_this_call = [child for child in children if child.start_time_ms >= self.began_ms]
            if error_status == "FINISHED" and any(child.status in ("FAILED", "KILLED") for child in of_this_call):
                error_status = "FAILED"
            runs.set_status(self.run_id, error_status)

    def _children(self, runs: RunStore) -> list[Run]:
        return runs.search(names.TAG_MLFLOW_PARENT, self.run_id)

    def _ended_children(self, runs: RunStore) -> list[Run]:
        """The children, when those that have ended are so in the store too: their recorders may need a while."""
        deadline = time.monotonic() + _RECORDER_SECONDS
        while True:
            children = self._children(runs)
            late = any(child.status == "RUNNING" and _is_sent_alone(child) for child in children)
            if not late or time.monotonic() > deadline:
                return children
            time.sleep(_LOOK_SECONDS)

    def _unsent(self, job: int) -> Iterator[RunFolder]:
        """The run folders of a job that the store has not all of."""
        for folder in RunFolder.all_under(root_for(store.project_root())):
            about = folder.describe()
            is_ones = about.tags.get(names.TAG_MLFLOW_PARENT) == self.run_id
            if is_ones and about.tags.get(names.TAG_SWEEP_JOB) == str(job):
                uri = store.resolve_uri(self.tracking_uri)
                if not is_complete(folder, Progress.load(folder, uri)):
                    yield folder

    def _tell(self, runs: RunStore, children: Sequence[Run]) -> None:
        if not children:
            return
        tags = {names.TAG_SWEEP_PROGRESS: progress(children, self.total, is_study=self.is_study)}
        best = best_of(children, self.direction)
        if best is not None:
            tags[names.TAG_SWEEP_BEST_RUN] = best.run_id
            tags[names.TAG_SWEEP_BEST_VALUE] = best.tags[names.TAG_SWEEP_VALUE]
            tags[names.TAG_SWEEP_BEST_PARAMS] = best.tags.get(names.TAG_SWEEP_PARAMS, "")
            if runs.get_run(self.run_id).tags.get(names.TAG_SWEEP_BEST_RUN) != best.run_id:
                runs.log_metrics(self.run_id, _points(best, step=len(_done_jobs(children, is_study=self.is_study))))
        runs.set_tags(self.run_id, tags)


def value_of(child: Run) -> float | None:
    """What a job has returned: None where its run is not FINISHED, or the value is no finite number."""
    text = child.tags.get(names.TAG_SWEEP_VALUE)
    if child.status != "FINISHED" or text is None:
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def best_of(children: Iterable[Run], direction: str | None) -> Run | None:
    """The FINISHED child with the best value, the first of equals; None without a direction or a value."""
    valued = [(value, child) for child in children if (value := value_of(child)) is not None]
    if not valued or direction is None:
        return None
    sign = -1 if direction == "maximize" else 1
    return min(valued, key=lambda one: sign * one[0])[1]


def progress(children: Sequence[Run], total: int | None, *, is_study: bool = False) -> str:
    """For example `12 of 16, 1 running, 2 failed, 1 cut off`: what was killed, or vanished, has been cut off."""
    running = sum(child.status in ("RUNNING", "SCHEDULED") for child in children)
    cut_off = sum(is_cut_off(child) for child in children)
    failed = sum(child.status == "FAILED" for child in children if not is_cut_off(child))
    done = len(_done_jobs(children, is_study=is_study))
    parts = [f"{done} of {total}" if total else f"{done} done"]
    counts = ((running, "running"), (failed, "failed"), (cut_off, "cut off"))
    return ", ".join([*parts, *(f"{count} {what}" for count, what in counts if count)])


def is_cut_off(child: Run) -> bool:
    """Whether a run was ended from outside, and not by what it did."""
    return child.status == "KILLED" or child.tags.get(names.TAG_END_CAUSE) == _VANISHED


def _done_jobs(children: Iterable[Run], *, is_study: bool) -> set[str]:
    """A job may have several runs, such as one a fold. A study runs another for one that has returned no number."""
    done = [one for one in children if one.status == "FINISHED" and not (is_study and value_of(one) is None)]
    return {child.tags.get(names.TAG_SWEEP_JOB, child.run_id) for child in done}


def _is_sent_alone(child: Run) -> bool:
    """Whether a run has ended, and its recorder has yet to tell the store."""
    folder = RunFolder(root_for(store.project_root()) / names.DOVETAIL_FOLDER / "runs" / (child.token or "none"))
    return is_recorded(folder) and is_all_over(folder)


def _points(best: Run, step: int) -> list[MetricPoint]:
    """The best child's metrics for the parent, without the machine's: over the sweep they show the best so far."""
    now = time.time_ns() // 1_000_000
    own = {key: value for key, value in best.metrics.items() if not key.startswith(names.METRIC_SYSTEM_PREFIX)}
    return [MetricPoint(key, value, step, now) for key, value in own.items()]
