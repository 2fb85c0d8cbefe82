"""What passes between rooms: frozen records, times in milliseconds since the epoch, UTC, as MLflow has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RunStatus = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class MetricPoint:
    """One value of one metric.

    NaN is kept by every store. An infinity is stored as ±1.797e308, because MLflow's databases hold no infinity.
    """

    key: str
    value: float
    step: int
    timestamp_ms: int


@dataclass(frozen=True)
class DatasetInput:
    """Data that a run has read.

    Args:
        name: What the data is called.
        digest: A hash of its content, at most 36 characters.
        source: A path or URI.
        context: What it was read for, such as "train"; empty when unsaid.
        source_type: A type that MLflow's dataset-source registry knows.
    """

    name: str
    digest: str
    source: str
    context: str = ""
    source_type: str = "local"


@dataclass(frozen=True)
class Artifact:
    """One file of a run; `path` is relative to the run's artifact root. `size_bytes` is None where unknown."""

    path: str
    size_bytes: int | None


@dataclass(frozen=True)
class Run:
    """A run as the store had it at one moment.

    `token` is None on a run that Dovetail did not create. `end_time_ms` is that of its last end, also while it is
    RUNNING again; None before the first.
    `metrics` holds the value at the largest step of each key, `metric_steps` that step.
    """

    run_id: str
    token: str | None
    name: str
    status: RunStatus
    experiment_id: str
    experiment_name: str
    start_time_ms: int
    end_time_ms: int | None
    artifact_uri: str
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    metric_steps: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[DatasetInput, ...] = ()


@dataclass(frozen=True)
class TrainingSpeed:
    """Where one rank's training spent its time, from its first step to its last: seconds in total, and counts.

    Args:
        rank: The global one.
        steps: Of the training, batches.
        samples: None where no batch told its size.
        step_seconds: From the end of a step to the end of the next, so data, compute and logging together.
        data_seconds: Waiting for the next batch.
        logging_seconds: In loggers.
        validation_seconds: Validation within the fit; not in `step_seconds`.
        data_workers: `num_workers` of the training DataLoader; None where there is none to ask.
    """

    rank: int
    steps: int
    samples: int | None
    step_seconds: float
    data_seconds: float
    logging_seconds: float
    validation_seconds: float
    data_workers: int | None
