"""Lightning's MLFlowLogger, over the project's store."""

from __future__ import annotations

import hashlib
import json
import secrets
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.loggers.logger import rank_zero_experiment  # type: ignore[attr-defined]  # not in its __all__
from pytorch_lightning.utilities import rank_zero_only

from mlflow_dovetail import names, redact, store
from mlflow_dovetail.lightning import values
from mlflow_dovetail.lightning.torch_model import log_torch_model
from mlflow_dovetail.records import DatasetInput

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from pytorch_lightning.callbacks import ModelCheckpoint
    from torch import Tensor, nn


class DovetailLogger(MLFlowLogger):
    """Log a Lightning run to MLflow, in the store of the project.

    It takes MLFlowLogger's arguments and differs in this: the address is read when a logger is made, not when Lightning
    is imported; a relative one means the project; the database and the experiment are made once, under a lock; params
    are whole; a resumed run is RUNNING again; and the best and the last checkpoint lie under `checkpoints/`.

    Args:
        experiment_name: Made on first use, with an absolute artifact location.
        run_name: MLflow invents one when left out.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.
        tags: Of the run.
        save_dir: Not used; MLflow's filesystem store takes no new runs.
        log_model: Keep the best and the last checkpoint as artifacts.
        prefix: Before each metric's name, as MLFlowLogger has it.
        artifact_location: Not used: `mlartifacts/` beside the database, or the server's choice.
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
        self._store = store.open(uri, None if run_id else experiment_name)
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
    def log_dataset(self, path: str | Path, *, name: str, context: str) -> None:
        """Log a file that the run reads as an MLflow dataset.

        Its digest is the md5 that DVC knows it by. A relative path is kept as one of the project: the working directory
        of a queued experiment is gone afterwards.
        """
        data = DatasetInput(name, _md5(Path(path)), (store.project_root() / path).as_uri(), context)
        self._store.log_inputs(str(self.run_id), [data])

    @rank_zero_only
    def log_torch_model(self, network: nn.Module, example: Tensor, *, registered_name: str | None = None) -> str:
        """Log a network as the run's MLflow model; see `log_torch_model` of this package."""
        client = self.experiment
        return log_torch_model(client, client.get_run(str(self.run_id)), network, example, registered_name)

    @rank_zero_only
    def write_link(self, directory: str | Path) -> Path:
        """Write `mlflow_run.json`, the file by which DVC and every later stage know the run."""
        path = Path(directory) / names.RUN_LINK_FILE
        link = {
            "run_id": self.run_id,
            "store": redact.strip_url_credentials(str(self._tracking_uri)),
            "token": self.token,
        }
        path.write_text(json.dumps(link, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        return path

    @rank_zero_only
    def finalize(self, status: str = "success") -> None:
        """Upload the checkpoints and end the run."""
        if not self._initialized:
            return
        if self._checkpoint_callback:
            self._scan_and_log_checkpoints(self._checkpoint_callback)
        self._store.set_status(str(self.run_id), "FAILED" if status == "failed" else "FINISHED")

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
        kept = {"best.ckpt": checkpoint_callback.best_model_path, "last.ckpt": checkpoint_callback.last_model_path}
        with tempfile.TemporaryDirectory() as directory:
            for name, source in kept.items():
                if source and Path(source).is_file():
                    link = _same_file(Path(source), Path(directory) / name)
                    self._store.log_artifact(str(self.run_id), link, names.ARTIFACT_CHECKPOINTS)


def _same_file(source: Path, target: Path) -> Path:
    """`source` under another name: a link where the system allows it, else a copy."""
    import shutil

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
