"""From the journal's entries to what a store takes: the same each time, so that sending again changes nothing."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlflow_dovetail import names
from mlflow_dovetail.journal import stored_names
from mlflow_dovetail.journal.entries import (
    Close,
    End,
    Entry,
    File,
    Input,
    Metrics,
    Monitor,
    Params,
    Start,
    Tags,
    Trouble,
)
from mlflow_dovetail.journal.progress import Attempt, Best, Progress
from mlflow_dovetail.records import DatasetInput, MetricPoint

_LESS_IS_BETTER = frozenset(
    {"loss", "error", "err", "mse", "rmse", "mae", "perplexity", "ppl", "wer", "cer", "fid", "nll"}
)
_MORE_IS_BETTER = frozenset(
    {"acc", "accuracy", "f1", "auc", "auroc", "precision", "recall", "iou", "map", "bleu", "rouge"}
)
# So many threads and processes may log to one journal, each at a step of its own.
_STEPS_AT_ONCE = 64
# So far behind each other may those be who log at once.
_DISORDER_MS = 10_000
_WORDS = re.compile(r"[A-Za-z][a-z]*\d?|[A-Z]+")


@dataclass
class Outgoing:
    """What is ready to be sent."""

    points: list[MetricPoint] = field(default_factory=list)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    inputs: list[DatasetInput] = field(default_factory=list)


def translate(entry: Entry, segment: str, progress: Progress, outgoing: Outgoing) -> None:
    """Add what an entry means to `outgoing`, and to what is known of the run."""
    attempt = progress.attempts.get(segment)
    if attempt is not None:
        attempt.time_ms = max(attempt.time_ms, entry.time_ms)
    if isinstance(entry, Metrics):
        _metrics(entry, attempt, progress, outgoing)
    elif isinstance(entry, Params):
        whole = _renamed("param", entry.values, progress)
        outgoing.params |= {key: _cut(value) for key, value in whole.items()}
    elif isinstance(entry, Tags):
        outgoing.tags |= _renamed("tag", entry.values, progress)
    elif isinstance(entry, Input):
        outgoing.inputs.append(DatasetInput(entry.name, entry.digest, entry.source, entry.context, entry.source_type))
    elif isinstance(entry, File):
        _file(entry, progress)
    else:
        _about_the_run(entry, segment, attempt, progress)


def best_points(progress: Progress) -> list[MetricPoint]:
    """The best value of each metric whose direction is known, at the run's last step."""
    ended = max((one.time_ms for one in progress.attempts.values()), default=0)
    return [
        MetricPoint(
            _stored("metric", names.METRIC_BEST_PREFIX + key, progress), best.value, _last_step(progress), ended
        )
        for key, best in _told_best(progress).items()
        if _is_ours(key, progress)
    ]


def told(progress: Progress) -> dict[str, str]:
    """The tags about the recording itself."""
    tags = {names.TAG_STATUS_JOURNAL: _status(progress)}
    if progress.trainings:
        tags[names.TAG_ATTEMPT] = str(progress.trainings[-1].number)
    renamed = {
        stored: given
        for sort in progress.stored_names.values()
        for given, stored in sort.items()
        if stored != given and not given.startswith(names.METRIC_BEST_PREFIX)
    }
    tables: list[tuple[str, Mapping[str, object]]] = [
        (names.TAG_RENAMED, renamed),
        (names.TAG_NONFINITE, progress.nonfinite),
        (names.TAG_BEST, _best_of(progress)),
    ]
    return tags | {tag: bounded_json(values) for tag, values in tables if values}


def _best_of(progress: Progress) -> dict[str, object]:
    """None of a folder without a training: who trains tells it."""
    best = _told_best(progress) if progress.trainings else {}
    return {key: {"value": one.value, "step": one.step} for key, one in best.items()}


def _metrics(entry: Metrics, attempt: Attempt | None, progress: Progress, outgoing: Outgoing) -> None:
    before = attempt.logged_before if attempt else {}
    step, last_steps, time_ms = entry.step, progress.last_steps, _time_of(entry, attempt)
    for key, value in entry.values.items():
        stored = _stored("metric", key, progress)
        if before and attempt and 0 < before.get(key, -1) >= step:
            # An earlier attempt has this step already, and MLflow forgets nothing: one series stays one series.
            stored = _stored("metric", f"attempt_{attempt.number}/{key}", progress)
        outgoing.points.append(MetricPoint(stored, value, step, time_ms))
        if step > last_steps.get(key, -1):
            last_steps[key] = step
        if not math.isfinite(value):
            _count_nonfinite(progress, key, value)
        else:
            _note_best(key, value, entry, progress, outgoing)


