"""The loggers that are compared, each opened in the way that its own documentation shows.

`python peers.py PEER` prints how many points the files in the working directory hold.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sqlite3
import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "bench/"

Values = Mapping[str, float]


def keep_nothing(values: Values, step: int) -> None:
    """What a step costs without a logger."""


def close_nothing() -> None:
    """There is nothing to write out."""


@dataclass(frozen=True)
class Session:
    """An open logger.

    Args:
        log: Takes a step's values, in the training thread.
        close: Ends the run as a user would, and returns when the user's program goes on.
    """

    log: Callable[[Values, int], object] = keep_nothing
    close: Callable[[], object] = close_nothing


@dataclass(frozen=True)
class Peer:
    """A logger to compare.

    Args:
        label: Its row's name.
        open: Starts a run; the tracking URI is in the environment, the files go to the working directory, and
            the experiment has that folder's name.
        store: "sqlite" or "http" where the points end in MLflow, else "".
        slow: It gets a fifth of the steps.
        needs: The module to look for, and what `pip install` gives it.
        helper: Another process writes the points, and they are all there when that one has ended.
        count: The points in the files of a folder; None where they are in MLflow's database.
    """

    label: str
    open: Callable[[], Session]
    store: str = ""
    slow: bool = False
    needs: tuple[str, str] = ("", "")
    helper: bool = False
    count: Callable[[Path], int] | None = None

    @property
    def installed(self) -> bool:
        return not self.needs[0] or importlib.util.find_spec(self.needs[0]) is not None


def open_dovetail_logger() -> Session:
    from mlflow_dovetail.lightning import DovetailLogger

    logger = DovetailLogger(Path.cwd().name)
    _ = logger.experiment
    return Session(logger.log_metrics, lambda: logger.finalize("success"))


def open_dovetail_run() -> Session:
    import mlflow_dovetail

    run = mlflow_dovetail.start_run(experiment_name=Path.cwd().name)
    run.__enter__()
    return Session(run.log_metrics, lambda: run.__exit__(None, None, None))


def open_mlflow_logger() -> Session:
    from pytorch_lightning.loggers import MLFlowLogger

    logger = MLFlowLogger(Path.cwd().name, tracking_uri=os.environ["MLFLOW_TRACKING_URI"])
    _ = logger.experiment
    return Session(logger.log_metrics, lambda: logger.finalize("success"))


def open_mlflow_async() -> Session:
    import mlflow

    mlflow.set_experiment(Path.cwd().name)
    mlflow.start_run()

    def close() -> None:
        mlflow.flush_async_logging()
        mlflow.end_run()

    return Session(lambda values, step: mlflow.log_metrics(values, step=step, synchronous=False), close)


def open_tensorboard() -> Session:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter("tensorboard")

    def log(values: Values, step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return Session(log, writer.close)


def open_wandb() -> Session:
    import wandb

    run = wandb.init(project="bench", mode="offline", dir=".")
    return Session(lambda values, step: run.log(values, step=step), run.finish)


def open_trackio() -> Session:
    import trackio

    run = trackio.init(project="bench")
    return Session(lambda values, step: run.log(values, step=step), run.finish)


def count_tensorboard(folder: Path) -> int:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    files = (folder / "tensorboard").iterdir()
    events = (event for file in files for event in EventFileLoader(str(file)).Load())
    return sum(value.tag.startswith(PREFIX) for event in events for value in event.summary.value)


def count_trackio(folder: Path) -> int:
    with sqlite3.connect(next(folder.glob("trackio_dir/*.db"))) as database:
        rows = database.execute("SELECT metrics FROM metrics").fetchall()
    return sum(name.startswith(PREFIX) for (metrics,) in rows for name in json.loads(metrics))


def count_wandb(folder: Path) -> int:
    from wandb.proto.wandb_internal_pb2 import Record

    records = (Record.FromString(blob) for blob in _read_leveldb_log(next(folder.glob("wandb/*/*.wandb"))))
    items = (item for record in records for item in record.history.item)
    return sum((item.key or ".".join(item.nested_key)).startswith(PREFIX) for item in items)


def _read_leveldb_log(path: Path) -> Iterator[bytes]:
    """A `.wandb` file's records: LevelDB's log format of 32 KiB blocks after a head of seven bytes."""
    data, position, parts = path.read_bytes(), 7, b""
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        size, kind = struct.unpack_from("<HB", data, position + 4)
        parts = (b"" if kind in (1, 2) else parts) + data[position + 7 : position + 7 + size]
        position += 7 + size
        if kind in (1, 4):
            yield parts


PEERS = {
    "none": Peer("no logger", Session),
    "dovetail-sqlite": Peer("DovetailLogger, sqlite", open_dovetail_logger, "sqlite", helper=True),
    "dovetail-http": Peer("DovetailLogger, http", open_dovetail_logger, "http", helper=True),
    "dovetail-run": Peer("start_run, sqlite", open_dovetail_run, "sqlite", helper=True),
    "mlflow-sqlite": Peer("MLFlowLogger, sqlite", open_mlflow_logger, "sqlite", slow=True),
    "mlflow-http": Peer("MLFlowLogger, http", open_mlflow_logger, "http", slow=True),
    "async-sqlite": Peer("MLflow async, sqlite", open_mlflow_async, "sqlite", slow=True),
    "async-http": Peer("MLflow async, http", open_mlflow_async, "http", slow=True),
    "tensorboard": Peer("TensorBoard", open_tensorboard, needs=("tensorboard", "tensorboard"), count=count_tensorboard),
    "wandb": Peer("W&B offline", open_wandb, needs=("wandb", "wandb"), count=count_wandb),
    "trackio": Peer("Trackio", open_trackio, needs=("trackio", "trackio"), count=count_trackio),
}


if __name__ == "__main__":
    print(PEERS[sys.argv[1]].count(Path.cwd()))
