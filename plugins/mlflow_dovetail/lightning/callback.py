"""What Lightning loads by itself, so that a run with its own MLFlowLogger is recorded too, with no code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import MLFlowLogger

from mlflow_dovetail import store
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.lightning.logger import DovetailLogger
from mlflow_dovetail.lightning.places import Places, runs_of
from mlflow_dovetail.lightning.speed import SpeedMeter
from mlflow_dovetail.run import Run
from mlflow_dovetail.run.endings import SIGTERM_EXIT_CODE
from mlflow_dovetail.run.opening import open_known
from mlflow_dovetail.run.other_host import HostWatch
from mlflow_dovetail.run.settings import wants_system_metrics
from mlflow_dovetail.run.tracked import log
from mlflow_dovetail.run.training_speed import SpeedLog
from mlflow_dovetail.run_folder import RunFolder

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class DovetailCallback(Callback):
    """Record a run that Lightning's own MLFlowLogger has created: console, environment, and its true end.

    Every Trainer has one (entry point `pytorch_lightning.callbacks_factory`). It does nothing where there is no
    MLFlowLogger, leaves a `DovetailLogger` to itself, and never stops a training. With either, it measures where a
    fit's time goes, on every rank; the machines of the other ranks are sampled too; and SIGTERM exits with 143.
    """

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._measured: list[Run] = []
        self._places = Places("speed")
        self._meter: SpeedMeter | None = None
        self._watch: HostWatch | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy in another process, which records nothing of its own."""
        return {**self.__dict__, "_runs": [], "_measured": [], "_meter": None, "_watch": None}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the runs."""
        if trainer.is_global_zero and not self._runs:
            self._open_runs(trainer)
        if stage == "fit" and wants_system_metrics():
            self._measure(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to measure."""
        if self._meter is not None:
            self._meter.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step."""
        if self._meter is not None:
            self._meter.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is validation."""
        if self._meter is not None:
            self._meter.on_validation_start(trainer, pl_module)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A part of it."""
        if self._meter is not None:
            self._meter.on_validation_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is training."""
        if self._meter is not None:
            self._meter.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The totals are known."""
        if self._meter is not None:
            self._meter.on_train_end(trainer, pl_module)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """All has gone well."""
        for run in self._runs:
            run.close()
        self._forget()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep how it ends; make the exit code of SIGTERM one that a scheduler understands.

        MLFlowLogger sets its status, FAILED, after this; the true one follows when the process exits.
        """
        if type(exception).__name__ == "SIGTERMException" and isinstance(exception, SystemExit):
            exception.code = SIGTERM_EXIT_CODE
        if self._meter is not None:
            self._meter.on_exception(trainer, pl_module, exception)
        for run in self._runs:
            run.will_end_by(exception)
        self._forget()

    def _open_runs(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, MLFlowLogger) and not isinstance(logger, DovetailLogger):
                try:
                    uri = store.resolve_uri(logger._tracking_uri)
                    self._runs.append(Run(open_known(uri, str(logger.run_id), "create")))
                except (DovetailError, OSError) as error:
                    log.warning("This run is logged by Lightning alone. %s", error)

    def _measure(self, trainer: Trainer) -> None:
        """Every rank for itself, in the run of rank 0."""
        if trainer.is_global_zero:
            self._measured = [*self._runs, *runs_of(trainer)]
        place = self._places.share(trainer, self._measured)
        if place is None:
            return
        folder = RunFolder(Path(place.folder))
        if not place.is_here:
            self._watch = HostWatch.begin(place) if trainer.local_rank == 0 else None
            folder = HostWatch.folder_of(place)
        speeds = SpeedLog(folder, place.start_time_ms)
        if trainer.local_rank == 0:
            speeds.begin()
        self._meter = SpeedMeter(speeds.keep, lambda values: self._log(speeds, values))

    def _log(self, speeds: SpeedLog, values: Mapping[str, float]) -> None:
        for run in self._measured:
            speeds.log(run, values)

    def _forget(self) -> None:
        self._runs.clear()
        self._measured = []
        self._meter = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
