"""Which GPUs a mask leaves, by CUDA's rules."""

from __future__ import annotations

import pytest

from mlflow_dovetail.system_metrics.records import Gpu
from mlflow_dovetail.system_metrics.visible import ORDER_IS_UNKNOWN, HostGpu, choose_visible

NEW, OLD = "570.86.15", "535.183.01"


def whole(index: int, uuid: str, name: str = "NVIDIA H100") -> HostGpu:
    return HostGpu(Gpu(index, f"GPU-{uuid}", name, f"00000000:{index:02X}:00.0"), f"GPU-{uuid}")


def instance(index: int, uuid: str, place: int, gpu_instance: int, compute_instance: int = 0) -> HostGpu:
    gpu = Gpu(index, f"MIG-{uuid}-{place}", "NVIDIA H100 MIG 1g.10gb", f"00000000:{index:02X}:00.0", place)
    return HostGpu(gpu, f"GPU-{uuid}", gpu_instance, compute_instance)


FOUR = [whole(0, "aaaa-0"), whole(1, "aabb-1"), whole(2, "cccc-2"), whole(3, "dddd-3")]
# Device 1 is in MIG mode: two compute instances share the GPU instance 5.
MIXED = [
    whole(0, "aaaa"),
    instance(1, "bbbb", 0, 5),
    instance(1, "bbbb", 1, 5, 1),
    instance(1, "bbbb", 2, 9),
    whole(2, "cccc"),
]


def keys(environment: dict[str, str], host: list[HostGpu], driver: str | None = NEW) -> list[str]:
    return [unit.gpu.key for unit in choose_visible(environment, host, driver).gpus]


@pytest.mark.parametrize(
    ("mask", "indices"),
    [
        ("0,1,2,3", [0, 1, 2, 3]),
        ("2,1", [2, 1]),
        ("", []),
        ("-1", []),
        ("0,2,-1,1", [0, 2]),
        ("1,4,2", [1]),
        ("1,x,2", [1]),
        ("1,,2", [1]),
        ("0,1,0", []),
        ("0,0", []),
        (" 1, 2", [1, 2]),
        ("+1", [1]),
        ("1gpu2,2ampere", [1, 2]),
        ("01", [1]),
        ("NoDevFiles", []),
        ("all", []),
        ("99999999999999999999", []),
        ("٣", []),
        ("GPU-cccc-2", [2]),
        ("GPU-c,GPU-d", [2, 3]),
        ("GPU-aabb,GPU-aaaa", [1, 0]),
        ("GPU-aa", []),
        ("GPU-c,GPU-aa,GPU-d", [2]),
        ("GPU-c,GPU-cccc-2", []),
        ("GPU-eeee", []),
        ("GPU-c,1", [2]),
        ("1,GPU-c", [1]),
        ("GPU-c, GPU-d", [2]),
        ("MIG-cccc-2", []),
        ("gpu-cccc-2", []),
    ],
)
def test_a_mask(mask: str, indices: list[int]) -> None:
    visible = choose_visible({"CUDA_VISIBLE_DEVICES": mask}, FOUR, NEW)
    assert [unit.gpu.index for unit in visible.gpus] == indices
    assert visible.declared
    assert visible.note is None


