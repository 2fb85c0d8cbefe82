"""GPU performance monitoring: how busy the parts of a GPU were between two samples. From Hopper on, MIG included.

Source:
    NVIDIA, NVML API reference, "GPM functions": two samples of one device, and the metrics of what lies between.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from mlflow_dovetail.system_metrics.gpu_fields import GPM_METRICS
from mlflow_dovetail.system_metrics.nvml import Device, Question
from mlflow_dovetail.system_metrics.records import Reading

_SUPPORT, _ALLOCATE, _FREE = (
    Question(f"nvmlGpm{name}") for name in ("QueryDeviceSupport", "SampleAlloc", "SampleFree")
)
_SAMPLE, _MIG_SAMPLE, _METRICS = (Question(f"nvmlGpm{name}") for name in ("SampleGet", "MigSampleGet", "MetricsGet"))
# The rest is the traffic of the whole device.
OF_AN_INSTANCE = frozenset(range(1, 20))


class Gpm:
    """The metrics of one GPU or MIG instance from window to window.

    Args:
        device: The whole device.
        gpu_instance: NVML's id of the instance; None for the whole device.
    """

    def __init__(self, device: Device, gpu_instance: int | None) -> None:
        self._device = device
        self._gpu_instance = gpu_instance
        self._asked = [number for number in GPM_METRICS if gpu_instance is None or number in OF_AN_INSTANCE]
        support = device.ask(_SUPPORT)
        supported = support is not None and support.isSupportedDevice
        self._samples = [device.call(_ALLOCATE) for _ in range(2)] if supported else []
        self._last = self._take()

    def close(self) -> Reading:
        """Means since the last call or the start, by metric; empty where there are none."""
        before, now = self._last, self._take()
        self._last = now
        return {} if before is None or now is None else self._between(before, now)

    def free(self) -> None:
        """Give the samples' memory back."""
        for sample in filter(None, self._samples):
            self._device.call(_FREE, sample)
        self._samples, self._last = [], None

    def _take(self) -> Any:  # noqa: ANN401
        if not all(self._samples) or not self._samples:
            return None
        self._samples.reverse()
        if self._gpu_instance is None:
            return self._device.ask(_SAMPLE, self._samples[0])
        return self._device.ask(_MIG_SAMPLE, self._gpu_instance, self._samples[0])

    def _between(self, before: Any, now: Any) -> Reading:  # noqa: ANN401
        pynvml = self._device.pynvml
        request = pynvml.c_nvmlGpmMetricsGet_t()
        request.version, request.numMetrics = pynvml.NVML_GPM_METRICS_GET_VERSION, len(self._asked)
        request.sample1, request.sample2 = before, now
        for place, number in enumerate(self._asked):
            request.metrics[place].metricId = number
        if self._device.call(_METRICS, request) is None:
            return {}
        return _values(request.metrics[: len(self._asked)])


def _values(metrics: Collection[Any]) -> Reading:
    known = ((GPM_METRICS[one.metricId], one.value) for one in metrics if one.nvmlReturn == 0)
    return {metric.name: value * factor for (metric, factor), value in known if math.isfinite(value)}
