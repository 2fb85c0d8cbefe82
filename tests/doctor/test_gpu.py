"""GPUs, through the real binding on a stub of NVIDIA's library."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pynvml
import pytest
from system_metrics.nvml_stub import NvmlStub

from mlflow_dovetail.doctor import gpu
from mlflow_dovetail.system_metrics.nvml import DRIVER_FOLDER, Question

from .conftest import Patient


@pytest.fixture
def driver(patient: Patient, nvml_stub: NvmlStub) -> NvmlStub:
    """A driver with two GPUs that are well, for the patient."""
    patient.variables.update(nvml_stub.environment)
    nvml_stub.add_gpu(0, ecc_1=0)
    nvml_stub.add_gpu(1, ecc_1=0)
    return nvml_stub


@pytest.fixture
def built_with(patient: Patient) -> Any:
    """`built_with("12.8")`: a PyTorch that says so and cannot be imported, before the real one."""

    def make(cuda: str | None) -> None:
        folder = patient.site / "torch"
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("raise RuntimeError('this PyTorch was imported')\n")
        (folder / "version.py").write_text(f"__version__ = '2.13.0'\ncuda: str | None = {cuda!r}\n")

    return make


@pytest.mark.skipif(DRIVER_FOLDER.exists(), reason="this machine has one")
def test_a_machine_without_a_gpu_is_well(patient: Patient):
    patient.is_well("gpu")


def test_gpus_that_are_well(patient: Patient, driver: NvmlStub, built_with):
    built_with(None)
    assert [one.level for one in patient.examine("gpu")] == ["ok", "warning"]
    told = patient.only("gpu", "ok").what
    assert "2 of NVIDIA's GPUs (NVIDIA Stub 80GB), driver 570.86.15, CUDA 12.8" in told
    assert "for the CPU" in patient.only("gpu", "warning").what


def test_a_pytorch_that_is_too_new_for_the_driver(patient: Patient, driver: NvmlStub, built_with):
    built_with("13.0")
    told = patient.only("gpu", "problem")
    assert "built with CUDA 13.0" in told.what and "up to 12.8" in told.what and "Update the driver" in told.do


def test_a_pytorch_of_the_drivers_major_version_is_asked(patient: Patient, driver: NvmlStub, built_with):
    built_with("12.9")
    told = patient.only("gpu", "problem")
    assert told.what == "PyTorch cannot use the GPU." and "this PyTorch was imported" in told.why


@pytest.mark.parametrize(
    ("mask", "level", "told"),
    [("", "warning", "No GPU is visible"), ("7", "warning", "No GPU is visible"), ("1", "note", "GPU 1 only")],
)
def test_a_mask(patient: Patient, driver: NvmlStub, built_with, mask: str, level: str, told: str):
    built_with("13.0")
    patient.variables["CUDA_VISIBLE_DEVICES"] = mask
    found = patient.only("gpu", level)
    assert told in found.what and repr(mask) in found.why


def test_memory_errors(patient: Patient, driver: NvmlStub, built_with):
    built_with(None)
    driver.set(1, ecc_1=4)
    told = patient.only("gpu", "problem")
    assert told.what.startswith("GPU 1 has had 4 memory errors") and "restart" in told.do.lower()


def test_a_gpu_that_is_lost(patient: Patient, driver: NvmlStub, built_with):
    built_with(None)
    driver.lose(1)
    found = [one for one in patient.examine("gpu") if "Not every question" in one.what]
    assert len(found) == 1 and "nvidia-smi" in found[0].do


def test_a_driver_without_gpus(patient: Patient, nvml_stub: NvmlStub):
    patient.variables.update(nvml_stub.environment)
    assert "shows no GPU" in patient.only("gpu", "warning").what


def test_a_driver_that_cannot_begin(patient: Patient, driver: NvmlStub):
    driver.no_driver("18")  # NVML_ERROR_LIB_RM_VERSION_MISMATCH: the driver was updated under a running system
    told = patient.only("gpu", "problem")
    assert "cannot be asked" in told.what and "restart the machine" in told.do


class Answers:
    """A device that answers as NVML does what the stub has not: rows that were remapped, persistence, compute mode."""

    pynvml: ModuleType = pynvml

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def ask(self, question: Question, *_: object) -> Any:
        return self._answers.get(question.function)


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"nvmlDeviceGetRemappedRows": (1, 0, 0, 0), "nvmlDeviceGetPersistenceMode": 1}, []),
        ({"nvmlDeviceGetRemappedRows": (0, 2, 1, 0)}, ["waits to replace bad memory"]),
        ({"nvmlDeviceGetRemappedRows": (0, 2, 1, 1)}, ["cannot replace its bad memory"]),
        ({"nvmlDeviceGetPersistenceMode": 0}, ["not in persistence mode"]),
        ({"nvmlDeviceGetComputeMode": pynvml.NVML_COMPUTEMODE_PROHIBITED}, ["takes no programs"]),
        ({"nvmlDeviceGetComputeMode": pynvml.NVML_COMPUTEMODE_EXCLUSIVE_PROCESS}, []),
        ({}, []),
    ],
)
def test_what_else_a_device_tells(answers: dict[str, Any], told: list[str]):
    found = list(gpu._of_device(Answers(**answers), "GPU 0"))
    assert [words in one.what for words, one in zip(told, found, strict=True)] == [True] * len(told)


def test_the_functions_that_are_asked_are_there():
    for question in (gpu._ECC_ERRORS, gpu._REMAPPED_ROWS, gpu._PERSISTENCE, gpu._COMPUTE_MODE):
        assert callable(getattr(pynvml, question.function))
