"""Where a training's run is recorded: known to rank 0, told to the others."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.lightning.logger import DovetailLogger
from mlflow_dovetail.run import Run
from mlflow_dovetail.run.tracked import log
from mlflow_dovetail.run.training_speed import RunPlace

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

# Rank 0 opens its run meanwhile. A rank that waits in vain goes on without.
WAIT_SECONDS = 10.0


def runs_of(trainer: Trainer) -> list[Run]:
    """The runs of a Trainer's own `DovetailLogger`s, opened where they are not yet; on rank 0 only."""
    runs = []
    for logger in trainer.loggers:
        if isinstance(logger, DovetailLogger):
            try:
                runs.append(logger.run)
            except (DovetailError, OSError) as error:  # the logger itself tells it where it must
                log.warning("Not all of this run is recorded. %s", error)
    return runs


class Places:
    """Tells the other ranks where the run is, through the key-value store by which the ranks have found each other.

    It is no collective call: ranks of which some have no Dovetail, or another environment, do not wait for each other.

    Args:
        who: Which callback asks.
    """

    def __init__(self, who: str) -> None:
        self._who = who
        self._asked = 0

    def share(self, trainer: Trainer, runs: list[Run]) -> RunPlace | None:
        """Where the first of rank 0's runs is, as far as it can be told; each rank calls it once a setup.

        Args:
            runs: Of rank 0; what other ranks give does not count.
        """
        self._asked += 1
        place = _place_of(runs)
        if trainer.world_size == 1:
            return place
        store, key = _rendezvous(), f"dovetail/{self._who}/{self._asked}"
        if store is None:
            return place
        try:
            if trainer.is_global_zero:
                store.set(key, RunPlace.encode(place))
                return place
            store.wait([key], timedelta(seconds=WAIT_SECONDS))
            return RunPlace.decode(store.get(key))
        except RuntimeError as error:
            log.warning("This rank does not know the run of rank 0. %s", (str(error).splitlines() or [""])[0])
            return place


def _place_of(runs: list[Run]) -> RunPlace | None:
    try:
        return RunPlace.of(runs[0]) if runs else None
    except (DovetailError, OSError) as error:
        log.warning("Not all of this run is recorded. %s", error)
        return None


def _rendezvous() -> Any:
    """The store of torch's default process group; None where there is none."""
    try:
        from torch.distributed import distributed_c10d

        return distributed_c10d._get_default_store()
    except (ImportError, AttributeError, ValueError, RuntimeError):
        return None
