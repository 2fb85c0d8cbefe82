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
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import torch
from omegaconf import DictConfig, ListConfig
from pytorch_lightning.plugins.environments import LightningEnvironment

from {{ cookiecutter.package_name }}.config import ConfigError

ENVIRONMENT = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE")
ALONE_SECONDS = 60  # rank 0 learns of a rank that is gone by itself; if it hangs for so long instead, it is ended
END_SECONDS = 10  # from the signal that a program can answer to the one that it cannot
Rank = tuple[SpawnProcess, Connection]
_to_rank_0: Connection | None = None  # in the other ranks: where they say that they are ready, or have failed


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

    `function` enters such a block too, and does nothing there. All begin their blocks together. What only rank 0 does
    comes after the block: in it the ranks wait for each other, and a rank that has failed ends the others.

    Yields:
        Plugins for the Trainer: a SLURM job of one task is no reason to look for the others elsewhere.

    Raises:
        RankError: One of them failed before its block, or in it, and so did this one.
    """
    elsewhere = "TORCHELASTIC_RUN_ID" in os.environ or int(os.environ.get("SLURM_NTASKS", "1")) > 1
    plugins = [] if processes == 1 or elsewhere else [LightningEnvironment()]
    if not plugins or "LOCAL_RANK" in os.environ:
        if _to_rank_0:
            _to_rank_0.send("")
        yield plugins
        return
    threads = max(1, torch.get_num_threads() // processes)
    with _as_rank_0(threads), _with_others(processes, threads, function, arguments):
        yield plugins


@contextmanager
def _as_rank_0(threads: int) -> Iterator[None]:
    """A rank's environment and threads; afterwards those of before, and no group."""
    before = {name: os.environ.pop(name, None) for name in ENVIRONMENT}
    threads_before = torch.get_num_threads()
    try:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=_free_port())
        torch.set_num_threads(threads)
        yield
    finally:
        if torch.distributed.is_initialized():  # the next job of a sweep must not take this one's group
            torch.distributed.destroy_process_group()
        torch.set_num_threads(threads_before)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})


@contextmanager
def _with_others(
    processes: int, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Iterator[None]:
    """The other ranks, from their beginning to their end; the block begins when all of them are ready."""
    ranks: list[Rank] = []
    over = threading.Event()
    try:
        for rank in range(1, processes):  # a machine may have no room for another process
            ranks.append(_start(rank, threads, function, arguments))
        os.environ["LOCAL_RANK"] = "0"
        threading.Thread(target=_end_with, args=(ranks, over), daemon=True).start()
        for begun in ranks:  # rank 0 would wait half an hour for one that fails before there is a group
            if failure := _said(*begun):
                raise RankError(failure)
        yield
        for process, _ in ranks:
            process.join(ALONE_SECONDS)
    except RankError:
        raise
    except Exception as error:
        if failure := _failure(ranks):
            raise RankError(failure) from error
        raise
    finally:
        over.set()
        for process, _ in ranks:
            process.kill()
            process.join()


def _start(rank: int, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Rank:
    os.environ["LOCAL_RANK"] = str(rank)  # Lightning reads it as it is imported
    context = multiprocessing.get_context("spawn")
    tells, told = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(told, threads, function, arguments), name=f"rank {rank}")
    process.start()
    told.close()
    return process, tells


def _run(told: Connection, threads: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """One of the other ranks, from its beginning to its end."""
    global _to_rank_0
    _to_rank_0 = told
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


def _said(process: SpawnProcess, tells: Connection) -> str:
    """Why a rank has failed, when it says its next word or has ended; empty where it is ready, or has ended well.

    The pipe alone does not tell of an end: a worker of the rank's DataLoader holds it open a while longer.
    """
    while True:
        code = process.exitcode  # asked before the pipe, which keeps the last word of a rank that has ended
        with suppress(EOFError):
            if tells.poll():
                word = tells.recv()
                return word and f"{process.name} failed: {word}"
        if code is not None:
            ended = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            return f"{process.name} {ended}" if code else ""
        time.sleep(0.01)


def _failure(ranks: list[Rank]) -> str | None:
    """What the first rank that failed said; None where rank 0 itself was the first."""
    until = time.monotonic() + 2  # a group breaks a moment before a process has ended
    while time.monotonic() < until:
        for process, tells in ranks:
            if (process.exitcode is not None or tells.poll()) and (failure := _said(process, tells)):
                return failure
        time.sleep(0.01)
    return None


def _end_with(ranks: list[Rank], over: threading.Event) -> None:
    """A collective operation may wait for ever for a rank that is gone, where no exception reaches it: end rank 0."""
    while not any(process.exitcode for process, _ in ranks):
        if over.wait(1):
            return
    if over.wait(ALONE_SECONDS):
        return
    print(f"RankError: {_failure(ranks)}. Rank 0 still waits for it, and is ended.", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    if not over.wait(END_SECONDS):
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
