"""What Lightning loads by itself, so that a run with its own MLFlowLogger is recorded too, with no code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import MLFlowLogger

from mlflow_dovetail import store
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.lightning.logger import DovetailLogger
from mlflow_dovetail.run import Run
from mlflow_dovetail.run.endings import SIGTERM_EXIT_CODE
from mlflow_dovetail.run.opening import open_known
from mlflow_dovetail.run.tracked import log

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class DovetailCallback(Callback):
    """Record a run that Lightning's own MLFlowLogger has created: console, environment, and its true end.

    Every Trainer has one (entry point `pytorch_lightning.callbacks_factory`). It does nothing where there is no
    MLFlowLogger, leaves a `DovetailLogger` to itself, and never stops a training. With either, SIGTERM exits with 143.
    """

    def __init__(self) -> None:
        self._runs: list[Run] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the runs."""
        if self._runs or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            if isinstance(logger, MLFlowLogger) and not isinstance(logger, DovetailLogger):
                try:
                    uri = store.resolve_uri(logger._tracking_uri)
                    self._runs.append(Run(open_known(uri, str(logger.run_id), "create")))
                except DovetailError as error:
                    log.warning("This run is logged by Lightning alone. %s", error)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """All has gone well."""
        for run in self._runs:
            run.close()
        self._runs.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep how it ends; make the exit code of SIGTERM one that a scheduler understands.

        MLFlowLogger sets its status, FAILED, after this; the true one follows when the process exits.
        """
        if type(exception).__name__ == "SIGTERMException" and isinstance(exception, SystemExit):
            exception.code = SIGTERM_EXIT_CODE
        for run in self._runs:
            run.will_end_by(exception)
        self._runs.clear()
