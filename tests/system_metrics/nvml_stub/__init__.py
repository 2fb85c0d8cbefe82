"""A stub of NVIDIA's library, so that the real binding (nvidia-ml-py) is exercised on a machine without a GPU.

Use it from any test::

    def test_something(nvml_stub):                       # the fixture of tests/system_metrics/conftest.py; else:
        stub = NvmlStub(build(some_folder), tmp_path)    # `build` once a session, one `NvmlStub` a test
        stub.add_gpu(0)                                  # with values that no other field or device has
        stub.add_mig(0, 1)                               # makes device 0 a MIG device with an instance 1
        stub.set(0, temperature=66, fan_percent="!3")    # `!3`: the call fails with NVML's return code 3
        stub.run(0, pid, megabytes=1500, sm=40)          # a process on the device
        subprocess.run(..., env={**os.environ, **stub.environment})
        stub.lose(0)                                     # at any time: the library reads the file on every call

A child process loads it through LD_LIBRARY_PATH. `stub.load()` loads it into this process instead, where it stays, for
what a later `import pynvml` in the same process asks for.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).with_name("nvml_stub.c")
NAME = "libnvidia-ml.so.1"
NOT_SUPPORTED, TIMEOUT, GPU_IS_LOST = "!3", "!10", "!15"

# Of device 0; those of the others are greater, see `add_gpu`.
NUMBERS = {
    "utilization": 61,
    "memory_controller_utilization": 37,
    "memory_total_bytes": 80_000_000_000,
    "memory_used_bytes": 34_400_000_000,
    "power_milliwatts": 301_500,
    "power_limit_milliwatts": 700_000,
    "energy_millijoules": 9_000_000,
    "temperature": 54,
    "clock_0": 1755,  # graphics
    "clock_1": 1740,  # sm
    "clock_2": 2619,  # memory
    "max_clock_0": 1995,
    "max_clock_1": 1980,
    "max_clock_2": 2640,
    "clocks_event_reasons": 0,
    "supported_clocks_event_reasons": 0x1FF,
    "field_74": 5_000_000_000,  # nanoseconds below the clocks for power
    "field_75": 6_000_000_000,  # temperature
    "field_76": 7_000_000_000,  # sync boost
    "field_77": 8_000_000_000,  # board limit
    "field_79": 9_000_000_000,  # reliability
    "field_82": 71,  # temperature of the memory
    "ecc_0": 17,
    "ecc_1": 3,
    "fan_percent": 44,
    "encoder": 12,
    "decoder": 19,
    "pcie_generation": 4,
    "pcie_max_generation": 5,
    "pcie_width": 8,
    "pcie_max_width": 16,
    "pcie_speed": 16_000,
    "pcie_max_speed": 5,  # 32,000 Mb/s
    "pcie_throughput_0": 21_000,  # transmitted, kB/s
    "pcie_throughput_1": 34_000,
    "pcie_replays": 6,
    "performance_state": 2,
    "gpm": 1,
}
# NVML_GPM_METRIC_*; percent, and MiB/s from 20 on.
GPM_NUMBERS = {
    2: 81.5,
    3: 23.25,
    5: 46.5,
    7: 41.5,
    10: 67.5,
    11: 1.5,
    12: 13.5,
    13: 5.5,
    20: 310,
    21: 420,
    60: 53,
    61: 64,
}


def build(folder: Path, *options: str) -> Path:
    """Compile the stub into a folder, as LD_LIBRARY_PATH takes it; `-DOLD_DRIVER` leaves late functions out.

    Raises:
        FileNotFoundError: There is no C compiler here.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise FileNotFoundError("no C compiler here to make the stub of NVIDIA's library")
    named = ["-shared", "-fPIC", f"-Wl,-soname,{NAME}", "-o", str(folder / NAME)]
    subprocess.run([compiler, "-O1", *named, *options, str(SOURCE), "-lpthread"], check=True, timeout=60)
    return folder / NAME


