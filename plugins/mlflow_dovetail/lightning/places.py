"""Where a training's run is recorded: known to rank 0, told to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.lightning.logger import DovetailLogger
from mlflow_dovetail.run import Run
from mlflow_dovetail.run.tracked import log
from mlflow_dovetail.run.training_speed import RunPlace

if TYPE_CHECKING:
    from pytorch_lightning import Trainer


def runs_of(trainer: Trainer) -> list[Run]:
    """The runs of a Trainer's own `DovetailLogger`s, opened where they are not yet; on rank 0 only."""
    runs = []
    for logger in trainer.loggers:
        if isinstance(logger, DovetailLogger):
            try:
                runs.append(logger.run)
            except DovetailError as error:  # the logger itself tells it where it must
                log.warning("Not all of this run is recorded. %s", error)
    return runs


def share_place(trainer: Trainer, runs: list[Run]) -> RunPlace | None:
    """Where the first of rank 0's runs is; every rank has to call it, and gets the same.

    Args:
        runs: Of rank 0; what other ranks give does not count.
    """
    place = RunPlace.of(runs[0]) if runs else None
    if trainer.world_size == 1:
        return place
    shared: RunPlace | None = trainer.strategy.broadcast(place, src=0)
    return shared
