"""NVIDIA's library where it is there, where it is not, and where it fails: nothing is ever raised."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mlflow_dovetail.system_metrics import nvml
from mlflow_dovetail.system_metrics.nvml import Question, open_nvml

from .nvml_stub import NvmlStub

# A source from its first call to its end, in a process that loads what LD_LIBRARY_PATH has; says what it saw.
SAMPLE = """
import json, pathlib, sys
from mlflow_dovetail.system_metrics import nvml
from mlflow_dovetail.system_metrics.gpu import GpuSource
nvml.DRIVER_FOLDER = pathlib.Path(sys.argv[1])
source = GpuSource({"CUDA_VISIBLE_DEVICES": "0"}, list)
first, window = source.poll(), source.close_window()
second = source.poll()
said = {"first": first, "window": window, "second": second, "troubles": source.troubles(), "says": source.describe()}
source.close()
said["closed"] = {**source.poll(), **source.close_window(), **source.describe()}
print(json.dumps(said))
"""


def sample(folder: Path, environment: dict[str, str], *options: str) -> dict[str, dict[str, float]]:
    """The report of `SAMPLE`; `folder` stands for the one that the driver makes."""
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_LIBRARY_PATH", "NVML_STUB_CONTROL")}
    done = subprocess.run(
        [sys.executable, *options, "-c", SAMPLE, str(folder)],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    report: dict[str, dict[str, float]] = json.loads(done.stdout)
    assert report["closed"] == {}
    return report


def assert_empty(report: dict[str, dict[str, float]]) -> None:
    assert report["first"] == report["window"] == report["second"] == report["says"] == {}


@pytest.fixture
def no_library(tmp_path: Path) -> dict[str, str]:
    """An environment in which the library cannot be loaded, on a machine with a GPU too."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/libnvidia-ml.so.1").write_text("not a library")
    return {"LD_LIBRARY_PATH": str(tmp_path / "broken")}


def test_a_host_without_nvidia_is_empty_and_no_trouble(no_library: dict[str, str], tmp_path: Path) -> None:
    report = sample(tmp_path / "absent", no_library)
    assert_empty(report)
    assert report["troubles"] == {}


def test_a_driver_without_its_library_is_a_trouble(no_library: dict[str, str], tmp_path: Path) -> None:
    report = sample(tmp_path, no_library)
    assert_empty(report)
    assert report["troubles"] == {"NVIDIA's driver cannot be asked: NVML Shared Library Not Found": 1}


@pytest.mark.parametrize("driver", [True, False])
def test_without_the_binding(nvml_stub: NvmlStub, tmp_path: Path, driver: bool) -> None:
    nvml_stub.add_gpu(0)
    (tmp_path / "pynvml.py").write_text("raise ImportError('not installed')")
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])}
    report = sample(tmp_path if driver else tmp_path / "absent", {**nvml_stub.environment, **path})
    assert_empty(report)
    assert report["troubles"] == ({"nvidia-ml-py is not installed": 1} if driver else {})


def test_no_driver(nvml_stub: NvmlStub, tmp_path: Path) -> None:
    nvml_stub.add_gpu(0)
    nvml_stub.no_driver()
    report = sample(tmp_path / "absent", nvml_stub.environment)
    assert_empty(report)
    assert report["troubles"] == {"NVIDIA's driver cannot be asked: Driver Not Loaded": 1}


def test_a_driver_without_a_gpu_is_no_trouble(nvml_stub: NvmlStub, tmp_path: Path) -> None:
    report = sample(tmp_path, nvml_stub.environment)
    assert_empty(report)
    assert report["troubles"] == {}


def test_an_old_driver_gives_what_it_can(old_nvml_library: Path, tmp_path: Path) -> None:
    old = NvmlStub(old_nvml_library, tmp_path)
    old.add_gpu(0, clocks_event_reasons=0x4, field_74=None)
    report = sample(tmp_path, old.environment)
    assert report["troubles"] == {}
    first, window = report["first"], report["window"]
    assert (first["gpu_0_utilization_percentage"], first["gpu_0_power_usage_watts"]) == (61, 301.5)
    assert (window["gpu_0_power_limit_watts"], window["gpu_0_energy_joules"]) == (700, 0)
    assert window["gpu_0_throttle_power_cap_percentage"] == 100
    # What came with GPM is from the older calls, or absent.
    assert (window["gpu_0_pcie_transmit_megabytes_per_second"], window["gpu_0_pcie_receive_megabytes_per_second"]) == (
        21,
        34,
    )
    assert not {key for key in window if "sm_active" in key or "nvlink" in key or "speed_megabits" in key}