class NvmlStub:
    """What the stub answers: the writer of its control file. Without a device, the driver is there and has no GPU."""

    def __init__(self, library: Path, folder: Path) -> None:
        self.library = library
        self.control = folder / "nvml_control"
        self._fields: dict[tuple[str, str], str] = {
            ("*", "driver_version"): "570.86.15",
            ("*", "cuda_version"): "12080",
        }
        self._processes: dict[tuple[str, int], str] = {}
        self._stamp = 1_000_000
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """For a child process, beside the rest of the environment."""
        return {"LD_LIBRARY_PATH": str(self.library.parent), "NVML_STUB_CONTROL": str(self.control)}

    def load(self) -> None:
        """Make it the library of this process: the loader takes what is loaded under the same name."""
        os.environ["NVML_STUB_CONTROL"] = str(self.control)
        ctypes.CDLL(str(self.library), mode=ctypes.RTLD_GLOBAL)
        assert ctypes.CDLL(NAME).nvml_stub_marker() == 1, "this process has NVIDIA's own library already"

    def add_gpu(self, index: int, **fields: object) -> None:
        """A device whose every number differs from its others, and from those of the other devices."""
        grown = {field: number + index * max(1, number // 100) for field, number in NUMBERS.items()}
        same = ("clocks_event_reasons", "supported_clocks_event_reasons", "pcie_max_speed", "gpm")
        grown.update({field: NUMBERS[field] for field in same})
        gpm = {f"gpm_{metric}": value + index for metric, value in GPM_NUMBERS.items()}
        identity = {
            "uuid": f"GPU-{index:08x}-1111-2222-3333-{index:012x}",
            "name": "NVIDIA Stub 80GB",
            "pci_bus_id": f"00000000:{0x10 + index:02X}:00.0",
        }
        self.set(index, **{**identity, **grown, **gpm, **fields})

    def add_mig(self, index: int, instance: int, **fields: object) -> None:
        """A MIG instance of a device that was added before: GPU instance 7 + its number, compute instance 0."""
        number = index * 10 + instance
        own: dict[str, object] = {
            "uuid": f"MIG-{number:08x}-aaaa-bbbb-cccc-{number:012x}",
            "name": f"NVIDIA Stub 80GB MIG {1 + instance}g.10gb",
            "gpu_instance": 7 + instance,
            "compute_instance": 0,
            "memory_total_bytes": 10_000_000_000 + number * 1_000_000,
            "memory_used_bytes": 2_500_000_000 + number * 3_000_000,
            "gpm_2": 30.5 + number,
        }
        self.set(index, mig_mode=1)
        self.set(f"{index}/{instance}", **{**own, **fields})

    def set(self, device: int | str, **fields: object) -> None:
        """Answers of a device (`"0/1"`: a MIG instance); None takes the field away, which is "not supported"."""
        for field, value in fields.items():
            self._put(str(device), field, value)
        self._write()

    def run(
        self, device: int | str, pid: int, megabytes: float | None, sm: int | None = None, kind: str = "compute"
    ) -> None:
        """A process on a device, or other values of one; the time stamp of its share of the SMs goes on."""
        self._stamp += 1_000
        known = ["-" if value is None else f"{value:.0f}" for value in (megabytes and megabytes * 1e6, sm)]
        self._processes[f"{device} {kind}", pid] = f"{device} process {pid} {kind} {' '.join(known)} {self._stamp}"
        self._write()

    def end(self, pid: int) -> None:
        """A process is gone from every device."""
        self._processes = {key: line for key, line in self._processes.items() if key[1] != pid}
        self._write()

    def lose(self, device: int) -> None:
        """As when a GPU falls off the bus: every call on it fails from now on."""
        self.set(device, all=GPU_IS_LOST)

    def slow(self, function: str, seconds: float) -> None:
        """A call takes this long from now on."""
        self._put("*", f"sleep:{function}", seconds)
        self._write()

    def no_driver(self, code: str = "none") -> None:
        """The library is there and cannot begin."""
        self._put("*", "driver", code)
        self._write()

    def _put(self, device: str, field: str, value: object) -> None:
        if value is None:
            self._fields.pop((device, field), None)
        else:
            self._fields[device, field] = str(value)

    def _write(self) -> None:
        lines = [f"{device} {field} {value}" for (device, field), value in self._fields.items()]
        new = self.control.with_suffix(".new")
        new.write_text("\n".join([*lines, *self._processes.values(), ""]))
        # In one step: the library never reads half of it.
        new.replace(self.control)
