"""GPUs: whether there are any, whether a program sees them, whether PyTorch fits the driver, and whether they are well.

Source:
    NVIDIA, NVML API reference; NVIDIA, CUDA compatibility: what is built with a CUDA of the driver's major version
    runs.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mlflow_dovetail.doctor.records import Finding, Place, Step, Told, note, ok, problem, warning
from mlflow_dovetail.system_metrics.nvml import Device, Nvml, Question, open_nvml
from mlflow_dovetail.system_metrics.visible import CUDA_MASK, HostGpu, choose_visible

_CUDA_OF_TORCH = re.compile(r"^cuda\s*(?::[^=]+)?=\s*(?:[\"']([\d.]+)[\"']|None)", re.MULTILINE)
_UNCORRECTED, _SINCE_BOOT = 1, 0
_ECC_ERRORS = Question("nvmlDeviceGetTotalEccErrors", (_UNCORRECTED, _SINCE_BOOT))
_REMAPPED_ROWS = Question("nvmlDeviceGetRemappedRows")
_PERSISTENCE = Question("nvmlDeviceGetPersistenceMode")
_COMPUTE_MODE = Question("nvmlDeviceGetComputeMode")
_PROHIBITED = 2


def check(place: Place) -> Told:
    """A machine without an NVIDIA GPU is well."""
    yield Step("beginning NVIDIA's library")
    troubles: Counter[str] = Counter()
    nvml = open_nvml(troubles)
    if nvml is None and not troubles:
        yield ok("No NVIDIA GPU: everything runs on the CPU.")
        return
    if nvml is None:
        yield problem(
            "The NVIDIA driver cannot be asked.",
            f"{'; '.join(troubles)}.",
            "Run nvidia-smi. After an update of the driver, restart the machine; in a container, give it the GPUs.",
        )
        return
    yield Step("asking the GPUs")
    host = nvml.gpus()
    found = [*_health(nvml, host), *_troubles(troubles)]
    yield from found
    visible = choose_visible(os.environ, host, nvml.driver)
    yield from _mask(host, visible.gpus, visible.note)
    if host:
        yield ok(f"{len(host)} of NVIDIA's GPUs ({host[0].gpu.name}), driver {nvml.driver}, CUDA {nvml.cuda_driver}.")
        yield from _torch(nvml, bool(visible.gpus))


def _health(nvml: Nvml, host: list[HostGpu]) -> Iterator[Finding]:
    whole = {unit.device_uuid: unit.gpu.index for unit in host}
    for uuid, index in whole.items():
        if device := nvml.device(uuid, f"GPU {index}"):
            yield from _of_device(device, f"GPU {index}")


def _of_device(device: Device, label: str) -> Iterator[Finding]:
    if errors := device.ask(_ECC_ERRORS):
        yield problem(
            f"{label} has had {errors} memory errors that could not be corrected.",
            "Since the driver was loaded. What ran on it may have computed with false numbers, or has crashed.",
            f"Restart the machine, look at `nvidia-smi -q -d ECC`, and run again what ran on {label}.",
        )
    rows = device.ask(_REMAPPED_ROWS) or (0, 0, 0, 0)
    if rows[2] or rows[3]:
        yield problem(
            f"{label} {'cannot replace its bad memory' if rows[3] else 'waits to replace bad memory'}.",
            "NVML says that row remapping has failed." if rows[3] else "NVML says that row remapping is pending.",
            "Have it replaced." if rows[3] else "Stop what runs on it and restart the machine.",
        )
    if device.ask(_COMPUTE_MODE) == _PROHIBITED:
        yield problem(f"{label} takes no programs.", "Its compute mode is Prohibited.", "Run as root: nvidia-smi -c 0")
    if device.ask(_PERSISTENCE) == 0:
        yield note(
            f"{label} is not in persistence mode.",
            "The first program after a pause waits some seconds for the driver.",
            "Run as root: nvidia-smi -pm 1",
        )


def _troubles(troubles: Counter[str]) -> Iterator[Finding]:
    if troubles:
        yield warning(
            "Not every question to the GPUs had an answer.",
            f"{'; '.join(list(troubles)[:3])}.",
            "Run nvidia-smi; a GPU that is lost comes back after a restart of the machine.",
        )


def _mask(host: list[HostGpu], visible: tuple[HostGpu, ...], doubt: str | None) -> Iterator[Finding]:
    mask = os.environ.get(CUDA_MASK)
    if not host:
        yield warning(
            "The NVIDIA driver is there and shows no GPU.",
            "None is built in, or this container or job was given none.",
            "In a container: --gpus all. In a job: ask the scheduler for one.",
        )
    elif not visible:
        yield warning(
            "No GPU is visible to programs.",
            f"{CUDA_MASK} is {mask!r}, and {len(host)} are there.",
            f"If that is not meant: unset {CUDA_MASK}",
        )
    elif len(visible) < len(host):
        labels = ", ".join(unit.label for unit in visible)
        yield note(
            f"Programs see {labels} only.", f"{CUDA_MASK} is {mask!r}." if mask else "The job was given no more."
        )
    if doubt:
        yield note("Which GPU an index means is not sure.", f"{doubt}.", "Run: export CUDA_DEVICE_ORDER=PCI_BUS_ID")


def _torch(nvml: Nvml, are_visible: bool) -> Told:
    built = _cuda_of_torch()
    if built is None:
        return
    if not built:
        yield warning(
            "PyTorch here is one for the CPU.",
            "It uses none of the GPUs.",
            "Install a build for CUDA: https://pytorch.org/get-started/locally",
        )
    elif nvml.cuda_driver and int(built.split(".")[0]) > int(nvml.cuda_driver.split(".")[0]):
        yield problem(
            f"PyTorch is built with CUDA {built}, and the driver {nvml.driver} knows CUDA up to {nvml.cuda_driver}.",
            "PyTorch then finds no GPU.",
            f"Update the driver, or install PyTorch built with CUDA {nvml.cuda_driver.split('.')[0]}.",
        )
    elif are_visible:
        yield from _ask_torch(built)


def _cuda_of_torch() -> str | None:
    """The CUDA that PyTorch is built with; empty for a build for the CPU, None where there is no PyTorch."""
    spec = find_spec("torch")
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).with_name("version.py")
    found = _CUDA_OF_TORCH.search(path.read_text("utf-8")) if path.is_file() else None
    return (found[1] or "") if found else None


def _ask_torch(built: str) -> Told:
    yield Step("importing PyTorch")
    try:
        import torch

        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        torch.ones(1, device="cuda")
    except (RuntimeError, ImportError, OSError) as error:  # libraries of CUDA's may be missing too
        yield problem(
            "PyTorch cannot use the GPU.",
            f"{(str(error).splitlines() or [type(error).__name__])[0][:300].rstrip('.')}.",
            "Run nvidia-smi: the GPU may be taken, lost, or too new or old for this build of PyTorch.",
        )
        return
    yield ok(f"PyTorch, built with CUDA {built}, uses {len(names)}.")
