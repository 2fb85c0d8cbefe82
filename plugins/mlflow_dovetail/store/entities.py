"""Between MLflow's entities and Dovetail's records: pure, both ways."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from mlflow_dovetail import names
from mlflow_dovetail.errors import RunNotFound
from mlflow_dovetail.records import DatasetInput, MetricPoint, Run, RunStatus

if TYPE_CHECKING:
    from mlflow import entities

_CONTEXT_TAG = "mlflow.data.context"


def to_record(run: entities.Run, experiment_name: str) -> Run:
    info, data = run.info, run.data
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return Run(
        run_id=info.run_id,
        token=data.tags.get(names.TAG_TOKEN),
        name=info.run_name or "",
        status=cast(RunStatus, info.status),
        experiment_id=info.experiment_id,
        experiment_name=experiment_name,
        start_time_ms=info.start_time or 0,
        end_time_ms=info.end_time,
        artifact_uri=info.artifact_uri,
        params=dict(data.params),
        metrics=dict(data.metrics),
        metric_steps={metric.key: metric.step for metric in data._metric_objs},
        tags=dict(data.tags),
        inputs=tuple(dataset_record(one) for one in inputs),
    )


def metrics(points: Sequence[MetricPoint]) -> list[entities.Metric]:
    from mlflow.entities import Metric

    return [Metric(point.key, point.value, point.timestamp_ms, point.step) for point in points]


def params(items: Sequence[tuple[str, str]]) -> list[entities.Param]:
    from mlflow.entities import Param

    return [Param(key, value) for key, value in items]


def tags(items: Sequence[tuple[str, str]]) -> list[entities.RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(key, value) for key, value in items]


def dataset_input(one: DatasetInput) -> entities.DatasetInput:
    from mlflow.entities import Dataset, InputTag
    from mlflow.entities import DatasetInput as MlflowDatasetInput

    dataset = Dataset(one.name, one.digest, one.source_type, json.dumps({"uri": one.source}))
    return MlflowDatasetInput(dataset, [InputTag(_CONTEXT_TAG, one.context)] if one.context else [])


def quoted(text: str) -> str:
    """A string of MLflow's search language, which has two kinds of quotes and no escape.

    Raises:
        RunNotFound: The text holds both kinds.
    """
    if "'" in text and '"' in text:
        raise RunNotFound(
            f"Cannot search for {text!r}.",
            "MLflow's search language has no way to write a text that holds both kinds of quotes.",
            "Give the run's id.",
        )
    return f'"{text}"' if "'" in text else f"'{text}'"


def dataset_record(one: entities.DatasetInput) -> DatasetInput:
    """The record of a dataset; its schema and profile are left out."""
    dataset = one.dataset
    context = next((tag.value for tag in one.tags if tag.key == _CONTEXT_TAG), "")
    return DatasetInput(dataset.name, dataset.digest, _source(dataset.source), context, dataset.source_type)


def _source(text: str) -> str:
    """The path or URI within a dataset's source; sources of other kinds as they are."""
    try:
        parsed: Any = json.loads(text)
    except ValueError:
        return text
    uri = parsed.get("uri") if isinstance(parsed, dict) else None
    return uri if isinstance(uri, str) else text
