"""Lightning's MLFlowLogger, over the project's store."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
import warnings
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]  # not in its __all__
from pytorch_lightning.utilities import rank_zero_only

from mlflow_dovetail import names, redact, store
from mlflow_dovetail.errors import DovetailError, is_interrupt
from mlflow_dovetail.lightning import values
from mlflow_dovetail.lightning.torch_model import log_torch_model
from mlflow_dovetail.records import DatasetInput, RunStatus

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pytorch_lightning.callbacks import ModelCheckpoint
    from torch import Tensor, nn


class DovetailLogger(MLFlowLogger):
    """Log a Lightning run to MLflow, in the store of the project.

    It takes MLFlowLogger's arguments and differs in this: the address is read when a logger is made, not when Lightning
    is imported; a relative one means the project; the database and the experiment are made once, under a lock; params
    are whole; a resumed run is RUNNING again; and the best and the last checkpoint lie under `checkpoints/`.

    As a context manager it also sees what fails before and after the training: the run is then FAILED, or KILLED after
    Ctrl-C.

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
        run_id: Append to this run.
        synchronous: As MLFlowLogger has it.
        notes: The run's description, markdown (`mlflow.note.content`).

    Raises:
        StoreUnavailable: The address cannot be used, or nothing answers there.
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
        uri = store.resolve_uri(tracking_uri)
        # First: making a client migrates a fresh database, and two processes that do so at once break it.
        self._store = store.open(uri, None if run_id else experiment_name, artifact_location)
        super().__init__(
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=uri,
            tags={**(tags or {}), **({names.TAG_MLFLOW_NOTE: notes} if notes else {})},
            save_dir=save_dir,
            log_model=log_model,
            prefix=prefix,
            artifact_location=artifact_location,
            run_id=run_id,
            synchronous=synchronous,
        )
        self._checkpoint_callbacks: list[ModelCheckpoint] = []
        self._uploaded: dict[str, tuple[str, float]] = {}

    @classmethod
    def from_link(cls, directory: str | Path) -> DovetailLogger:
        """A logger that appends to the run that `mlflow_run.json` in `directory` names.

        Raises:
            StoreUnavailable: The store that the file names does not answer.
            RunNotFound: It has no such run.
        """
        link = json.loads((Path(directory) / names.RUN_LINK_FILE).read_text(encoding="utf-8"))
        given = os.environ.get(names.ENV_TRACKING_URI, "")
        # The file holds no password; the environment may have the same address with one.
        uri = given if redact.strip_url_credentials(given) == link["store"] else link["store"]
        with store.open(uri) as runs:
            runs.get_run(link["run_id"])
        return cls(tracking_uri=uri, run_id=link["run_id"], log_model=False)

    @property
    @rank_zero_experiment
    def experiment(self) -> MlflowClient:
        """MLflow's client, with the run created or found on first use."""
        if not self._initialized:
            self._open()
            self._initialized = True
        return self._mlflow_client

    @property
    def token(self) -> str | None:
        """The run's token: 32 hex digits that name it in every store."""
        return self._store.get_run(str(self.run_id)).token

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Log nested values as params, whole up to MLflow's 6,000 characters, secrets masked."""
        given = vars(params) if isinstance(params, Namespace) else params
        self._store.log_params(str(self.run_id), values.flatten(given))

    @rank_zero_only
    def log_config(self, config: Mapping[str, Any]) -> None:
        """Log a resolved configuration: its values as params, the whole as the artifact `config/config.yaml`."""
        import yaml

        self.log_hyperparams(dict(config))
        text = yaml.safe_dump(redact.mask_mapping(dict(config)), sort_keys=False, allow_unicode=True)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "config.yaml"
            path.write_text(text, encoding="utf-8")
            self._store.log_artifact(str(self.run_id), path, names.ARTIFACT_CONFIG)

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
        data = DatasetInput(name, digest or _md5(Path(path)), (store.project_root() / path).as_uri(), context)
        self._store.log_inputs(str(self.run_id), [data])

    @rank_zero_only
    def log_torch_model(self, network: nn.Module, example: Tensor, *, registered_name: str | None = None) -> str | None:
        """Log a network as the run's MLflow model; see `log_torch_model` of this package.

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
            self._store.set_tags(run_id, {f"{names.TAG_STATUS_PREFIX}model": f"degraded: {cause}"})
            warnings.warn(f"The model is not in MLflow, its checkpoint is: {cause}", stacklevel=3)
            return None

    @rank_zero_only
    def write_link(self, directory: str | Path) -> Path:
        """Write `mlflow_run.json`, the file by which DVC and every later stage know the run.

        The address of a database in the project is relative to it, as the file is committed and cloned.
        """
        path = Path(directory) / names.RUN_LINK_FILE
        root = f"sqlite:///{store.project_root().as_posix()}/"
        uri = redact.strip_url_credentials(str(self._tracking_uri)).replace(root, "sqlite:///")
        link = {"run_id": self.run_id, "store": uri, "token": self.token}
        path.write_text(json.dumps(link, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return path

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Remember whose checkpoints to upload at the end; with `log_model="all"`, upload at once."""
        if self._log_model and checkpoint_callback not in self._checkpoint_callbacks:
            self._checkpoint_callbacks.append(checkpoint_callback)
        if self._log_model == "all":
            self._scan_and_log_checkpoints(checkpoint_callback)

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Upload the checkpoints and end the run: KILLED when a person stopped it with Ctrl-C."""
        if not self._initialized:
            return
        try:
            # The one without a monitor last: it has the newest checkpoint, the other's `last` is from its best epoch.
            for callback in sorted(self._checkpoint_callbacks, key=lambda one: one.monitor is None):
                self._scan_and_log_checkpoints(callback)
        except DovetailError as error:
            warnings.warn(f"The checkpoints stay here and are not with the run: {error}", stacklevel=2)
        finally:
            ended = _failed(sys.exc_info()[1]) if status == "failed" else "FINISHED"
            self._store.set_status(str(self.run_id), ended)

    def __enter__(self) -> DovetailLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and self._initialized:
            self._store.set_status(str(self.run_id), _failed(error))

    def _open(self) -> None:
        if self._run_id is None:
            token = secrets.token_hex(16)
            self._run_id = self._store.create_run(token, name=self._run_name, tags=self._all_tags()).run_id
        else:
            self._store.set_status(self._run_id, "RUNNING")
        self._experiment_id = self._store.get_run(self._run_id).experiment_id

    def _all_tags(self) -> dict[str, str]:
        from mlflow.tracking.context.registry import resolve_tags

        resolved: dict[str, str] = resolve_tags({key: str(value) for key, value in (self.tags or {}).items()})
        return resolved

    def _scan_and_log_checkpoints(self, checkpoint_callback: ModelCheckpoint) -> None:
        """Store the best and the last checkpoint under names that stay, whatever the files are called here."""
        newest = checkpoint_callback.last_model_path
        if checkpoint_callback.monitor is None:
            kept = {"last.ckpt": newest or checkpoint_callback.best_model_path}
        else:
            kept = {"best.ckpt": checkpoint_callback.best_model_path, "last.ckpt": newest}
        if self._log_model == "all":
            kept |= {Path(path).name: path for path in checkpoint_callback.best_k_models}
        for name, source in kept.items():
            if source and Path(source).is_file():
                self._upload_checkpoint(name, Path(source))

    def _upload_checkpoint(self, name: str, source: Path) -> None:
        state = (str(source), source.stat().st_mtime)
        if self._uploaded.get(name) == state:
            return
        with tempfile.TemporaryDirectory() as directory:
            self._store.log_artifact(
                str(self.run_id), _same_file(source, Path(directory) / name), names.ARTIFACT_CHECKPOINTS
            )
        self._uploaded[name] = state


def _failed(error: BaseException | None) -> RunStatus:
    return "KILLED" if is_interrupt(error) else "FAILED"


def _same_file(source: Path, target: Path) -> Path:
    """`source` under another name: a link where the system allows it, else a copy."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copyfile(source, target)
    return target


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
