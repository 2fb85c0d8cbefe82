"""The machine is described from what is there, and what is not there is left out."""

from __future__ import annotations

import platform
import sys
import types
from pathlib import Path

import pytest

from mlflow_dovetail.context import machine
from mlflow_dovetail.context.machine import describe_gpus, read_gpu_names, read_machine

# As driver 550 prints it.
INFORMATION = """\
Model: \t\t NVIDIA H200
IRQ:   \t\t 123
GPU UUID: \t GPU-00000000-1111-2222-3333-444444444444
Bus Location: \t 0000:17:00.0
"""


def test_host_system_and_python() -> None:
    here = read_machine()
    assert here.host == platform.node()
    assert platform.release() in here.system
    assert here.python == f"CPython {sys.version.split()[0]}"


def test_gpu_names_come_in_pci_order(tmp_path: Path) -> None:
    models = {"0000:65:00.0": "NVIDIA L4", "0000:17:00.0": "NVIDIA H200", "0000:31:00.0": "NVIDIA H200"}
    for address, model in models.items():
        (tmp_path / address).mkdir()
        (tmp_path / address / "information").write_text(INFORMATION.replace("NVIDIA H200", model))
    assert read_gpu_names(tmp_path) == ("NVIDIA H200", "NVIDIA H200", "NVIDIA L4")
    assert describe_gpus(read_gpu_names(tmp_path)) == "NVIDIA H200 x2, NVIDIA L4"


@pytest.mark.parametrize("text", ["", "Model:\n", "nonsense", "\0\0"])
def test_a_driver_file_without_a_model_names_no_gpu(tmp_path: Path, text: str) -> None:
    (tmp_path / "0000:17:00.0").mkdir()
    (tmp_path / "0000:17:00.0/information").write_text(text)
    assert read_gpu_names(tmp_path) == ()


def test_without_a_driver_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GPU_FOLDER", tmp_path / "absent")
    assert read_machine().gpus == ()


@pytest.mark.parametrize(
    ("module", "cuda"),
    [
        (None, None),
        (types.SimpleNamespace(), None),
        (types.SimpleNamespace(version=types.SimpleNamespace(cuda=None)), None),
        (types.SimpleNamespace(version=types.SimpleNamespace(cuda=12)), None),
        (types.SimpleNamespace(version=types.SimpleNamespace(cuda="12.8")), "12.8"),
    ],
)
def test_cuda_is_that_of_an_imported_torch(module: object, cuda: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", module)
    assert read_machine().cuda == cuda
