"""The machine of a run, from what is at hand: no process is started, no driver is loaded, nothing is imported."""

from __future__ import annotations

import platform
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

GPU_FOLDER = Path("/proc/driver/nvidia/gpus")


@dataclass(frozen=True)
class Machine:
    """Where a run was created.

    Args:
        cuda: The version that an already imported torch was built with; None without torch or for a CPU build.
        gpus: Model names of the host's NVIDIA GPUs, in PCI order, n of them; whether the run uses them is not said.
    """

    host: str
    system: str
    python: str
    cuda: str | None
    gpus: tuple[str, ...]
    cause: str | None = None


def read_machine() -> Machine:
    """Read host, operating system, interpreter, CUDA and GPUs; what is not there is empty or None."""
    return Machine(
        host=platform.node(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        cuda=_read_cuda(),
        gpus=read_gpu_names(GPU_FOLDER),
    )


def read_gpu_names(folder: Path) -> tuple[str, ...]:
    """Model names from the driver's text files, without NVML and without waking a device's context.

    Source:
        NVIDIA driver README, "The /proc interface": `/proc/driver/nvidia/gpus/<PCI address>/information`.
    """
    try:
        files = sorted(folder.glob("*/information"))
        return tuple(name for name in map(_read_model, files) if name)
    except OSError:
        return ()


def describe_gpus(names: tuple[str, ...]) -> str:
    """`NVIDIA H200 x8, NVIDIA L4`: each model once, with its count when there is more than one."""
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in Counter(names).items())


def _read_model(file: Path) -> str:
    lines = (line.partition(":") for line in file.read_text("utf-8", "replace").splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "Model"), "")


def _read_cuda() -> str | None:
    version = getattr(getattr(sys.modules.get("torch"), "version", None), "cuda", None)
    return version if isinstance(version, str) else None