def test_without_a_mask_all_are_visible_and_none_declared() -> None:
    visible = choose_visible({"NVIDIA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, FOUR, NEW)
    assert (list(visible.gpus), visible.declared) == (FOUR, False)
    assert choose_visible({}, [], NEW).gpus == choose_visible({"CUDA_VISIBLE_DEVICES": "0"}, [], NEW).gpus == ()


@pytest.mark.parametrize(
    ("mask", "new", "old"),
    [
        (None, ["gpu_0", "gpu_1_mig_0", "gpu_1_mig_2", "gpu_2"], ["gpu_1_mig_0"]),
        ("MIG-bbbb-2", ["gpu_1_mig_2"], ["gpu_1_mig_2"]),
        ("MIG-bbbb-2,MIG-bbbb-0", ["gpu_1_mig_2", "gpu_1_mig_0"], ["gpu_1_mig_2"]),
        ("MIG-bbbb-1,MIG-bbbb-0", ["gpu_1_mig_1"], ["gpu_1_mig_1"]),
        ("MIG-bbbb-1,MIG-none,MIG-bbbb-2", ["gpu_1_mig_1"], ["gpu_1_mig_1"]),
        ("MIG-bbbb-1,MIG-bbbb-1", [], []),
        ("MIG-GPU-bbbb/9/0", ["gpu_1_mig_2"], ["gpu_1_mig_2"]),
        ("MIG-GPU-bbbb/5/1", ["gpu_1_mig_1"], ["gpu_1_mig_1"]),
        ("MIG-GPU-bbbb/5/2", [], []),
        ("MIG-GPU-aaaa/None/None", [], []),
        ("MIG-bbbb", [], []),
        ("GPU-bbbb", ["gpu_1_mig_0"], ["gpu_1_mig_0"]),
        ("GPU-cccc", ["gpu_2"], ["gpu_2"]),
        ("0", ["gpu_0"], ["gpu_1_mig_0"]),
        ("2", ["gpu_1_mig_2"], ["gpu_1_mig_2"]),
        ("1", ["gpu_1_mig_0"], ["gpu_1_mig_1"]),
        ("0,3", ["gpu_0", "gpu_2"], ["gpu_1_mig_0"]),
        ("4", [], []),
    ],
)
def test_mig_instances(mask: str | None, new: list[str], old: list[str]) -> None:
    environment = {} if mask is None else {"CUDA_VISIBLE_DEVICES": mask}
    assert keys(environment, MIXED) == keys(environment, MIXED, driver=None) == new
    assert keys(environment, MIXED, driver=OLD) == old


@pytest.mark.parametrize(
    ("environment", "doubtful"),
    [
        ({"CUDA_VISIBLE_DEVICES": "1"}, True),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, True),
        ({"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, False),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b"}, False),
        ({"CUDA_VISIBLE_DEVICES": "1,0"}, False),
        ({"CUDA_VISIBLE_DEVICES": ""}, False),
        ({}, False),
    ],
)
def test_an_index_is_doubtful_where_the_gpus_differ(environment: dict[str, str], doubtful: bool) -> None:
    host = [whole(0, "aaaa", "NVIDIA T400"), whole(1, "bbbb", "NVIDIA H100")]
    visible = choose_visible(environment, host, NEW)
    assert visible.note == (ORDER_IS_UNKNOWN if doubtful else None)
    if environment.get("CUDA_VISIBLE_DEVICES") == "1":
        assert [unit.gpu.index for unit in visible.gpus] == [1]


@pytest.mark.parametrize(
    ("environment", "indices", "declared"),
    [
        ({"SLURM_JOB_GPUS": "2,3"}, [2, 3], True),
        ({"SLURM_STEP_GPUS": "3", "SLURM_JOB_GPUS": "2,3"}, [3], True),
        ({"GPU_DEVICE_ORDINAL": "1"}, [1], True),
        ({"SLURM_JOB_GPUS": "2", "CUDA_VISIBLE_DEVICES": "0"}, [0], True),
        ({"SLURM_JOB_GPUS": "2", "CUDA_VISIBLE_DEVICES": ""}, [], True),
        # Confined to its devices, which NVML numbers anew.
        ({"SLURM_JOB_GPUS": "3,4"}, [0, 1, 2, 3], False),
        ({"SLURM_STEP_GPUS": "", "SLURM_JOB_GPUS": "1"}, [1], True),
        ({"SLURM_JOB_GPUS": "0-2"}, [0, 1, 2, 3], False),
        ({"SLURM_JOB_GPUS": "nonsense"}, [0, 1, 2, 3], False),
        ({"SLURM_JOB_GPUS": ""}, [0, 1, 2, 3], False),
    ],
)
def test_the_masks_of_slurm(environment: dict[str, str], indices: list[int], declared: bool) -> None:
    visible = choose_visible(environment, FOUR, NEW)
    assert ([unit.gpu.index for unit in visible.gpus], visible.declared) == (indices, declared)
