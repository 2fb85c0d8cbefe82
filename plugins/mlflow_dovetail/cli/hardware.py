"""What `dovetail show` tells of the hardware: a line for the host, a line a GPU, and what held the run back."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail import names
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.records import Run

if TYPE_CHECKING:
    from mlflow_dovetail.store import RunStore

_GPU = re.compile(r"gpu_\d+(?:_mig_\d+)?")
_MEAN, _LAST = "mean", "last"
# Key, which of its values over the run, and the text for it.
_OF_A_GPU = (
    ("utilization_percentage", _MEAN, "{:.0f} % busy"),
    ("memory_usage_megabytes_max", "maximum", "at most {:,.0f} MB"),
    ("power_usage_watts", _MEAN, "{:.0f} W"),
    ("temperature_celsius_max", "maximum", "at most {:.0f} °C"),
    ("energy_joules", _LAST, "{:,.0f} J"),
)
_OF_THE_HOST = (
    ("process_cpu_utilization_percentage", _MEAN, "the run {:.0f} % of a core"),
    ("cpu_utilization_percentage", _MEAN, "everybody {:.0f} % of all"),
    ("process_memory_megabytes_max", "maximum", "the run at most {:,.0f} MB of memory"),
)
Values = Mapping[str, Mapping[str, float]]


def read_hardware(store: RunStore, run: Run) -> list[tuple[str, str]]:
    """Rows of a page; none for a run whose machine was not sampled. While a run goes on, they tell its last window."""
    values = _read_summary(store, run) or {key: dict.fromkeys((_MEAN, _LAST), one) for key, one in run.metrics.items()}
    prefix = names.METRIC_SYSTEM_PREFIX
    values = {key.removeprefix(prefix): each for key, each in values.items() if key.startswith(prefix)}
    rows = list(_told("host use", values, _OF_THE_HOST))
    known = _devices(run)
    for gpu in sorted({match[0] for key in values if (match := _GPU.match(key))}, key=_numbers):
        own = {key.removeprefix(f"{gpu}_"): each for key, each in values.items() if key.startswith(f"{gpu}_")}
        rows += _told(f"{gpu.replace('_', ' ')} {known.get(gpu, '')}".rstrip(), own, _OF_A_GPU)
    advice = run.tags.get(names.TAG_ADVICE)
    return [*rows, ("advice", advice)] if advice else rows


def _told(name: str, values: Values, rows: tuple[tuple[str, str, str], ...]) -> Iterator[tuple[str, str]]:
    told = [text.format(values[key][which]) for key, which, text in rows if which in values.get(key, ())]
    if told:
        yield name, ", ".join(told)


def _read_summary(store: RunStore, run: Run) -> Values:
    if names.TAG_ADVICE not in run.tags:
        return {}  # its end has not been told
    with tempfile.TemporaryDirectory(prefix="dovetail-") as into:
        try:
            file = store.read_artifact(run.run_id, names.ARTIFACT_SYSTEM, Path(into))
            found = json.loads(file.read_text("utf-8"))["metrics"]
        except (DovetailError, OSError, ValueError, KeyError, TypeError):
            return {}
    # Others write to a store too.
    stats = found.items() if isinstance(found, dict) else ()
    return {key: numbers for key, stat in stats if (numbers := _numbers_of(stat))}


def _numbers_of(stat: object) -> dict[str, float]:
    found = stat.items() if isinstance(stat, dict) else ()
    return {str(name): value for name, value in found if isinstance(value, (int, float))}


def _numbers(gpu: str) -> list[int]:
    return [int(part) for part in gpu.split("_") if part.isdigit()]


def _devices(run: Run) -> dict[str, str]:
    try:
        devices = json.loads(run.tags.get(names.TAG_GPU_DEVICES, "{}"))
        return {str(key): str(device["name"]) for key, device in devices.items()}
    except (ValueError, TypeError, KeyError, AttributeError):  # somebody else's words
        return {}
