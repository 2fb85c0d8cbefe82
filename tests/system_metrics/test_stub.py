"""The stub itself: a child process loads it as NVIDIA's library, and sees what the control file says now."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from .nvml_stub import GPM_NUMBERS, NUMBERS, NvmlStub

ASK = """
import sys
import pynvml
pynvml.nvmlInit()
print(pynvml.nvmlSystemGetDriverVersion(), pynvml.nvmlDeviceGetCount(), flush=True)
handle = pynvml.nvmlDeviceGetHandleByIndex(0)
for _ in sys.stdin:
    try:
        print(pynvml.nvmlDeviceGetTemperature(handle, 0), flush=True)
    except pynvml.NVMLError as error:
        print(type(error).__name__, error.value, flush=True)
"""


def test_faults_flip_while_a_child_process_runs(nvml_stub: NvmlStub) -> None:
    nvml_stub.add_gpu(0)
    with subprocess.Popen(
        [sys.executable, "-c", ASK],
        env={**os.environ, **nvml_stub.environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin and child.stdout

        def ask() -> str:
            assert child.stdin and child.stdout
            child.stdin.write("\n")
            child.stdin.flush()
            return child.stdout.readline().strip()

        assert child.stdout.readline().split() == ["570.86.15", "1"]
        assert ask() == "54"
        nvml_stub.set(0, temperature=91)
        assert ask() == "91"
        nvml_stub.set(0, temperature=None)
        assert ask() == "NVMLError_NotSupported 3"
        nvml_stub.set(0, temperature="!10")
        assert ask() == "NVMLError_Timeout 10"
        nvml_stub.lose(0)
        assert ask() == "NVMLError_GpuIsLost 15"
        child.stdin.close()


def test_no_field_has_the_value_of_another() -> None:
    """Else a mix-up would not be seen."""
    same = {"clocks_event_reasons", "supported_clocks_event_reasons", "gpm", "performance_state", "ecc_1"}
    numbers = {field: number for field, number in NUMBERS.items() if field not in same}
    # The greatest clock of one kind may be near that of another, yet none is the same.
    alike = [pair for pair in combinations([*numbers.items(), *GPM_NUMBERS.items()], 2) if pair[0][1] == pair[1][1]]
    assert [{str(field) for field, _ in pair} for pair in alike] == [{"pcie_max_generation", "pcie_max_speed"}]


@pytest.mark.parametrize("code", ["none", "!9", "!18", "!999"])
def test_a_driver_that_does_not_begin(nvml_stub: NvmlStub, code: str) -> None:
    nvml_stub.no_driver(code)
    program = "import pynvml\ntry: pynvml.nvmlInit()\nexcept pynvml.NVMLError as error: print(error.value)"
    said = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **nvml_stub.environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert said.stdout.strip() == {"none": "9"}.get(code, code[1:])


def test_an_old_driver_is_without_the_new_functions(old_nvml_library: Path, nvml_library: Path) -> None:
    def functions(library: Path) -> set[str]:
        listed = subprocess.run(
            ["nm", "-D", "--defined-only", str(library)], capture_output=True, text=True, check=True
        )
        return {line.split()[-1] for line in listed.stdout.splitlines()}

    missing = functions(nvml_library) - functions(old_nvml_library)
    assert {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetComputeRunningProcesses_v3"} <= missing
    assert functions(old_nvml_library) < functions(nvml_library)
