"""Several processes that train one model together (`trainer=ddp`): each calls the same function.

Lightning's launcher would start them by this program's own command, which in a sweep is the whole sweep again, and
the next job of the sweep would wait for ever for processes that it does not start (2.6). Under torchrun, and where SLURM
has a task for each, they are there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from pytorch_lightning.plugins.environments import LightningEnvironment

from {{ cookiecutter.package_name }}.config import ConfigError

ENVIRONMENT = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE")
ALONE_SECONDS = 60  # rank 0 learns of a rank that is gone by itself; if it hangs for so long instead, it is ended


class RankError(RuntimeError):
    """Another process of the training has failed."""


def count(trainer: DictConfig) -> int:
    """How many processes a configuration asks for: one a device.

    Raises:
        ConfigError: This machine has no such devices.
    """
    gpus = torch.accelerator.device_count()
    on_gpu = trainer.accelerator in ("gpu", "cuda", "mps") or (trainer.accelerator == "auto" and gpus > 0)
    if on_gpu and not gpus:
        raise ConfigError(
            f"'trainer.accelerator' is '{trainer.accelerator}', and PyTorch {torch.__version__} sees no GPU. Look at "
            "`nvidia-smi` and install PyTorch's build for your CUDA, or run with trainer.accelerator=auto."
        )
    devices = trainer.devices
    if isinstance(devices, ListConfig):
        wanted, last = len(devices), max(devices)
    else:
        everything = str(devices) in ("auto", "-1")
        wanted = max(gpus if on_gpu else 1, 1) if everything else int(devices)
        last = wanted - 1
    if on_gpu and last >= gpus:
        raise ConfigError(
            f"'trainer.devices' is {devices}, and this machine has {gpus} GPU(s). Set it to {gpus} or less, or train on "
            "the processor with trainer.accelerator=cpu."
        )
    return wanted


@contextmanager
def started(processes: int, function: Callable[..., Any], *arguments: Any) -> Iterator[list[LightningEnvironment]]:
    """While the block trains as rank 0, the other ranks call `function(*arguments)`; none outlives the block.

    Yields:
        Plugins for the Trainer: a SLURM job of one task is no reason to look for the others elsewhere.

    Raises:
        RankError: One of them failed, and so did the block: the ranks wait for each other.
    """
    elsewhere = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    plugins = [] if processes == 1 or elsewhere else [LightningEnvironment()]
    if not plugins or "LOCAL_RANK" in os.environ:
        yield plugins
        return
    before = {name: os.environ.pop(name, None) for name in ENVIRONMENT}
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=_free_port())
    threads = torch.get_num_threads()
    ranks = [_start(rank, max(1, threads // processes), function, arguments) for rank in range(1, processes)]
    os.environ["LOCAL_RANK"] = "0"
    torch.set_num_threads(max(1, threads // processes))
    over = threading.Event()
    threading.Thread(target=_end_with, args=(ranks, over), daemon=True).start()
    try:
        yield plugins
        for process, _ in ranks:
            process.join(ALONE_SECONDS)
    except Exception as error:
        if failure := _failure(ranks):
            raise RankError(failure) from error
        raise
    finally:
        over.set()
        for process, _ in ranks:
            process.kill()
            process.join()
        if torch.distributed.is_initialized():  # the next job of a sweep must not take this one's group
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


def _start(
    rank: int, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[SpawnProcess, Connection]:
    os.environ["LOCAL_RANK"] = str(rank)  # Lightning reads it as it is imported
    context = multiprocessing.get_context("spawn")
    tells, told = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(told, threads, function, arguments), name=f"rank {rank}")
    process.start()
    told.close()
    return process, tells


def _run(told: Connection, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """One of the other ranks, from its beginning to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is rank 0's to answer, and it ends this
    threading.Thread(target=_die_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        function(*arguments)
    except BaseException as error:
        traceback.print_exc()
        told.send(f"{type(error).__name__}: {error}")
        os._exit(1)  # nothing of this process is worth waiting for


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)


def _failure(ranks: list[tuple[SpawnProcess, Connection]]) -> str | None:
    """What the first rank that failed said; None where rank 0 itself was the first."""
    wait([process.sentinel for process, _ in ranks], timeout=2)  # a group breaks a moment before a process has ended
    for process, tells in ranks:
        if tells.poll() and process.exitcode != 0:
            try:
                return f"{process.name} failed: {tells.recv()}"
            except EOFError:
                return f"{process.name} was ended by signal {-(process.exitcode or 0)}"
    return None


def _end_with(ranks: list[tuple[SpawnProcess, Connection]], over: threading.Event) -> None:
    """A collective operation on a GPU may wait for ever for a rank that is gone, where no exception reaches it."""
    while not over.wait(1):
        if any(process.exitcode for process, _ in ranks):
            if not over.wait(ALONE_SECONDS):
                os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
            return


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
