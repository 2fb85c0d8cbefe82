"""The source of GPU readings: the GPUs that a run may use, and of those the ones that are its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow_dovetail.system_metrics.attribution import Attribution
from mlflow_dovetail.system_metrics.gpm import Gpm
from mlflow_dovetail.system_metrics.gpu_fields import MAXIMA
from mlflow_dovetail.system_metrics.gpu_sampler import DeviceSampler, Processes, Sampler
from mlflow_dovetail.system_metrics.nvml import Nvml, open_nvml
from mlflow_dovetail.system_metrics.records import Gpu, Reading
from mlflow_dovetail.system_metrics.visible import HostGpu, Visible, choose_visible


class GpuSource:
    """Samples NVIDIA's GPUs. One thread calls it; no call raises. Nothing is asked before the first call.

    A GPU that no mask names is reported once a process of the run is on it; see `Attribution`.

    Args:
        environment: The trainer's: its masks say which GPUs it may use.
        pids: The processes of the run, children included.
    """

    name = "gpu"

    def __init__(self, environment: Mapping[str, str], pids: Callable[[], Collection[int]]) -> None:
        self.maxima: frozenset[str] = frozenset()
        """Known from the first `poll` on."""
        self._environment = environment
        self._pids = pids
        self._troubles: Counter[str] = Counter()
        self._nvml: Nvml | None = None
        self._visible: Visible | None = None
        self._samplers: dict[str, Sampler] = {}
        self._attribution = Attribution((), declared=False, since=0.0)

    def poll(self) -> Reading:
        """What changes fast, of the run's GPUs; empty while it is open which these are."""
        now = self._begin()
        if self._attribution.how == "undecided":
            self._find_own()
        return _joined(self._samplers[key].poll() for key in self._attribution.reported(now))

    def close_window(self) -> Reading:
        """The rest: totals since the first call, shares of the time since the last, and once what never changes."""
        now = self._begin()
        own = self._find_own()
        keys = self._attribution.reported(now)
        return _joined(self._samplers[key].close_window(own.get(key, {}), now) for key in keys)

    def decide(self) -> None:
        """The run ends: where it is open which GPUs are its own, all that it may use are reported from now on.

        To be called before the last `poll` and `close_window`, so that a short run has its values.
        """
        self._begin()
        self._attribution.decide()

    def troubles(self) -> Mapping[str, int]:
        """What could not be read since the last call, and how often. No NVIDIA driver, or no GPU, is none."""
        counted = dict(self._troubles)
        self._troubles.clear()
        return counted

    @property
    def attribution(self) -> str:
        """What the choice of the GPUs rests on: "mask", "processes", "visible", or "undecided" as yet."""
        return self._attribution.how

    @property
    def sees_processes(self) -> bool:
        """Whether a GPU without a process of the run is known to be without: every driver's list can be read."""
        return _numbers_are_the_hosts() and all(sampler.lists_processes for sampler in self._samplers.values())

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """The run's, as far as they are known."""
        return tuple(self._samplers[key].gpu for key in self._attribution.reported(time.monotonic()))

    def describe(self) -> dict[str, Any]:
        """What is said once: driver, CUDA, and of each GPU of the run its index, UUID and name; empty without a GPU."""
        if self._nvml is None or not self._samplers:
            return {}
        keys = self._attribution.reported(time.monotonic())
        return {
            "driver": self._nvml.driver,
            "cuda_driver": self._nvml.cuda_driver,
            "attribution": self.attribution,
            "note": self._visible.note if self._visible else None,
            "gpus": [self._samplers[key].describe() for key in keys],
        }

    def close(self) -> None:
        """End the use of NVIDIA's library. Later calls give nothing."""
        for sampler in self._samplers.values():
            sampler.free()
        self._samplers = {}
        self._attribution = Attribution((), declared=True, since=0.0)
        if self._nvml is not None:
            self._nvml.close()
            self._nvml = None

    def _begin(self) -> float:
        """The time; at the first call, NVML is begun and the counters have their start."""
        if self._visible is None:
            self._nvml = open_nvml(self._troubles)
            self._visible = self._choose()
            now = time.monotonic()
            self._samplers = {
                unit.gpu.key: sampler for unit in self._visible.gpus if (sampler := self._open(unit, now))
            }
            self._attribution = Attribution(self._samplers, declared=self._visible.declared, since=now)
            self.maxima = frozenset(f"{key}_{metric.name}" for key in self._samplers for metric in MAXIMA)
        return time.monotonic()

    def _choose(self) -> Visible:
        if self._nvml is None:
            return Visible((), declared=True)
        visible = choose_visible(self._environment, self._nvml.gpus(), self._nvml.driver)
        if visible.note:
            self._troubles[visible.note] += 1
        return visible

    def _open(self, unit: HostGpu, now: float) -> Sampler | None:
        assert self._nvml is not None
        device = self._nvml.device(unit.gpu.uuid, unit.label)
        whole = device if unit.gpu.mig is None else self._nvml.device(unit.device_uuid, unit.label)
        if device is None or whole is None:
            return None
        gpm = Gpm(whole, unit.gpu_instance)
        return DeviceSampler(unit.gpu, device, gpm, now) if unit.gpu.mig is None else Sampler(unit.gpu, device, gpm)

    def _find_own(self) -> dict[str, Processes]:
        """The run's processes by GPU, where there are any."""
        pids = frozenset(self._pids()) if self._samplers else frozenset()
        there = {key: sampler.processes() for key, sampler in self._samplers.items()}
        own: dict[str, Processes] = {
            key: {pid: used for pid, used in processes.items() if pid in pids} for key, processes in there.items()
        }
        self._attribution.saw([key for key, processes in own.items() if processes])
        if self.sees_processes:
            self._attribution.saw_others([key for key, processes in there.items() if processes and not own[key]])
        return own


def _numbers_are_the_hosts() -> bool:
    """NVML names processes by their numbers on the host; a container has others (Linux: PROC_PID_INIT_INO)."""
    with suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink()) == "pid:[4026531836]"
    return False


def _joined(readings: Iterable[Reading]) -> Reading:
    return {key: value for reading in readings for key, value in reading.items()}