def _time_of(entry: Metrics, attempt: Attempt | None) -> int:
    """Two entries of one step never have the same time, or a store takes equal values for one point.

    The writer sees to that; here it holds for threads, and for forked children who write to the same segment too.
    """
    if attempt is None:
        return entry.time_ms
    times, time_ms = attempt.step_times, entry.time_ms
    last = times.get(entry.step)
    if last is not None and time_ms <= last:
        if last - time_ms > _DISORDER_MS:
            return time_ms  # a time that the user has given
        time_ms = last + 1
    times.pop(entry.step, None)  # to the end, as the latest
    times[entry.step] = time_ms
    if len(times) > _STEPS_AT_ONCE:
        del times[next(iter(times))]
    return time_ms


def _file(entry: File, progress: Progress) -> None:
    path = _stored("path", entry.path, progress)
    older = progress.waiting.pop(path, None)
    if older:
        progress.superseded.append(older.payload)
    progress.waiting[path] = entry


def _note_best(key: str, value: float, entry: Metrics, progress: Progress, outgoing: Outgoing) -> None:
    mode = progress.monitors.get(key) or _mode_by_name(key)
    if not mode or key.startswith((names.METRIC_BEST_PREFIX, names.METRIC_SYSTEM_PREFIX)):
        return
    best = progress.best.get(key)
    of_many = best is not None and (best.of_many or best.step != entry.step)
    if best is not None:
        best.of_many = of_many
    if best is None or (value < best.value if mode == "min" else value > best.value):
        progress.best[key] = Best(value, entry.step, of_many)
        if key in progress.monitors and _is_ours(key, progress):
            stored = _stored("metric", names.METRIC_BEST_PREFIX + key, progress)
            outgoing.points.append(MetricPoint(stored, value, entry.step, entry.time_ms))


def _is_ours(key: str, progress: Progress) -> bool:
    """Whether `best/<key>` is for us to write: the user may have a metric of that name."""
    return names.METRIC_BEST_PREFIX + key not in progress.last_steps


def _told_best(progress: Progress) -> dict[str, Best]:
    return {key: best for key, best in progress.best.items() if best.of_many or key in progress.monitors}


def _count_nonfinite(progress: Progress, key: str, value: float) -> None:
    kinds = progress.nonfinite.setdefault(key, {})
    kind = "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    kinds[kind] = kinds.get(kind, 0) + 1


def _about_the_run(
    entry: Start | Monitor | Trouble | End | Close, segment: str, attempt: Attempt | None, progress: Progress
) -> None:
    if isinstance(entry, Start):
        before = dict(progress.last_steps) if entry.kind == "resume" else {}
        progress.attempts[segment] = Attempt(entry.kind, entry.attempt, entry.time_ms, before, time_ms=entry.time_ms)
    elif isinstance(entry, Monitor):
        progress.monitors[entry.key] = entry.mode
    elif isinstance(entry, Trouble):
        progress.trouble(entry.cause, entry.count)
    elif attempt is not None:
        if isinstance(entry, End):
            attempt.status, attempt.cause = entry.status, entry.cause
        else:
            attempt.closed = True


def _renamed(sort: str, values: dict[str, str], progress: Progress) -> dict[str, str]:
    return {_stored(sort, key, progress): value for key, value in values.items()}


def _stored(sort: str, given: str, progress: Progress) -> str:
    """The name of `given` in the store: the same one for ever, and no other name's."""
    known = progress.stored_names.setdefault(sort, {})
    stored = known.get(given)
    if stored is None:
        fit = stored_names.artifact_path if sort == "path" else stored_names.metric_name
        stored = fit(given)
        if stored in known.values():
            stored = stored_names.apart(stored, given)
        known[given] = stored
    return stored


def _cut(value: str) -> str:
    return value if len(value) <= names.MAX_PARAM_LENGTH else value[: names.MAX_PARAM_LENGTH - 1] + "…"


def _mode_by_name(key: str) -> str:
    words = {word.lower() for word in _WORDS.findall(key)}
    if words & _LESS_IS_BETTER:
        return "min"
    return "max" if words & _MORE_IS_BETTER else ""


def _last_step(progress: Progress) -> int:
    steps = progress.last_steps.items()
    return max((step for key, step in steps if not key.startswith(names.METRIC_SYSTEM_PREFIX)), default=0)


def _status(progress: Progress) -> str:
    causes = [f"{cause} ×{count}" for cause, count in progress.troubles.items()]
    if progress.waiting and progress.why_waiting:
        causes.append(f"not stored yet, {progress.why_waiting} ×{len(progress.waiting)}")
    return f"degraded: {'; '.join(causes)}"[: names.MAX_TAG_LENGTH] if causes else "ok"


def bounded_json(values: Mapping[str, object], at_most: int = names.MAX_TAG_LENGTH) -> str:
    """JSON within a tag's length: what does not fit is left out, and counted."""
    keep = len(values)
    text = json.dumps(values, ensure_ascii=False)
    while len(text) > at_most:
        keep //= 2
        kept = {**dict(list(values.items())[:keep]), "…": f"and {len(values) - keep} more"}
        text = json.dumps(kept, ensure_ascii=False)
    return text
