"""What the machine did while a run's writers lived: sampled in the recorder, and summed up at the end."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.cgroup import read_cpu_limit, read_memory_limit
from mlflow_dovetail.journal import JournalWriter, clock_ms, entries
from mlflow_dovetail.run.abandoned import is_recorders
from mlflow_dovetail.run.settings import wants_system_metrics
from mlflow_dovetail.run_folder import RunFolder, SegmentReader, write_whole
from mlflow_dovetail.system_metrics import (
    GpuSource,
    HostFacts,
    HostSource,
    ProcessTree,
    Reading,
    Sampling,
    Source,
    Summary,
    TrainingSpeed,
    advise,
    find_root,
    sentence,
    summarise,
)

# The run's end waits so long for the last look at the machine; a call of a driver may hang.
LAST_LOOK_SECONDS = 1.0


class SystemWatch:
    """Samples host and GPUs into a segment of the run's journal, from the first writer's start to the last one's end.

    Args:
        folder: Of the run.
        failed: Told what could not be done.
    """

    def __init__(self, folder: RunFolder, failed: Callable[[Exception], None]) -> None:
        self._folder = folder
        self._failed = failed
        self._is_wanted = wants_system_metrics()
        self._start_ms = folder.describe().start_time_ms
        self._writer: JournalWriter | None = None
        self._pid = 0
        self._gpus: GpuSource | None = None
        self._samplings: dict[str, Sampling] = {}
        self._troubles: dict[str, Counter[str]] = {}
        self._steps: dict[str, int] = {}
        self._lock = threading.Lock()

    def turn(self, *, is_over: bool) -> None:
        """Begin once there is a writer to watch; when all are gone, take the last look and tell what was found."""
        if self._writer is None and not is_over and self._is_wanted:
            self._begin()
        elif self._writer is not None and is_over:
            self._finish()

    def _begin(self) -> None:
        pid = self._find_trainer()
        if pid is None:
            return
        self._pid = find_root(pid, os.environ)
        tree = ProcessTree(self._pid)
        self._writer = JournalWriter(self._folder, "system", 1)
        self._gpus = GpuSource(os.environ, tree.pids)
        self._watch(HostSource(tree, self._folder.path))
        self._watch(self._gpus, before_last=self._gpus.decide)

    def _find_trainer(self) -> int | None:
        """The process that writes the run here; the last that began, where there are several."""
        for number in reversed(self._folder.segments()):
            lease = self._folder.lease(number)
            if lease and lease.life() == "alive" and not is_recorders(self._folder, number):
                return lease.pid
        return None

    def _watch(self, source: Source, before_last: Callable[[], None] = lambda: None) -> None:
        def emit(values: Reading, seconds: float) -> None:
            self._log(source.name, values)
            self._note(source.name, Counter(source.troubles()))

        self._troubles[source.name] = Counter()
        self._note(source.name, Counter())
        self._samplings[source.name] = Sampling(source, emit, self._failed, before_last)
        self._samplings[source.name].start()

    def _log(self, source: str, values: Reading) -> None:
        """One step is one second since the run's start, so that runs can be laid beside each other."""
        with self._lock:
            if self._writer is None:  # a hung call has come back after the end
                return
            step = max((clock_ms() - self._start_ms) // 1000, self._steps.get(source, -1) + 1)
            self._steps[source] = step
            prefixed = {names.METRIC_SYSTEM_PREFIX + key: float(value) for key, value in values.items()}
            self._writer.metrics(prefixed, step)

    def _note(self, source: str, troubles: Counter[str]) -> None:
        known = self._troubles[source]
        if known and not troubles:
            return
        known.update(troubles)
        causes = "; ".join(f"{cause} ×{count}" for cause, count in known.items())
        status = f"degraded: {causes}"[: names.MAX_TAG_LENGTH] if causes else "ok"
        self._folder.say(source, {names.TAG_STATUS_PREFIX + source: status})

    def _finish(self) -> None:
        for sampling in self._samplings.values():
            sampling.stop()
        until = time.monotonic() + LAST_LOOK_SECONDS
        for name, sampling in self._samplings.items():
            if not sampling.join(max(until - time.monotonic(), 0)):
                self._note(name, Counter({"the last look at it was not answered in time": 1}))
        try:
            self._tell()
        finally:
            with self._lock:
                writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()
            self._samplings.clear()

    def _tell(self) -> None:
        """Totals as metrics, the advice as a tag, all of it as an artifact."""
        devices = self._gpus.describe() if self._gpus else {}
        summary = summarise(self._windows())
        totals = _totals(summary)
        if totals:
            self._log("totals", totals)
        speeds = list(self._speeds())
        findings = advise(self._facts(devices), summary, speeds, self._gpus.gpus if self._gpus else ())
        tags = {names.TAG_ADVICE: sentence(findings)}
        if devices:
            tags |= {
                names.TAG_GPU_DEVICES: msgspec.json.encode(
                    {gpu["key"]: {"uuid": gpu["uuid"], "name": gpu["name"]} for gpu in devices["gpus"]}
                ).decode(),
                names.TAG_GPU_DRIVER: f"{devices['driver']}, CUDA {devices['cuda_driver']}",
                names.TAG_GPU_CHOSEN: devices["attribution"],
            }
        self._folder.say("system", tags)
        self._keep(
            {
                "devices": devices,
                "advice": findings,
                "training": speeds,
                "metrics": {names.METRIC_SYSTEM_PREFIX + key: stat for key, stat in sorted(summary.items())},
            }
        )

    def _keep(self, content: dict[str, Any]) -> None:
        target = self._folder.captured / names.ARTIFACT_SYSTEM
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")

    def _windows(self) -> Iterator[tuple[float, float, Reading]]:
        """What the run's recorders have logged; each window reaches back to the last that had its first key."""
        last: dict[str, float] = {}
        prefix = len(names.METRIC_SYSTEM_PREFIX)
        for number in self._folder.segments():
            if not is_recorders(self._folder, number):
                continue
            last.clear()
            for payload in _payloads(SegmentReader(self._folder.segment(number))):
                entry = entries.decode(payload)
                if isinstance(entry, entries.Metrics) and entry.values:
                    at, first = entry.time_ms / 1000, next(iter(entry.values))
                    yield at, at - last.get(first, at), {key[prefix:]: value for key, value in entry.values.items()}
                    last |= dict.fromkeys(entry.values, at)

    def _speeds(self) -> Iterator[TrainingSpeed]:
        for path in sorted(self._folder.speeds.glob("*.json")):
            with suppress(OSError, msgspec.DecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=TrainingSpeed)

    def _facts(self, devices: dict[str, Any]) -> HostFacts:
        cores = os.cpu_count()
        limit = read_cpu_limit(self._pid)
        affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
        usable = min((one for one in (affinity, limit) if one is not None), default=None)
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
        return HostFacts(cores, usable, total, read_memory_limit(self._pid), devices.get("attribution") == "processes")


def _payloads(reader: SegmentReader) -> Iterator[bytes]:
    """Every payload of a segment."""
    before = -1
    while reader.offset != before:
        before = reader.offset
        yield from reader.read(ended=True)


def _totals(summary: Summary) -> Reading:
    """GPU-hours and energy of the run's GPUs."""
    used = [stat for key, stat in summary.items() if key.startswith("gpu_") and key.endswith("_memory_usage_megabytes")]
    energy = [stat.last for key, stat in summary.items() if key.startswith("gpu_") and key.endswith("_energy_joules")]
    hours = {"gpu_hours_total": sum(stat.seconds for stat in used) / 3600} if used else {}
    return hours | ({"gpu_energy_joules_total": sum(energy)} if energy else {})
