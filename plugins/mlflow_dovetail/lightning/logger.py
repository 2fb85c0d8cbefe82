"""Lightning's MLFlowLogger, through a run that never waits for its store."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from argparse import Namespace
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import Logger, rank_zero_experiment  # type: ignore[attr-defined]  # not in its __all__
from pytorch_lightning.utilities import rank_zero_only

from mlflow_dovetail import names, redact, store
from mlflow_dovetail.errors import StoreUnavailable
from mlflow_dovetail.lightning.checkpoints import Checkpoints
from mlflow_dovetail.lightning.torch_model import log_torch_model
from mlflow_dovetail.records import DatasetInput
from mlflow_dovetail.run import Run
from mlflow_dovetail.run.endings import verdict
from mlflow_dovetail.run.opening import open_known, open_new
from mlflow_dovetail.run.settings import is_offline

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pytorch_lightning.callbacks import ModelCheckpoint
    from torch import Tensor, nn


class DovetailLogger(MLFlowLogger):
    """Log a Lightning run to MLflow so that nothing is lost and the training never waits.

    It takes MLFlowLogger's arguments. Values go to the run's journal, and a recorder process beside the training brings
    them to the store; when that does not answer, they go there later. Checkpoints are uploaded while training goes on:
    `checkpoints/best.ckpt` and `last.ckpt` are true at any moment. The status tells how the run ended: FINISHED,
    FAILED, or KILLED by SIGINT or SIGTERM. Params are whole.

    As a context manager it also sees what fails before and after the training.

    Args:
        experiment_name: Made on first use, with an absolute artifact location.
        run_name: MLflow invents one when left out.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.
        tags: Of the run.
        save_dir: Not used: MLflow's filesystem store takes no new runs.
        log_model: True keeps the best and the last checkpoint as artifacts, "all" every one that Lightning keeps.
        prefix: Before each metric's name, as MLFlowLogger has it.
        artifact_location: Of an experiment that is made now; when left out, `mlartifacts/` beside the database, or the
            server's choice.
        run_id: Resume this run: steps that it has already are not doubled, see `mlflow_dovetail.start_run`.
        synchronous: Not used: nothing here waits.
        notes: The run's description, markdown (`mlflow.note.content`).

    Raises:
        StoreUnavailable: The address cannot be used.
        StoreRefused: The experiment has been deleted from a local database.
    """

    def __init__(
        self,
        experiment_name: str = "lightning_logs",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        tags: Mapping[str, Any] | None = None,
        save_dir: str | None = None,
        log_model: Literal[True, False, "all"] = True,
        prefix: str = "",
        artifact_location: str | None = None,
        run_id: str | None = None,
        synchronous: bool | None = None,
        *,
        notes: str | None = None,
    ) -> None:
        # MLFlowLogger's own would make a client, which opens the store, also when it is not there.
        Logger.__init__(self)
        self._tracking_uri = store.resolve_uri(tracking_uri)
        self._experiment_name = experiment_name
        self._run_name = run_name
        self._artifact_location = artifact_location
        self._log_model = log_model
        self._prefix = prefix
        self._given_run_id = run_id
        self.tags = {**(tags or {}), **({names.TAG_MLFLOW_NOTE: notes} if notes else {})}
        self._checkpoints = Checkpoints(keeps_all=log_model == "all")
        self._run: Run | None = None
        self._is_block = False
        if self._tracking_uri.startswith("sqlite:") and not is_offline():
            with suppress(StoreUnavailable):  # a damaged database is told when the run begins, which is then kept here
                store.open(self._tracking_uri, None if run_id else experiment_name, artifact_location).close()

    @classmethod
    def from_link(cls, directory: str | Path) -> DovetailLogger:
        """A logger that goes on with the run that `mlflow_run.json` in `directory` names: it ends as this ends.

        Raises:
            StoreUnavailable: The file names a local database that is not there.
            RunNotFound: The store has no such run.
        """
        link = json.loads((Path(directory) / names.RUN_LINK_FILE).read_text(encoding="utf-8"))
        given = os.environ.get(names.ENV_TRACKING_URI, "")
        # The file holds no password; the environment may have the same address with one.
        uri = given if redact.strip_url_credentials(given) == link["store"] else link["store"]
        resolved = store.resolve_uri(uri)
        if resolved.startswith("sqlite:") and not is_offline():
            store.open(resolved).close()
        run = Run(open_known(resolved, link["run_id"], "create"))
        logger = cls(tracking_uri=resolved, run_id=run.run_id, log_model=False)
        logger._run = run
        return logger

    @property
    def run(self) -> Run:
        """The run, created or found on first use; on rank 0 only."""
        if self._run is None:
            self._run = Run(self._opening())
        elif self._run.is_closed:  # a test after a fit
            self._run = Run(open_known(self._tracking_uri, self._run.run_id, "create"))
        return self._run

    @property
    def _known_run(self) -> Run:
        """The run, also when it is closed: asking for its name does not open it again."""
        return self._run or self.run

    @property
    @rank_zero_experiment
    def experiment(self) -> MlflowClient:
        """MLflow's client. What is logged to the run through it goes to the journal; offline, reading raises."""
        known = self._known_run
        return (self.run if known.is_offline else known).client  # a question to the store opens no closed run again

    @property
    def run_id(self) -> str | None:
        """MLflow's id, or the run's token while no store has answered; None on other ranks than 0."""
        return self._known_run.run_id if _is_rank_zero() else None

    @property
    def token(self) -> str | None:
        """The run's token: 32 hex digits that name it in every store; None on other ranks than 0."""
        return self._known_run.token if _is_rank_zero() else None

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment; its name while no store has answered; None on other ranks than 0."""
        if not _is_rank_zero():
            return None
        return self._known_run.experiment_id or self._experiment_name

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the values of one step: a few microseconds, and kept from then on."""
        if self._prefix:
            metrics = {f"{self._prefix}{self.LOGGER_JOIN_CHAR}{key}": value for key, value in metrics.items()}
        self.run.log_metrics(metrics, step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log nested values as params, whole up to MLflow's 6,000 characters, secrets masked."""
        self.run.log_params(vars(params) if isinstance(params, Namespace) else params)

    @rank_zero_only
    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log a configuration, see `Run.log_config`; give Hydra's own, so that `${oc.env:...}` stays unresolved."""
        self.run.log_config(config)

    @rank_zero_only
    def log_dataset(self, path: str | Path, *, name: str, context: str, digest: str | None = None) -> None:
        """Log a file that the run reads as an MLflow dataset.

        A relative path is kept as one of the project: the working directory of a queued experiment is gone afterwards.

        Args:
            path: Of the file.
            name: What the data is called.
            context: What it is read for, such as "training".
            digest: What DVC knows it by; the file's md5 when left out.
        """
        source = (store.project_root() / path).as_uri()
        self.run.log_input(DatasetInput(name, digest or _md5(Path(path)), source, context))

    @rank_zero_only
    def log_torch_model(self, network: nn.Module, example: Tensor, *, registered_name: str | None = None) -> str | None:
        """Log a network as the run's MLflow model; see `log_torch_model` of this package. It needs the store.

        A network that cannot be exported costs no training: it is a warning and the tag `dovetail.status.model`, and an
        error only where the model is to be registered.

        Returns:
            The model's id, or None where it could not be exported.
        """
        client, run_id = self.experiment, str(self.run_id)
        try:
            return log_torch_model(client, client.get_run(run_id), network, example, registered_name)
        except Exception as error:  # torch.export raises what the user's network raises
            if registered_name or os.environ.get(names.ENV_STRICT) == "1":
                raise
            cause = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self.run.set_tags({f"{names.TAG_STATUS_PREFIX}model": f"degraded: {cause}"})
            warnings.warn(f"The model is not in MLflow, its checkpoint is: {cause}", stacklevel=3)
            return None

    @rank_zero_only
    def write_link(self, directory: str | Path) -> Path:
        """Write `mlflow_run.json`, by which DVC and every later stage know the run; see `Run.write_link`."""
        return self.run.write_link(directory)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Keep the checkpoints that are the best and the last now, in no time; the recorder uploads them."""
        if self._log_model:
            self._checkpoints.keep(checkpoint_callback, self.run)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Say how the run ended, and wait 10 s at most until the store has it."""
        if self._run is None or self._run.is_closed:
            return
        error = sys.exc_info()[1] if status == "failed" else None
        if error is not None:
            self._run.fail(error)
        else:
            self._run.end("FAILED" if status == "failed" else "FINISHED")
        if not self._is_block:
            self._run.close()

    def __enter__(self) -> DovetailLogger:
        self._is_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_block = False
        if self._run is None or self._run.is_closed:
            return
        if verdict(error)[0] != "FINISHED":
            self._run.say_ending(error)
        self._run.close()

    def __getstate__(self) -> dict[str, Any]:
        """For a process of its own, as `ddp_spawn` makes them: it opens the same run again."""
        return {**self.__dict__, "_run": None, "_given_run_id": self._run.token if self._run else self._given_run_id}

    def _opening(self) -> Any:
        if self._given_run_id:
            return open_known(self._tracking_uri, self._given_run_id, "resume")
        from mlflow.tracking.context.registry import resolve_tags

        tags = resolve_tags({key: redact.mask_text(str(value)) for key, value in (self.tags or {}).items()})
        return open_new(self._tracking_uri, self._experiment_name, self._artifact_location, self._run_name, tags)


def _is_rank_zero() -> bool:
    return getattr(rank_zero_only, "rank", 0) == 0


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
