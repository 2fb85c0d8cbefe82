"""What a trainer knows it has logged, held against what MLflow has: value by value, step by step, exactly once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from faults.trainer import value

if TYPE_CHECKING:
    from mlflow.entities import Run

# Metrics that Dovetail itself adds.
OWN_PREFIXES = ("best/", "system/")


@dataclass
class Truth:
    """The truth file: what `log_metrics` and `log_artifact` returned from.

    Attributes:
        steps: The metrics' values by step.
        artifacts: Sizes in bytes by path.
        slowest_seconds: The longest call of all.
    """

    steps: dict[int, dict[str, float]] = field(default_factory=dict)
    artifacts: dict[str, int] = field(default_factory=dict)
    slowest_seconds: float = 0.0

    @property
    def points(self) -> int:
        return sum(map(len, self.steps.values()))


def read_truth(path: Path) -> Truth:
    truth = Truth()
    for line in path.read_text().splitlines() if path.exists() else []:
        note = json.loads(line)
        truth.slowest_seconds = max(truth.slowest_seconds, note["seconds"])
        if "step" in note:
            truth.steps[note["step"]] = note["values"]
        else:
            truth.artifacts[note["artifact"]] = note["size"]
    return truth


@dataclass(frozen=True)
class Recorded:
    """A run as MLflow has it.

    Attributes:
        points: Each key's (step, value) pairs, all that there are, sorted.
        artifacts: Sizes in bytes by path.
    """

    run: Run
    points: Mapping[str, list[tuple[int, float]]]
    artifacts: Mapping[str, int]

    @property
    def status(self) -> str:
        return str(self.run.info.status)

    @property
    def tags(self) -> Mapping[str, str]:
        return self.run.data.tags

    @property
    def ending(self) -> tuple[str, str | None]:
        """Status and cause."""
        return self.status, self.tags.get("dovetail.end.cause")

    @property
    def journal_status(self) -> str | None:
        return self.tags.get("dovetail.status.journal")


def runs_with(uri: str, token: str) -> list[Run]:
    """Every run that has this token, in all experiments."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiments = [one.experiment_id for one in client.search_experiments(max_results=1000)]
    return list(client.search_runs(experiments, f"tags.`dovetail.token` = '{token}'"))


def read_recorded(uri: str, token: str) -> Recorded:
    """The one run with this token, read with MLflow's own client.

    Raises:
        AssertionError: There is none, or more than one.
    """
    from mlflow import MlflowClient

    found = runs_with(uri, token)
    assert len(found) == 1, f"{len(found)} runs have the token {token}"
    client, run_id = MlflowClient(uri), found[0].info.run_id
    run = client.get_run(run_id)
    keys = [key for key in run.data.metrics if not key.startswith(OWN_PREFIXES)]
    points = {key: sorted((p.step, p.value) for p in client.get_metric_history(run_id, key)) for key in keys}
    return Recorded(run, points, dict(_files(client, run_id, None)))


def assert_exact(truth: Truth, recorded: Recorded, *, more_steps: int = 0) -> None:
    """All that was logged is there once, with its value, and nothing else.

    Args:
        more_steps: How many steps may be there that the truth file lacks: 1 after a SIGKILL between the record's
            `write()` and the truth file's.
    """
    _assert_whole_steps(recorded)
    expected = points_of(truth.steps)
    steps_there = {step for key in recorded.points.values() for step, _ in key}
    more = sorted(steps_there - truth.steps.keys())
    following = [max(truth.steps, default=-1) + 1 + number for number in range(more_steps)]
    assert set(more) <= set(following), f"steps that nobody logged: {more[:10]}"
    index_of_all = range(len(recorded.points))
    made_up = points_of({step: {f"m{index}": value(step, index) for index in index_of_all} for step in more})
    for key in expected.keys() | recorded.points.keys():
        wanted = sorted(expected.get(key, []) + made_up.get(key, []))
        assert recorded.points.get(key, []) == wanted, difference(key, wanted, recorded.points.get(key, []))


def assert_subset(truth: Truth, recorded: Recorded, *, at_most_missing: int) -> list[int]:
    """Nothing is there that was not logged, nothing twice, and steps are there whole or not at all.

    Returns:
        The steps that are missing.
    """
    _assert_whole_steps(recorded)
    expected = points_of(truth.steps)
    missing: set[int] = set()
    for key, wanted in expected.items():
        there = recorded.points.get(key, [])
        assert len(set(there)) == len(there) and set(there) <= set(wanted), difference(key, wanted, there)
        missing |= {step for step, _ in set(wanted) - set(there)}
    assert len(missing) <= at_most_missing, f"{len(missing)} steps are missing: {sorted(missing)[:20]}"
    return sorted(missing)


def points_of(steps: Mapping[int, Mapping[str, float]]) -> dict[str, list[tuple[int, float]]]:
    points: dict[str, list[tuple[int, float]]] = {}
    for step, values in sorted(steps.items()):
        for key, one in values.items():
            points.setdefault(key, []).append((step, one))
    return points


def difference(key: str, wanted: list[tuple[int, float]], there: list[tuple[int, float]]) -> str:
    missing, surplus = sorted(set(wanted) - set(there)), sorted(set(there) - set(wanted))
    twice = sorted({point for point in there if there.count(point) > 1}) if len(there) < 5000 else []
    return (
        f"{key}: {len(wanted)} logged, {len(there)} there; {len(missing)} missing {missing[:5]}, "
        f"{len(surplus)} surplus {surplus[:5]}, {len(twice)} twice {twice[:5]}"
    )


def _assert_whole_steps(recorded: Recorded) -> None:
    """A record holds all metrics of its step: no step may be there in part."""
    steps = {key: {step for step, _ in points} for key, points in recorded.points.items()}
    for key, there in steps.items():
        differing = there ^ next(iter(steps.values()))
        assert not differing, f"steps that are not there for every key ({key}): {sorted(differing)[:10]}"


def _files(client: object, run_id: str, folder: str | None) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for entry in client.list_artifacts(run_id, folder):  # type: ignore[attr-defined]
        found += _files(client, run_id, entry.path) if entry.is_dir else [(entry.path, entry.file_size)]
    return found
