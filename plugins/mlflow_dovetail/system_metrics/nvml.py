"""NVIDIA's library (NVML), through nvidia-ml-py: begun late, and each call by itself, so that one failure is one gap.

NVML must not be begun before a fork; here the first call that needs it begins it, in the process that samples.

Source:
    NVIDIA, NVML API reference: return codes, MIG device handles. nvidia-ml-py is imported as `pynvml`.
"""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mlflow_dovetail.system_metrics.records import Gpu
from mlflow_dovetail.system_metrics.visible import HostGpu

# Made by the driver's kernel module.
DRIVER_FOLDER = Path("/proc/driver/nvidia")

LIBRARY_NOT_FOUND = 12
LOST = 15
# Invalid argument, not supported, no permission, function not found, version mismatch, deprecated: it will stay so.
NEVER = frozenset({2, 3, 4, 13, 25, 26})
# Not found, no data: no process, no new sample.
NOTHING_NOW = frozenset({6, 21})


@dataclass(frozen=True, eq=False)
class Question:
    """A function of pynvml that takes a device's handle first, and the arguments that follow it."""

    function: str
    arguments: tuple[Any, ...] = ()


_NAME, _UUID, _PCI = Question("nvmlDeviceGetName"), Question("nvmlDeviceGetUUID"), Question("nvmlDeviceGetPciInfo")
_MIG_MODE, _MIG_COUNT = Question("nvmlDeviceGetMigMode"), Question("nvmlDeviceGetMaxMigDeviceCount")
_MIG_HANDLE = Question("nvmlDeviceGetMigDeviceHandleByIndex")
_GPU_INSTANCE, _COMPUTE_INSTANCE = Question("nvmlDeviceGetGpuInstanceId"), Question("nvmlDeviceGetComputeInstanceId")


class Device:
    """One GPU or MIG instance that is asked; no call raises.

    Args:
        pynvml: The binding, begun.
        handle: NVML's.
        label: For people, such as "GPU 0".
        troubles: Where failures are counted, by their cause.
    """

    def __init__(self, pynvml: ModuleType, handle: Any, label: str, troubles: Counter[str]) -> None:  # noqa: ANN401
        self.pynvml = pynvml
        self.handle = handle
        self._label = label
        self._troubles = troubles
        self._lost = False
        self._never: set[Question] = set()

    def ask(self, question: Question, *more: Any) -> Any:  # noqa: ANN401
        """The answer, as pynvml gives it; None where there is none.

        What a device does not support is not asked again, and is no trouble. A lost device is not asked again.
        """
        return self.call(question, self.handle, *question.arguments, *more)

    def call(self, question: Question, *arguments: Any) -> Any:  # noqa: ANN401
        """As `ask`, of a function that does not take the handle, or takes it elsewhere."""
        if self._lost or question in self._never:
            return None
        try:
            return getattr(self.pynvml, question.function)(*arguments)
        except (AttributeError, self.pynvml.NVMLLibraryMismatchError):
            self._never.add(question)  # The binding or the driver is older than the function.
        except (self.pynvml.NVMLError, UnicodeDecodeError) as error:
            self._note(question, error)
        return None

    def ask_first(self, questions: tuple[Question, ...]) -> Any:  # noqa: ANN401
        """The answer to the first that is supported: the rest are its names in older drivers."""
        for question in questions:
            answer = self.ask(question)
            if answer is not None or question not in self._never:
                return answer
        return None

    def _note(self, question: Question, error: Exception) -> None:
        code = getattr(error, "value", None)
        if code == LOST:
            self._lost = True
            self._troubles[f"{self._label} was lost"] += 1
        elif code in NEVER:
            self._never.add(question)
        elif code not in NOTHING_NOW:
            self._troubles[f"{question.function} on {self._label}: {error}"] += 1


