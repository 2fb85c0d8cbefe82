"""MLflow's client, with what is logged to an open run going to its journal."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from mlflow import MlflowClient
from mlflow.entities import DatasetInput, LoggedModelInput, Metric, Param, RunTag

from mlflow_dovetail.errors import Offline
from mlflow_dovetail.journal import clock_ms
from mlflow_dovetail.run.open_runs import OPEN_RUNS
from mlflow_dovetail.store.entities import dataset_record

# MLflow's functions give each value the present time themselves; then the journal's own clock is the better one.
_NOW_MS = 10_000


class _NoStore:
    """Stands for each of the client's connections while there is none."""

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    def __getattr__(self, name: str) -> NoReturn:
        raise Offline(
            f"Cannot ask MLflow ({name}).",
            f"This run began offline: {self.tracking_uri} did not answer, or DOVETAIL_OFFLINE is set.",
            "What is logged is kept; read it when the run has been sent: `dovetail sync`.",
        )


class JournalClient(MlflowClient):
    """`MlflowClient` whose writes to an open run go to that run's journal; everything else goes to the store.

    So whatever takes a client, Lightning's callbacks or MLflow's fluent functions, logs without waiting. Offline, a
    read raises `Offline`.

    Args:
        tracking_uri: Of the store.
        is_offline: There is no store.
    """

    def __init__(self, tracking_uri: str, *, is_offline: bool) -> None:
        if not is_offline:
            super().__init__(tracking_uri)
            return
        nothing: Any = _NoStore(tracking_uri)
        self._tracking_client = self._tracing_client = self._workspace_client = nothing
        self._registry_uri, self._workspace_store_uri = tracking_uri, None

    def log_metric(
        self,
        run_id: str,
        key: str,
        value: float,
        timestamp: int | None = None,
        step: int | None = None,
        synchronous: bool | None = None,
        dataset_name: str | None = None,
        dataset_digest: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        run = OPEN_RUNS.get(run_id)
        if run is None or model_id is not None or dataset_name is not None:
            return super().log_metric(
                run_id, key, value, timestamp, step, synchronous, dataset_name, dataset_digest, model_id
            )
        run.log_metrics({key: value}, step, _told_time(timestamp))
        return None

    def log_param(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> Any:
        run = OPEN_RUNS.get(run_id)
        if run is None:
            return super().log_param(run_id, key, value, synchronous)
        run.log_params({key: value})
        return value

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> Any:
        run = OPEN_RUNS.get(run_id)
        return run.set_tags({key: value}) if run else super().set_tag(run_id, key, value, synchronous)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> Any:
        run = OPEN_RUNS.get(run_id)
        if run is None or any(metric.model_id or metric.dataset_name for metric in metrics):
            return super().log_batch(run_id, metrics, params, tags, synchronous)
        groups: dict[tuple[int, int | None], dict[str, float]] = {}
        for metric in metrics:
            group = (metric.step, _told_time(metric.timestamp))
            values = groups.setdefault(group, {})
            if metric.key in values:  # twice in a batch: both are points
                run.log_metrics(values, *group)
                values.clear()
            values[metric.key] = metric.value
        for group, values in groups.items():
            run.log_metrics(values, *group)
        if params:
            run.log_params({param.key: param.value for param in params})
        if tags:
            run.set_tags({tag.key: tag.value for tag in tags})
        return None

    def log_inputs(
        self,
        run_id: str,
        datasets: Sequence[DatasetInput] | None = None,
        models: Sequence[LoggedModelInput] | None = None,
    ) -> None:
        run = OPEN_RUNS.get(run_id)
        if run is None or not run.is_offline:  # the store keeps schema and profile as well
            super().log_inputs(run_id, datasets, models)
            return
        for dataset in datasets or ():
            run.log_input(dataset_record(dataset))

    def log_artifact(self, run_id: str, local_path: Any, artifact_path: str | None = None) -> None:
        run = OPEN_RUNS.get(run_id)
        if run is None:
            super().log_artifact(run_id, local_path, artifact_path)
        else:
            run.log_artifact(local_path, artifact_path)

    def log_artifacts(self, run_id: str, local_dir: str, artifact_path: str | None = None) -> None:
        run = OPEN_RUNS.get(run_id)
        if run is None:
            super().log_artifacts(run_id, local_dir, artifact_path)
        else:
            run.log_artifacts(local_dir, artifact_path)

    def log_table(self, run_id: str, data: Any, artifact_file: str) -> None:
        from mlflow_dovetail.run.tables import TableWriter

        run = OPEN_RUNS.get(run_id)
        if run is None or isinstance(self, TableWriter):
            super().log_table(run_id, data, artifact_file)
        else:
            TableWriter(run).log_table(run_id, data, artifact_file)

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        run = OPEN_RUNS.get(run_id)
        if run is None:
            super().set_terminated(run_id, status, end_time)
        else:
            run.end(status or "FINISHED")  # type: ignore[arg-type]

    def _log_artifact_async_helper(self, run_id: str, artifact_file: str, artifact: Any) -> None:
        """MLflow's way for images that it stores behind the caller's back; the journal is as fast."""
        run = OPEN_RUNS.get(run_id)
        if run is None:
            super()._log_artifact_async_helper(run_id, artifact_file, artifact)  # type: ignore[no-untyped-call]
            return
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / Path(artifact_file).name
            artifact.save(path)
            folder = Path(artifact_file).parent.as_posix()
            run.log_artifact(path, None if folder == "." else folder)


def _told_time(timestamp: int | None) -> int | None:
    """The time that a user has given to a value; None for the present."""
    return timestamp if timestamp is not None and abs(timestamp - clock_ms()) > _NOW_MS else None
