"""The host of a run: what a process can use of its machine, without starting another and without a heavy import."""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from mlflow_dovetail import redact
from mlflow_dovetail.cgroup import ROOT, read_cpu_limit, read_memory_limit
from mlflow_dovetail.context.machine import read_machine

# By whole names: SLURM_JWT and its like are secrets.
_VARIABLES = """
CUDA_VISIBLE_DEVICES CUDA_DEVICE_ORDER CUDA_LAUNCH_BLOCKING CUDA_MODULE_LOADING CUBLAS_WORKSPACE_CONFIG
NVIDIA_VISIBLE_DEVICES NVIDIA_TF32_OVERRIDE HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES
OMP_NUM_THREADS OMP_PROC_BIND OMP_PLACES MKL_NUM_THREADS OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS
VECLIB_MAXIMUM_THREADS KMP_AFFINITY
PYTORCH_CUDA_ALLOC_CONF PYTORCH_ALLOC_CONF PYTORCH_ENABLE_MPS_FALLBACK TORCH_CUDNN_V8_API_ENABLED
TORCH_ALLOW_TF32_CUBLAS_OVERRIDE TORCH_NCCL_ASYNC_ERROR_HANDLING TORCH_COMPILE_DISABLE TORCHDYNAMO_DISABLE
NCCL_DEBUG NCCL_P2P_DISABLE NCCL_IB_DISABLE NCCL_SOCKET_IFNAME NCCL_ALGO NCCL_PROTO GLOO_SOCKET_IFNAME
WORLD_SIZE LOCAL_WORLD_SIZE RANK LOCAL_RANK NODE_RANK GROUP_RANK MASTER_ADDR MASTER_PORT
PL_GLOBAL_SEED PL_SEED_WORKERS PYTHONHASHSEED PYTHONOPTIMIZE PYTHONUTF8 LANG LC_ALL TZ
LD_PRELOAD MALLOC_ARENA_MAX TOKENIZERS_PARALLELISM HF_HUB_OFFLINE TRANSFORMERS_OFFLINE CONDA_DEFAULT_ENV
SLURM_JOB_ID SLURM_JOB_NAME SLURM_JOB_PARTITION SLURM_JOB_NODELIST SLURM_JOB_NUM_NODES SLURM_JOB_GPUS
SLURM_JOB_CPUS_PER_NODE SLURM_ARRAY_JOB_ID SLURM_ARRAY_TASK_ID SLURM_CLUSTER_NAME SLURM_NTASKS
SLURM_NTASKS_PER_NODE SLURM_PROCID SLURM_LOCALID SLURM_NODEID SLURM_CPUS_PER_TASK SLURM_CPUS_ON_NODE SLURM_GPUS
SLURM_GPUS_ON_NODE SLURM_GPUS_PER_NODE SLURM_GPUS_PER_TASK SLURM_MEM_PER_NODE SLURM_MEM_PER_CPU
SLURM_RESTART_COUNT PBS_JOBID LSB_JOBID JOB_ID
"""
ENVIRONMENT_VARIABLES = tuple(_VARIABLES.split())


def read_host(root: Path = ROOT) -> dict[str, object]:
    """The machine as it offers itself to this process, fit for JSON.

    Returns:
        `host`, `os`, `kernel`, `architecture`; `cpu`: `model`, `count` (logical ones of the host), `affinity` (how
        many this process may use), `cgroup_limit` (in cores); `memory`: `total_bytes`, `cgroup_limit_bytes`;
        `python`: `version`, `implementation`, `executable`; `gpu`: `names` in PCI order, `driver`, `cuda` (of an
        already imported torch); `environment`: those of `ENVIRONMENT_VARIABLES` that are set. What is unknown or
        unlimited is absent.
    """
    machine = read_machine()
    described = {
        "host": machine.host,
        "os": _read_os_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpu": _read_cpu(root),
        "memory": _read_memory(root),
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": _hide_home(sys.executable),
        },
        "gpu": {"names": list(machine.gpus), "driver": _read_driver(root), "cuda": machine.cuda},
    }
    # An empty variable stays: an empty CUDA_VISIBLE_DEVICES hides every GPU.
    return {**_drop_unknown(described), "environment": _read_variables()}


def _read_variables() -> dict[str, str]:
    return {name: redact.mask_text(os.environ[name]) for name in ENVIRONMENT_VARIABLES if name in os.environ}


def _hide_home(path: str) -> str:
    home = str(Path("~").expanduser())
    return f"~{path.removeprefix(home)}" if len(home) > 1 and path.startswith(f"{home}{os.sep}") else path


def _drop_unknown(part: Mapping[str, object]) -> dict[str, object]:
    kept = {key: _drop_unknown(value) if isinstance(value, dict) else value for key, value in part.items()}
    return {key: value for key, value in kept.items() if value not in (None, "", [])}


def _read_os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.mac_ver()[0]}".strip()


def _read_cpu(root: Path) -> dict[str, object]:
    model = re.search(r"^model name\s*:\s*(.+)$", _read(root / "proc/cpuinfo"), re.MULTILINE)
    affinity = getattr(os, "sched_getaffinity", None)  # Linux
    return {
        "model": model[1].strip() if model else platform.processor(),
        "count": os.cpu_count(),
        "affinity": len(affinity(0)) if affinity else None,
        "cgroup_limit": read_cpu_limit(root=root),
    }


def _read_memory(root: Path) -> dict[str, object]:
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
    limit = read_memory_limit(root=root)
    # Version 1 writes "no limit" as a number that no machine has.
    return {
        "total_bytes": total,
        "cgroup_limit_bytes": limit if total is None or limit is None or limit < total else None,
    }


def _read_driver(root: Path) -> str | None:
    """Source: NVIDIA driver README, "The /proc interface"."""
    version = re.search(
        r"^NVRM version:.*?\s(\d+\.\d+(?:\.\d+)*)\s", _read(root / "proc/driver/nvidia/version"), re.MULTILINE
    )
    return version[1] if version else None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
