"""Runs in memory: a public fake for tests and examples, with MLflow's rules."""

from __future__ import annotations

import re
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from mlflow_dovetail import names
from mlflow_dovetail.errors import RunNotFound, StoreRefused
from mlflow_dovetail.records import Artifact, DatasetInput, MetricPoint, Run, RunStatus
from mlflow_dovetail.store.finding import is_id_prefix, the_only_one
from mlflow_dovetail.store.limits import cut_params, cut_tags, no_such_artifact, require_file

# mlflow.utils.validation, the names of metrics, params and tags.
_NAME = re.compile(r"[/\w.\- :]*")


@dataclass
class _Entry:
    run: Run
    # By their repr, because NaN is not equal to itself.
    points: dict[str, dict[str, MetricPoint]] = field(default_factory=dict)
    artifacts: dict[str, bytes] = field(default_factory=dict)


class MemoryStore:
    """`RunStore` that forgets everything with the process."""

    def __init__(self, experiment: str = "memory") -> None:
        self._experiment = experiment
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.RLock()

    @property
    def uri(self) -> str:
        return "memory:"

    @property
    def experiment(self) -> str:
        return self._experiment

    @property
    def experiment_id(self) -> str:
        return "0"

    def create_run(
        self,
        token: str,
        *,
        name: str | None = None,
        tags: Mapping[str, str] | None = None,
        start_time_ms: int | None = None,
    ) -> Run:
        with self._lock:
            known = self.search(names.TAG_TOKEN, token)
            if known:
                return known[0]
            run_id = uuid.uuid4().hex
            named = name or f"run-{run_id[:8]}"
            run = Run(
                run_id=run_id,
                token=token,
                name=named,
                status="RUNNING",
                experiment_id=self.experiment_id,
                experiment_name=self._experiment,
                start_time_ms=_now_ms() if start_time_ms is None else start_time_ms,
                end_time_ms=None,
                artifact_uri=f"memory:/{run_id}/artifacts",
                tags=cut_tags({**(tags or {}), names.TAG_TOKEN: token, names.TAG_MLFLOW_RUN_NAME: named}),
            )
            self._entries[run_id] = _Entry(run)
            return run

    def get_run(self, run_id: str) -> Run:
        with self._entry(run_id) as entry:
            return entry.run

    def find_run(self, text: str) -> Run:
        with self._lock:
            return the_only_one(text, [entry.run for entry in self._entries.values() if _answers(entry.run, text)])

    def search(self, tag: str, value: str, *, within: bool = False) -> list[Run]:
        with self._lock:
            tagged = [entry.run for entry in self._entries.values() if tag in entry.run.tags]
        runs = [run for run in tagged if run.tags[tag] == value or (within and value in run.tags[tag])]
        return sorted(runs, key=lambda run: run.start_time_ms)

    def search_data(self, digest: str) -> list[Run]:
        with self._lock:
            runs = [entry.run for entry in self._entries.values()]
        found = [run for run in runs if any(one.digest == digest for one in run.inputs)]
        return sorted(found, key=lambda run: run.start_time_ms)

    def models_of(self, run_id: str) -> list[str]:
        with self._entry(run_id):
            return []  # it has no registry

    def metric_history(self, run_id: str, key: str) -> list[MetricPoint]:
        with self._entry(run_id) as entry:
            return sorted(entry.points.get(key, {}).values(), key=lambda point: (point.step, point.timestamp_ms))

    def log_metrics(self, run_id: str, points: Sequence[MetricPoint]) -> None:
        with self._entry(run_id) as entry:
            _check_names(run_id, [point.key for point in points])
            for point in points:
                stored = replace(point, value=_storable(point.value))
                entry.points.setdefault(point.key, {})[repr(stored)] = stored
            last = {key: _last(known.values()) for key, known in entry.points.items()}
            entry.run = replace(
                entry.run,
                metrics={key: point.value for key, point in last.items()},
                metric_steps={key: point.step for key, point in last.items()},
            )

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        with self._entry(run_id) as entry:
            _check_names(run_id, params)
            wanted = cut_params(params)
            for key in wanted.keys() & entry.run.params.keys():
                if wanted[key] != entry.run.params[key]:
                    raise _changed_param(run_id, key, entry.run.params[key], wanted[key])
            entry.run = replace(entry.run, params={**entry.run.params, **wanted})

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        with self._entry(run_id) as entry:
            _check_names(run_id, tags)
            merged = {**entry.run.tags, **cut_tags(tags)}
            entry.run = replace(entry.run, tags=merged, name=merged[names.TAG_MLFLOW_RUN_NAME])

    def log_inputs(self, run_id: str, inputs: Sequence[DatasetInput]) -> None:
        with self._entry(run_id) as entry:
            entry.run = replace(entry.run, inputs=tuple(dict.fromkeys([*entry.run.inputs, *inputs])))

    def log_artifact(self, run_id: str, path: Path, artifact_path: str | None = None) -> None:
        require_file(path, run_id)
        with self._entry(run_id) as entry:
            entry.artifacts[f"{artifact_path}/{path.name}" if artifact_path else path.name] = path.read_bytes()

    def read_artifact(self, run_id: str, path: str, into: Path) -> Path:
        with self._entry(run_id) as entry:
            if path not in entry.artifacts:
                raise no_such_artifact(run_id, path)
            copy = into / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(entry.artifacts[path])
            return copy

    def list_artifacts(self, run_id: str, folder: str = "") -> list[Artifact]:
        with self._entry(run_id) as entry:
            below = f"{folder}/" if folder else ""
            there = sorted((path, content) for path, content in entry.artifacts.items() if path.startswith(below))
            return [Artifact(path, len(content)) for path, content in there]

    def set_status(self, run_id: str, status: RunStatus, *, end_time_ms: int | None = None) -> None:
        with self._entry(run_id) as entry:
            end = entry.run.end_time_ms if status == "RUNNING" else end_time_ms or _now_ms()
            entry.run = replace(entry.run, status=status, end_time_ms=end)

    def close(self) -> None:
        """Nothing to give back."""

    def __enter__(self) -> MemoryStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _entry(self, run_id: str) -> Iterator[_Entry]:
        with self._lock:
            if run_id not in self._entries:
                raise RunNotFound(f"Cannot find the run {run_id}.", "The store has no such run.", "Check the id.")
            yield self._entries[run_id]


def _now_ms() -> int:
    return int(time.time() * 1000)


def _answers(run: Run, text: str) -> bool:
    is_prefix = is_id_prefix(text) and (run.run_id.startswith(text) or (run.token or "").startswith(text))
    return is_prefix or text in (run.name, run.run_id, run.token)


def _storable(value: float) -> float:
    largest = sys.float_info.max
    return value if value != value else max(-largest, min(largest, value))


def _last(points: Iterable[MetricPoint]) -> MetricPoint:
    return max(points, key=lambda point: (point.step, point.timestamp_ms, point.value))


def _check_names(run_id: str, keys: Sequence[str] | Mapping[str, str]) -> None:
    for key in keys:
        if not key or len(key) > names.MAX_KEY_LENGTH or not _NAME.fullmatch(key):
            raise StoreRefused(
                f"Cannot log to the run {run_id}.",
                f"{key!r} is no valid name.",
                "Use letters, digits, and _ - . : / or spaces, at most 250 of them.",
            )


def _changed_param(run_id: str, key: str, old: str, new: str) -> StoreRefused:
    return StoreRefused(
        f"Cannot log params to the run {run_id}.",
        f"The param {key!r} is {old!r} already and cannot become {new!r}.",
        "Log the new value under another name, or in a new run.",
    )
