"""The stub of NVIDIA's library, compiled once a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .nvml_stub import NvmlStub, build


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("nvml"))
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def old_nvml_library(nvml_library: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a driver that is without the newer functions; not for a process that has the other one."""
    return build(tmp_path_factory.mktemp("old_nvml"), "-DOLD_DRIVER")


@pytest.fixture
def nvml_stub(nvml_library: Path, tmp_path: Path) -> NvmlStub:
    """A driver without a GPU, for child processes; add GPUs to it."""
    return NvmlStub(nvml_library, tmp_path)


@pytest.fixture
def loaded_stub(nvml_stub: NvmlStub, monkeypatch: pytest.MonkeyPatch) -> Iterator[NvmlStub]:
    """The same as the library of this very process."""
    monkeypatch.setenv("NVML_STUB_CONTROL", str(nvml_stub.control))
    nvml_stub.load()
    yield nvml_stub
