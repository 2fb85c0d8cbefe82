"""Runs in MLflow: sqlite, another database, or a server over http."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mlflow_dovetail import names
from mlflow_dovetail.errors import StoreRefused, StoreUnavailable
from mlflow_dovetail.records import Artifact, DatasetInput, MetricPoint, Run, RunStatus
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.store import entities
from mlflow_dovetail.store.asking import TIMEOUT_SECONDS, UPLOAD_TIMEOUT_SECONDS, asking
from mlflow_dovetail.store.finding import MODELS, is_id_prefix, made_by_no_run, model_of, the_only_one
from mlflow_dovetail.store.limits import batches, cut_params, cut_tags, no_such_artifact, require_file

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SEARCH_PAGE = 1000


class MlflowStore:
    """`RunStore` over MLflow's client. MLflow's global tracking URI and active run are neither read nor changed.

    `open()` makes one; the constructor takes what is there already.

    Args:
        client: MLflow's client, with an explicit URI.
        experiment: The name of the experiment that the store is bound to; None to read only.
        experiment_id: Its id.
        timeout_seconds: For each request but uploads and downloads.
        retries: After the first try of each request.
    """

    def __init__(
        self,
        client: MlflowClient,
        experiment: str | None = None,
        experiment_id: str | None = None,
        *,
        timeout_seconds: int = TIMEOUT_SECONDS,
        retries: int = 1,
    ) -> None:
        self._client = client
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._uri: str = client.tracking_uri
        self._experiment = experiment
        self._experiment_id = experiment_id
        self._experiment_names: dict[str, str] = {}

    @property
    def uri(self) -> str:
        return self._uri

    @property
    def experiment(self) -> str | None:
        return self._experiment

    @property
    def experiment_id(self) -> str | None:
        return self._experiment_id

    def create_run(
        self,
        token: str,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        start_time_ms: int | None = None,
    ) -> Run:
        if self._experiment_id is None:
            raise _bound_to_none(self._uri)
        wanted = cut_tags({**(tags or {}), names.TAG_TOKEN: token})
        try:
            return self._first_with(token) or self._create(wanted, name, start_time_ms)
        except StoreUnavailable:
            # The server may have created the run and lost the answer.
            return self._first_with(token) or self._create(wanted, name, start_time_ms)

    def get_run(self, run_id: str) -> Run:
        with self._asking(f"Cannot read the run {run_id}"):
            run = self._client.get_run(run_id)
            return entities.to_record(run, self._experiment_name(run.info.experiment_id))

    def find_run(self, text: str) -> Run:
        if text.startswith(MODELS):
            return self._run_of_model(text)
        filters = [f"attributes.run_name = {entities.quoted(text)}"]
        candidates = self._search(filters[0], [self._experiment_id] if self._experiment_id else None, 6)
        if is_id_prefix(text):
            candidates += self._search(f"attributes.run_id LIKE '{text}%'", None, 6)
            candidates += self._search(f"tags.`{names.TAG_TOKEN}` LIKE '{text}%'", None, 6)
        found = the_only_one(text, candidates)
        return self.get_run(found.run_id)

    def search(self, tag: str, value: str, *, within: bool = False) -> list[Run]:
        if not within:
            return self._search(f"tags.`{tag}` = {entities.quoted(value)}")
        # MLflow's LIKE has no escape for its own signs, and not every database's tells letters apart.
        signs = "".join("_" if char in "%_\\'\"" else char for char in value)
        return [run for run in self._search(f"tags.`{tag}` LIKE '%{signs}%'") if value in run.tags.get(tag, "")]

    def search_data(self, digest: str) -> list[Run]:
        return self._search(f"dataset.digest = {entities.quoted(digest)}")

    def models_of(self, run_id: str) -> list[str]:
        with self._asking(f"Cannot list the models of the run {run_id}"):
            found = self._client.search_model_versions(f"run_id = {entities.quoted(run_id)}")
        return [f"{one.name}/{one.version}" for one in sorted(found, key=lambda one: int(one.creation_timestamp or 0))]

    def metric_history(self, run_id: str, key: str) -> list[MetricPoint]:
        with self._asking(f"Cannot read the metric {key!r} of the run {run_id}"):
            self._client.get_run(run_id)  # an unknown run has an empty history in MLflow, not an error
            history = self._client.get_metric_history(run_id, key)
        points = [MetricPoint(point.key, point.value, point.step, point.timestamp) for point in history]
        return sorted(points, key=lambda point: (point.step, point.timestamp_ms))

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        for batch in batches(points, names.MAX_METRICS_PER_BATCH):
            with self._asking(f"Cannot log {len(batch)} metric values to the run {run_id}"):
                self._client.log_batch(run_id, metrics=entities.metrics(batch))

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        for batch in batches(list(cut_params(params).items()), names.MAX_PARAMS_PER_BATCH):
            with self._asking(f"Cannot log params to the run {run_id}"):
                self._client.log_batch(run_id, params=entities.params(batch))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        for batch in batches(list(cut_tags(tags).items()), names.MAX_TAGS_PER_BATCH):
            with self._asking(f"Cannot set tags of the run {run_id}"):
                self._client.log_batch(run_id, tags=entities.tags(batch))

    def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        with self._asking(f"Cannot log the datasets of the run {run_id}"):
            self._client.log_inputs(run_id, datasets=[entities.dataset_input(one) for one in inputs])

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        require_file(path, run_id)
        with self._asking(f"Cannot store {path.name} with the run {run_id}", timeout_seconds=UPLOAD_TIMEOUT_SECONDS):
            self._client.log_artifact(run_id, str(path), artifact_path)

    def read_artifact(self, run_id: str, path: str, into: Path) -> Path:
        if path not in {file.path for file in self._listed(run_id, path.rpartition("/")[0])}:
            raise no_such_artifact(run_id, path)
        folder = (into / path).parent  # MLflow leaves out the folders of a single file (3.17)
        folder.mkdir(parents=True, exist_ok=True)
        with self._asking(f"Cannot read {path} of the run {run_id}", timeout_seconds=UPLOAD_TIMEOUT_SECONDS):
            return Path(self._client.download_artifacts(run_id, path, str(folder)))

    def list_artifacts(self, run_id: str, folder: str = "") -> list[Artifact]:
        with self._asking(f"Cannot list the artifacts of the run {run_id}"):
            return sorted(self._files(run_id, folder or None), key=lambda file: file.path)

    def set_status(self, run_id: str, status: RunStatus, *, end_time_ms: int | None = None) -> None:
        with self._asking(f"Cannot set the status of the run {run_id}"):
            if status == "RUNNING":
                self._client.update_run(run_id, status)
            else:
                self._client.set_terminated(run_id, status, end_time_ms)

    def close(self) -> None:
        # MLflow keeps one engine a database for the life of the process and offers no way to close it. Disposing
        # drops its idle connections only: another client of the same database opens new ones.
        engine = getattr(self._client._tracking_client.store, "engine", None)
        if engine is not None:
            engine.dispose()

    def __enter__(self) -> MlflowStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asking(
        self, what: str, *, timeout_seconds: int | None = None, retries: int | None = None
    ) -> AbstractContextManager[None]:
        return asking(
            what,
            self._uri,
            timeout_seconds=timeout_seconds or self._timeout_seconds,
            retries=self._retries if retries is None else retries,
        )

    def _create(self, tags: dict[str, str], name: str | None, start_time_ms: int | None) -> Run:
        start = int(time.time() * 1000) if start_time_ms is None else start_time_ms
        # No retries: MLflow would repeat a request whose answer was lost, and make a second run.
        with self._asking(f"Cannot create a run in the experiment {self._experiment!r}", retries=0), _own_chance():
            run = self._client.create_run(str(self._experiment_id), start, tags, name)
        return entities.to_record(run, self._experiment or "")

    def _run_of_model(self, uri: str) -> Run:
        name, version, alias = model_of(uri)
        with self._asking(f"Cannot find the registered model {uri}"):
            if alias:
                found = self._client.get_model_version_by_alias(name, alias)
            else:
                found = self._client.get_model_version(name, version)
        if not found.run_id:
            raise made_by_no_run(uri)
        return self.get_run(found.run_id)

    def _first_with(self, token: str) -> Run | None:
        where = f"tags.`{names.TAG_TOKEN}` = {entities.quoted(token)}"
        return next(iter(self._search(where, [str(self._experiment_id)])), None)

    def _search(self, where: str, experiment_ids: Sequence[str] | None = None, at_most: int | None = None) -> list[Run]:
        with self._asking("Cannot search for runs"):
            ids = list(experiment_ids or self._all_experiments())
            found: list[Run] = []
            page: str | None = None
            while True:
                answer = self._client.search_runs(
                    ids, where, max_results=at_most or _SEARCH_PAGE, order_by=["start_time ASC"], page_token=page
                )
                found += [entities.to_record(run, self._experiment_name(run.info.experiment_id)) for run in answer]
                page = answer.token
                if not page or at_most:
                    return found

    def _all_experiments(self) -> list[str]:
        found: list[str] = []
        page: str | None = None
        while True:
            answer = self._client.search_experiments(page_token=page)
            self._experiment_names |= {one.experiment_id: one.name for one in answer}
            found += [one.experiment_id for one in answer]
            page = answer.token
            if not page:
                return found

    def _experiment_name(self, experiment_id: str) -> str:
        if experiment_id not in self._experiment_names:
            self._experiment_names[experiment_id] = self._client.get_experiment(experiment_id).name
        return self._experiment_names[experiment_id]

    def _listed(self, run_id: str, folder: str) -> list[Artifact]:
        with self._asking(f"Cannot list the artifacts of the run {run_id}"):
            entries = self._client.list_artifacts(run_id, folder or None)
        return [Artifact(entry.path, entry.file_size) for entry in entries if not entry.is_dir]

    def _files(self, run_id: str, folder: str | None) -> list[Artifact]:
        found: list[Artifact] = []
        for entry in self._client.list_artifacts(run_id, folder):
            found += self._files(run_id, entry.path) if entry.is_dir else [Artifact(entry.path, entry.file_size)]
        return found


@contextmanager
def _own_chance() -> Iterator[None]:
    """Let MLflow draw a run's name from fresh chance, and leave Python's global generator as it was.

    MLflow takes the name from `random`: with a fixed seed every run would have the same one, and the training after
    it would depend on whether it was logged.
    """
    state = random.getstate()
    random.seed()
    try:
        yield
    finally:
        random.setstate(state)


def _bound_to_none(uri: str) -> StoreRefused:
    return StoreRefused(
        f"Cannot create a run in {strip_url_credentials(uri)}.",
        "The store was opened for reading, without an experiment.",
        "Open it with an experiment's name: store.open(uri, experiment).",
    )
