"""What the machine did while a run's writers lived: sampled in the recorder, and summed up at the end."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec

from mlflow_dovetail import names
from mlflow_dovetail.cgroup import read_cpu_limit, read_memory_limit
from mlflow_dovetail.journal import JournalWriter, clock_ms, entries
from mlflow_dovetail.journal.translate import bounded_json
from mlflow_dovetail.records import TrainingSpeed
from mlflow_dovetail.run.abandoned import is_recorders
from mlflow_dovetail.run.settings import ENV_NODE, wants_system_metrics
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
    advise,
    find_root,
    interval_seconds,
    sentence,
    summarise,
)

# For the last look at the machine, where a call of a driver may hang. More than the trainer waits for it: on a busy
# machine the recorder comes late, and then sends it by itself.
LAST_LOOK_SECONDS = 2.5
AT_THE_END = {
    "gpu_hours_total": "Hours of all the run's GPUs together, while they were sampled",
    "gpu_energy_joules_total": "Energy of all the run's GPUs together, by their own counters",
}
# Where the journal cannot be begun: the disk is full. Each try may leave an empty file.
PAUSE_SECONDS = 60.0
# Sources count these from their own first look; in the run's series they go on, whichever recorder looks.
TOTALS = ("_energy_joules", "network_receive_megabytes", "network_transmit_megabytes")


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
        # Of another machine than the run's first, as MLflow's monitor has it: a name before the keys.
        self._node = os.environ.get(ENV_NODE, "")
        self._prefix = names.METRIC_SYSTEM_PREFIX + (f"{self._node}/" if self._node else "")
        self._start_ms = folder.describe().start_time_ms
        self._writer: JournalWriter | None = None
        self._next_try = 0.0
        self._pid = 0
        self._facts = HostFacts()
        self._gpus: GpuSource | None = None
        self._devices: dict[str, Any] = {}
        self._samplings: dict[str, Sampling] = {}
        self._troubles: dict[str, Counter[str]] = {}
        self._before: dict[str, str] = {}
        self._said: dict[str, str] = {}
        self._steps: dict[str, int] = {}
        self._last_step = -1
        self._carried: dict[str, float] = {}
        self._lock = threading.Lock()

    def turn(self, *, is_over: bool) -> None:
        """Begin once there is a writer to watch; when all are gone, take the last look and tell what was found."""
        if self._writer is None and not is_over and self._is_wanted and time.monotonic() >= self._next_try:
            self._begin()
        elif self._writer is not None and is_over:
            self._finish()

    def _begin(self) -> None:
        pid = self._find_trainer()
        if pid is None:
            return
        self._pid = find_root(pid, os.environ)
        tree = ProcessTree(self._pid)
        self._go_on()
        self._next_try = time.monotonic() + PAUSE_SECONDS
        self._writer = JournalWriter(self._folder, "system", 1)
        self._next_try = 0.0
        self._facts = _read_facts(self._pid)  # at the end the process may be gone
        self._gpus = GpuSource(os.environ, tree.pids)
        self._watch(HostSource(tree, self._folder.path))
        self._watch(self._gpus, before_last=self._gpus.decide)

    def _find_trainer(self) -> int | None:
        """The process that trains here, the last that began; where none does, one that adds to the run."""
        found = None
        for number in self._folder.segments():
            lease, kind = self._folder.lease(number), entries.kind_of(self._folder.segment(number))
            if kind != "system" and lease and lease.life() == "alive" and (kind != "append" or found is None):
                found = lease.pid
        return found

    def _go_on(self) -> None:
        """Learn where the recorders before have stopped: one was killed, or the run is resumed."""
        self._steps.clear()
        for _, entry in self._logged():
            self._last_step = max(self._last_step, entry.step)
            self._carried |= {key: value for key, value in self._own(entry).items() if key.endswith(TOTALS)}

    def _watch(self, source: Source, before_last: Callable[[], None] = lambda: None) -> None:
        def emit(values: Reading) -> None:
            if source is self._gpus:  # asked in this thread, because it is a driver that may hang
                self._devices = self._gpus.describe()
            self._log(source.name, values)
            self._note(source.name, Counter(source.troubles()))

        self._troubles[source.name] = Counter()
        before = self._folder.said().get(self._named(names.TAG_STATUS_PREFIX + source.name), "ok")
        self._before[source.name] = "" if before == "ok" else before.removeprefix("degraded: ")
        self._note(source.name, Counter())
        self._samplings[source.name] = Sampling(source, emit, self._failed, before_last)
        self._samplings[source.name].start()

    def _log(self, source: str, values: Reading) -> None:
        """One step is one second since the run's start, so that runs can be laid beside each other."""
        with self._lock:
            if self._writer is None or not values:  # a hung call may come back after the end
                return
            if not self._folder.has_room():
                self._troubles.setdefault(source, Counter())["samples for which the disk has no room"] += 1
                return
            step = max((clock_ms() - self._start_ms) // 1000, self._steps.get(source, self._last_step) + 1)
            self._steps[source] = step
            gone_on = {key: float(value) + self._carried.get(key, 0.0) for key, value in values.items()}
            self._writer.metrics({self._prefix + key: value for key, value in gone_on.items()}, step)

    def _note(self, source: str, troubles: Counter[str]) -> None:
        known = self._troubles[source]
        known.update(troubles)
        told = [self._before.get(source, ""), *(f"{cause} ×{count}" for cause, count in known.items())]
        causes = "; ".join(filter(None, told))
        status = f"degraded: {causes}"[: names.MAX_TAG_LENGTH] if causes else "ok"
        if status != self._said.get(source) and self._folder.has_room():
            self._say(source, {names.TAG_STATUS_PREFIX + source: status})
            self._said[source] = status

    def _say(self, room: str, tags: Mapping[str, str]) -> None:
        """The run's first machine has the tags' own names."""
        self._folder.say(room, {self._named(tag): text for tag, text in tags.items()})

    def _named(self, tag: str) -> str:
        return f"{tag}.{self._node}" if self._node else tag

    def _finish(self) -> None:
        for sampling in self._samplings.values():
            sampling.stop()
        until = time.monotonic() + LAST_LOOK_SECONDS
        ended = {name for name, one in self._samplings.items() if one.join(max(until - time.monotonic(), 0))}
        for name in self._samplings.keys() - ended:
            self._note(name, Counter({"the last look at it was not answered in time": 1}))
        try:
            if self._folder.has_room():
                self._tell()
        finally:
            with self._lock:
                writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()
                self._drop_empty(writer)
            self._samplings.clear()
            if self._gpus and self._gpus.name in ended:
                self._gpus.close()

    def _drop_empty(self, writer: JournalWriter) -> None:
        """A segment for which the disk had no room at all would be waited for."""
        segment = self._folder.segment(writer.number)
        with suppress(OSError):
            if segment.stat().st_size == 0:
                segment.unlink()

    def _tell(self) -> None:
        """Totals as metrics, the advice as a tag, all of it as an artifact."""
        summary = {key: stat for key, stat in summarise(self._windows()).items() if key not in AT_THE_END}
        totals = _totals(summary, [gpu.key for gpu in self._gpus.gpus] if self._gpus else [])
        self._log("totals", totals)
        speeds = list(self._speeds())
        gpus = self._gpus
        # One whose processes were seen on a GPU did not train on the CPU, whatever else the driver says.
        is_told = gpus is not None and gpus.sees_processes and gpus.attribution != "processes"
        facts = replace(self._facts, sees_gpu_processes=is_told)
        findings = advise(facts, summary, speeds, gpus.gpus if gpus else ())
        self._say("system", {names.TAG_ADVICE: sentence(findings), **_device_tags(self._devices)})
        self._keep(
            {
                "devices": self._devices,
                "advice": findings,
                "training": speeds,
                "totals": totals,
                "metrics": {self._prefix + key: stat for key, stat in sorted(summary.items())},
            }
        )

    def _keep(self, content: dict[str, Any]) -> None:
        target = self._folder.captured / names.ARTIFACT_SYSTEM
        if self._node:
            target = target.parent / self._node / target.name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")

    def _windows(self) -> Iterator[tuple[float, float, Reading]]:
        """What the run's recorders have logged; each window reaches back to the last that had its first key."""
        last: dict[tuple[int, str], float] = {}
        here = self._writer.number if self._writer else 0
        for number, entry in self._logged():
            at, first = entry.time_ms / 1000, next(iter(entry.values))
            # Of a machine that slept, or a call that hung, nobody knows what was in between.
            most = 2 * interval_seconds(at - self._start_ms / 1000)
            # A driver that was loaded again, or another card, counts its errors anew.
            values = {
                key: one for key, one in self._own(entry).items() if number == here or not key.endswith("_errors")
            }
            yield at, min(at - last.get((number, first), at), most), values
            last |= {(number, key): at for key in entry.values}

    def _own(self, entry: entries.Metrics) -> Reading:
        """What was logged, without the prefix."""
        return {key.removeprefix(self._prefix): value for key, value in entry.values.items()}

    def _logged(self) -> Iterator[tuple[int, entries.Metrics]]:
        """The metrics of all recorders, with the numbers of their segments."""
        for number in self._folder.segments():
            if is_recorders(self._folder, number):
                for payload in _payloads(SegmentReader(self._folder.segment(number))):
                    entry = entries.decode(payload)
                    if isinstance(entry, entries.Metrics) and entry.values:
                        yield number, entry

    def _speeds(self) -> Iterator[TrainingSpeed]:
        for path in sorted(self._folder.speeds.glob("*.json")):
            with suppress(OSError, msgspec.DecodeError):
                yield msgspec.json.decode(path.read_bytes(), type=TrainingSpeed)


def _read_facts(pid: int) -> HostFacts:
    cores = os.cpu_count()
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    usable = min((one for one in (affinity, read_cpu_limit(pid)) if one is not None), default=None)
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    return HostFacts(cores, usable, total, read_memory_limit(pid))


def _device_tags(devices: dict[str, Any]) -> dict[str, str]:
    if not devices:
        return {}
    named = {gpu["key"]: {"uuid": gpu["uuid"], "name": gpu["name"]} for gpu in devices["gpus"]}
    versions = {"": devices["driver"], "CUDA ": devices["cuda_driver"]}
    return {
        names.TAG_GPU_DEVICES: bounded_json(named),
        names.TAG_GPU_DRIVER: ", ".join(f"{what}{version}" for what, version in versions.items() if version),
        names.TAG_GPU_CHOSEN: devices["attribution"],
    }


def _payloads(reader: SegmentReader) -> Iterator[bytes]:
    """Every payload of a segment."""
    before = -1
    while reader.offset != before:
        before = reader.offset
        yield from reader.read(ended=True)


def _totals(summary: Summary, gpus: Collection[str]) -> Reading:
    """GPU-hours and energy of the run's GPUs."""
    used = [stat for key in gpus if (stat := summary.get(f"{key}_memory_usage_megabytes"))]
    energy = [stat.last for key in gpus if (stat := summary.get(f"{key}_energy_joules"))]
    hours = {"gpu_hours_total": sum(stat.seconds for stat in used) / 3600} if used else {}
    return hours | ({"gpu_energy_joules_total": sum(energy)} if energy else {})
