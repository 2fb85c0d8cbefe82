"""Which GPUs of a host a program may use, by the rules of CUDA: all, or those that a mask leaves.

Source:
    NVIDIA, CUDA programming guide, "CUDA environment variables": a list ends before its first invalid entry, a prefix
    of a UUID serves. NVIDIA, MIG user guide, "CUDA device enumeration": before driver 570 one MIG instance alone, since
    then one compute instance of each GPU instance, and whole GPUs beside them. PyTorch, `torch/cuda/__init__.py`
    (`_parse_visible_devices`), for what is not written there: a number is read as by strtoul, and an entry that comes
    twice leaves nothing. Slurm, sbatch(1) and srun(1): the indices in its own variables are those of the host.

`NVIDIA_VISIBLE_DEVICES` is the container's: NVML shows no others inside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlflow_dovetail.system_metrics.records import Gpu

CUDA_MASK = "CUDA_VISIBLE_DEVICES"
SLURM_MASKS = ("SLURM_STEP_GPUS", "SLURM_JOB_GPUS", "GPU_DEVICE_ORDINAL")
ORDER_IS_UNKNOWN = "CUDA_DEVICE_ORDER is not PCI_BUS_ID and the GPUs differ: an index may mean another one"
# From this driver on, a process may use MIG instances of several GPUs, and whole GPUs beside them.
MANY_INSTANCES_DRIVER = 570


@dataclass(frozen=True)
class HostGpu:
    """What CUDA may enumerate: a GPU that is not in MIG mode, or a MIG instance.

    Args:
        gpu: As in the metrics.
        device_uuid: `GPU-...` of the whole device.
        gpu_instance: NVML's id of the GPU instance that a MIG instance is on; None for a whole device.
        compute_instance: NVML's id of its compute instance; None for a whole device.
    """

    gpu: Gpu
    device_uuid: str
    gpu_instance: int | None = None
    compute_instance: int | None = None

    @property
    def label(self) -> str:
        """For people."""
        return f"GPU {self.gpu.index}" if self.gpu.mig is None else f"GPU {self.gpu.index} MIG {self.gpu.mig}"

    @property
    def names(self) -> tuple[str, str]:
        """A MIG instance's UUID, and its name for drivers before 470."""
        return self.gpu.uuid, f"MIG-{self.device_uuid}/{self.gpu_instance}/{self.compute_instance}"


@dataclass(frozen=True)
class Visible:
    """What a program may use.

    Args:
        gpus: None twice.
        declared: A mask chose them; otherwise they are all that the host shows.
        note: What is doubtful about the choice.
    """

    gpus: tuple[HostGpu, ...]
    declared: bool
    note: str | None = None


def choose_visible(environment: Mapping[str, str], host: Sequence[HostGpu], driver: str | None) -> Visible:
    """The GPUs that a program with this environment may use.

    Args:
        environment: The program's, as it was when CUDA began in it.
        host: All that NVML shows, in its order, which is that of the PCI bus.
        driver: Its version, such as "570.86.15"; None is taken for a new one.
    """
    mask = environment.get(CUDA_MASK)
    if mask is not None:
        chosen = _read_mask(mask, host, driver)
        return Visible(_enumerated(chosen, driver), True, _doubt(environment, mask, chosen, host))
    indices = _slurm_indices(environment)
    if indices and indices <= {unit.gpu.index for unit in host}:
        return Visible(_enumerated([unit for unit in host if unit.gpu.index in indices], driver), True)
    return Visible(_enumerated(host, driver), False)


def _read_mask(mask: str, host: Sequence[HostGpu], driver: str | None) -> list[HostGpu]:
    """The mask's entries until the first that is invalid, in their order; nothing where one comes twice."""
    chosen: list[HostGpu] = []
    kind = mask[:4] if mask.startswith(("GPU-", "MIG-")) else ""
    for entry in mask.split(","):
        unit = _by_uuid(entry, kind, host) if kind else _by_index(entry, _enumerable(host, driver))
        if unit is None:
            break
        if unit in chosen:
            return []
        chosen.append(unit)
    return chosen


def _by_index(entry: str, enumerable: Sequence[HostGpu]) -> HostGpu | None:
    number = re.match(r"\s*\+?(\d+)", entry, re.ASCII)
    return enumerable[int(number[1])] if number and int(number[1]) < len(enumerable) else None


def _by_uuid(entry: str, kind: str, host: Sequence[HostGpu]) -> HostGpu | None:
    if not entry.startswith(kind):
        return None
    if kind == "MIG-":
        return next((unit for unit in host if unit.gpu.mig is not None and entry in unit.names), None)
    fitting = [unit for unit in host if unit.device_uuid.startswith(entry)]
    # A prefix that fits two devices is none of them; of one device in MIG mode it is the first instance.
    return fitting[0] if len({unit.device_uuid for unit in fitting}) == 1 else None


def _enumerable(host: Sequence[HostGpu], driver: str | None) -> Sequence[HostGpu]:
    """What CUDA gives indices to: before driver 570 to the MIG instances, where there are any."""
    if _takes_many(driver):
        return _enumerated(host, driver)
    return [unit for unit in host if unit.gpu.mig is not None] or host


def _enumerated(units: Sequence[HostGpu], driver: str | None) -> tuple[HostGpu, ...]:
    """What CUDA takes of those that it may: of MIG instances the first, or the first of each GPU instance."""
    if not _takes_many(driver):
        instances = [unit for unit in units if unit.gpu.mig is not None]
        return tuple(instances[:1] or units)
    first = {(unit.device_uuid, unit.gpu_instance): unit for unit in reversed(units)}
    return tuple(unit for unit in units if first[unit.device_uuid, unit.gpu_instance] is unit)


def _takes_many(driver: str | None) -> bool:
    major = re.match(r"\d+", driver or "")
    return major is None or int(major[0]) >= MANY_INSTANCES_DRIVER


def _doubt(environment: Mapping[str, str], mask: str, chosen: Sequence[HostGpu], host: Sequence[HostGpu]) -> str | None:
    """CUDA's own order, the fastest first, is NVML's where all are alike; where all are chosen, none matters."""
    by_index = bool(chosen) and not mask.startswith(("GPU-", "MIG-"))
    alike = len({unit.gpu.name for unit in host if unit.gpu.mig is None}) < 2
    known = alike or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len(chosen) == len(host)
    return ORDER_IS_UNKNOWN if by_index and not known else None


def _slurm_indices(environment: Mapping[str, str]) -> set[int]:
    """Slurm sets CUDA's mask itself; where something took that away, its own variables still name the host's indices.

    Where a job is confined to its devices, NVML shows those alone, numbered anew; the indices then do not fit.
    """
    mask = next((environment[name] for name in SLURM_MASKS if environment.get(name)), "")
    return {int(entry) for entry in mask.split(",")} if re.fullmatch(r"\d+(,\d+)*", mask, re.ASCII) else set()
