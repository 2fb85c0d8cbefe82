"""The one contract of every store. `tests/store/test_contract.py` runs it against each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol, TypeVar

from mlflow_dovetail.records import Artifact, DatasetInput, MetricPoint, Run, RunStatus

Self = TypeVar("Self")


class RunStore(Protocol):
    """Where runs are kept.

    A store is bound to one experiment, in which it creates runs; runs are read by id in any experiment.
    Every verb raises `StoreUnavailable` when the store does not answer (waiting about 20 s at most, uploads apart),
    `RunNotFound` when the run is not there, and `StoreRefused` when the store says no. Verbs may be called from
    several threads.
    """

    @property
    def uri(self) -> str:
        """The resolved tracking URI."""

    @property
    def experiment(self) -> str | None:
        """The experiment's name; None when the store is open for reading only."""

    @property
    def experiment_id(self) -> str | None:
        """The experiment's id; None when the store is open for reading only."""

    def create_run(
        self,
        token: str,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        start_time_ms: int | None = None,
    ) -> Run:
        """Create a run, or return the one that has this token already.

        Idempotent also when the answer to an earlier call was lost. Two processes must not share a token at the
        same instant. Without a name, the store chooses one. Tag values are cut at 8,000 characters.
        """

    def get_run(self, run_id: str) -> Run:
        """Read one run."""

    def find_run(self, text: str) -> Run:
        """Find the one run that `text` means.

        Args:
            text: A run id or token, or the beginning of one; or a run name that is unique in the store's
                experiment (in all experiments when the store is bound to none); or a registered model,
                `models:/name@alias` or `models:/name/version`, which means the run that it was made from.

        Raises:
            RunNotFound: None or several. Up to five candidates are named.
        """

    def search(self, tag: str, value: str, *, within: bool = False) -> list[Run]:
        """All runs, in any experiment, that have this tag with this value, or with the value in it; the oldest first.

        Letters count as they are written.
        """

    def search_data(self, digest: str) -> list[Run]:
        """All runs, in any experiment, that have logged a dataset with this digest; the oldest first."""

    def models_of(self, run_id: str) -> list[str]:
        """The registered models that were made from this run, each `name/version`; the oldest first."""

    def metric_history(self, run_id: str, key: str) -> list[MetricPoint]:
        """Every point of one metric, by step and time; empty when there is none."""

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        """Add points, in batches of 1,000. A point that is there already is not added twice."""

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Set params, cut at 6,000 characters. The same value again is fine.

        Raises:
            StoreRefused: A param has another value already.
        """

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set or replace tags, cut at 8,000 characters."""

    def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        """Add datasets that the run has read. The same one again is fine."""

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        """Copy one file into the run's artifacts, in the folder `artifact_path`, replacing one of the same name.

        Raises:
            StoreRefused: `path` is not a file.
        """

    def read_artifact(self, run_id: str, path: str, into: Path) -> Path:
        """Copy one of the run's files to `into`/`path`.

        Returns:
            Where it is now.

        Raises:
            StoreRefused: The run has no such file.
        """

    def list_artifacts(self, run_id: str, folder: str = "") -> list[Artifact]:
        """Every file of the run, or of a folder among its artifacts, in all folders below, sorted by path."""

    def set_status(self, run_id: str, status: RunStatus, *, end_time_ms: int | None = None) -> None:
        """Set the status. All but RUNNING end the run, now or at `end_time_ms`."""

    def close(self) -> None:
        """Give back connections. Twice is fine."""

    def __enter__(self: Self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