class Nvml:
    """The library, begun.

    Args:
        pynvml: The binding, begun.
        troubles: Where failures are counted, by their cause.
    """

    def __init__(self, pynvml: ModuleType, troubles: Counter[str]) -> None:
        self._pynvml = pynvml
        self._troubles = troubles

    @property
    def driver(self) -> str | None:
        """The driver's version, such as "570.86.15"."""
        return self._ask("nvmlSystemGetDriverVersion")  # type: ignore[no-any-return]

    @property
    def cuda_driver(self) -> str | None:
        """The newest CUDA that the driver knows, such as "12.8"."""
        number = self._ask("nvmlSystemGetCudaDriverVersion_v2")
        return None if number is None else f"{number // 1000}.{number % 1000 // 10}"

    def gpus(self) -> list[HostGpu]:
        """What the driver shows, in NVML's order: whole GPUs, and in the place of one in MIG mode its instances."""
        found: list[HostGpu] = []
        for index in range(self._ask("nvmlDeviceGetCount") or 0):
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            if handle is not None:
                found += self._of_device(self._device(handle, f"GPU {index}"), index)
        return found

    def device(self, uuid: str, label: str) -> Device | None:
        """A GPU or MIG instance, found by its UUID; None if it is gone, which is a trouble.

        Args:
            uuid: As of `gpus`.
            label: For people, such as "GPU 0".
        """
        handle = self._ask("nvmlDeviceGetHandleByUUID", uuid)
        if handle is None:
            self._troubles[f"{label} was lost"] += 1
            return None
        return self._device(handle, label)

    def close(self) -> None:
        """End the library's use; the devices must not be asked any more."""
        self._ask("nvmlShutdown")

    def _of_device(self, device: Device, index: int) -> list[HostGpu]:
        uuid, pci = device.ask(_UUID), device.ask(_PCI)
        if uuid is None:
            return []
        bus_id = "" if pci is None else _text(pci.busId)
        whole = Gpu(index, uuid, device.ask(_NAME) or "", bus_id)
        mode = device.ask(_MIG_MODE)
        if not mode or mode[0] != 1:
            return [HostGpu(whole, uuid)]
        places = range(device.ask(_MIG_COUNT) or 0)
        handles = [(place, device.ask(_MIG_HANDLE, place)) for place in places]
        return [
            self._of_instance(self._device(handle, f"GPU {index} MIG {place}"), whole, place)
            for place, handle in handles
            if handle is not None
        ]

    def _of_instance(self, device: Device, whole: Gpu, place: int) -> HostGpu:
        gpu = Gpu(whole.index, device.ask(_UUID) or "", device.ask(_NAME) or whole.name, whole.pci_bus_id, place)
        return HostGpu(gpu, whole.uuid, device.ask(_GPU_INSTANCE), device.ask(_COMPUTE_INSTANCE))

    def _device(self, handle: Any, label: str) -> Device:  # noqa: ANN401
        return Device(self._pynvml, handle, label, self._troubles)

    def _ask(self, function: str, *arguments: Any) -> Any:  # noqa: ANN401
        try:
            return getattr(self._pynvml, function)(*arguments)
        except self._pynvml.NVMLError as error:
            # Such as a device that this job may not use.
            if error.value not in NEVER | NOTHING_NOW:
                self._troubles[f"{function}: {error}"] += 1
            return None


def open_nvml(troubles: Counter[str]) -> Nvml | None:
    """Begin the library.

    Returns:
        None where there is no NVIDIA driver, which is no trouble; and where there is one that cannot be asked, which is
        counted in `troubles`.
    """
    try:
        pynvml = importlib.import_module("pynvml")
    except ImportError:
        if DRIVER_FOLDER.exists():
            troubles["nvidia-ml-py is not installed"] += 1
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value != LIBRARY_NOT_FOUND or DRIVER_FOLDER.exists():
            troubles[f"NVIDIA's driver cannot be asked: {error}"] += 1
        return None
    return Nvml(pynvml, troubles)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