@pytest.fixture
def troubles() -> Counter[str]:
    return Counter()


def test_a_failure_is_counted_and_asked_again(loaded_stub: NvmlStub, troubles: Counter[str]) -> None:
    loaded_stub.add_gpu(0)
    library = open_nvml(troubles)
    assert library is not None
    device = library.device("GPU-00000000-1111-2222-3333-000000000000", "GPU 0")
    assert device is not None
    fan = Question("nvmlDeviceGetFanSpeed")
    loaded_stub.set(0, fan_percent="!10")
    assert (device.ask(fan), device.ask(fan)) == (None, None)
    loaded_stub.set(0, fan_percent=44)
    assert device.ask(fan) == 44
    assert troubles == {"nvmlDeviceGetFanSpeed on GPU 0: Timeout": 2}


@pytest.mark.parametrize("code", sorted(nvml.NEVER))
def test_what_is_not_supported_is_not_asked_again(loaded_stub: NvmlStub, troubles: Counter[str], code: int) -> None:
    loaded_stub.add_gpu(0)
    library = open_nvml(troubles)
    assert library is not None
    device = library.device("GPU-00000000-1111-2222-3333-000000000000", "GPU 0")
    assert device is not None
    fan = Question("nvmlDeviceGetFanSpeed")
    loaded_stub.set(0, fan_percent=f"!{code}")
    assert device.ask(fan) is None
    loaded_stub.set(0, fan_percent=44)
    assert device.ask(fan) is None
    assert device.ask(Question("nvmlDeviceGetTemperature", (0,))) == 54
    assert not troubles


def test_a_function_that_the_binding_does_not_have(loaded_stub: NvmlStub, troubles: Counter[str]) -> None:
    loaded_stub.add_gpu(0)
    library = open_nvml(troubles)
    assert library is not None
    device = library.device("GPU-00000000-1111-2222-3333-000000000000", "GPU 0")
    assert device is not None
    assert device.ask(Question("nvmlDeviceGetTheFuture")) is None
    assert device.ask_first((Question("nvmlDeviceGetTheFuture"), Question("nvmlDeviceGetFanSpeed"))) == 44
    assert not troubles


@pytest.mark.parametrize(("code", "cause"), [("!4", None), ("!15", "nvmlDeviceGetHandleByIndex: GPU is lost")])
def test_a_gpu_that_cannot_be_opened_hides_no_other(
    loaded_stub: NvmlStub, troubles: Counter[str], code: str, cause: str | None
) -> None:
    for index in range(3):
        loaded_stub.add_gpu(index)
    loaded_stub.set(1, handle=code)
    library = open_nvml(troubles)
    assert library is not None
    assert [unit.gpu.key for unit in library.gpus()] == ["gpu_0", "gpu_2"]
    assert troubles == ({cause: 1} if cause else {})


def test_instances_stand_in_the_place_of_their_device(loaded_stub: NvmlStub, troubles: Counter[str]) -> None:
    for index in range(3):
        loaded_stub.add_gpu(index)
    loaded_stub.add_mig(1, 0)
    loaded_stub.add_mig(1, 3, compute_instance=2)
    loaded_stub.set(2, mig_mode=0)
    library = open_nvml(troubles)
    assert library is not None
    units = library.gpus()
    assert [unit.gpu.key for unit in units] == ["gpu_0", "gpu_1_mig_0", "gpu_1_mig_3", "gpu_2"]
    instance = units[2]
    assert instance.gpu.uuid == "MIG-0000000d-aaaa-bbbb-cccc-00000000000d"
    assert instance.gpu.pci_bus_id == "00000000:11:00.0"
    assert (instance.device_uuid[:12], instance.gpu_instance, instance.compute_instance) == ("GPU-00000001", 10, 2)
    assert not troubles


def test_a_device_in_mig_mode_without_instances_is_nothing(loaded_stub: NvmlStub, troubles: Counter[str]) -> None:
    loaded_stub.add_gpu(0, mig_mode=1)
    library = open_nvml(troubles)
    assert library is not None
    assert library.gpus() == []
