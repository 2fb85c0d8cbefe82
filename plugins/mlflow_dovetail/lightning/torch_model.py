"""A PyTorch network as an MLflow model, without pickle and without MLflow's ambient run."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from torch import Tensor, nn


def log_torch_model(
    client: MlflowClient, run: Run, network: nn.Module, example: Tensor, registered_name: str | None
) -> str:
    """Export the network, store it as a model of the run, and register it where a name is given.

    Args:
        client: Of the store that holds the run.
        run: The run that made the network.
        network: On the CPU, in any mode; exported in evaluation mode.
        example: A batch of at least two that the network takes; its first dimension is left free.
        registered_name: In MLflow's model registry; a new version is added.

    Returns:
        The model's id, as in `models:/<id>`.

    Source:
        torch.export's `pt2` format, `mlflow.pytorch.save_model(serialization_format="pt2")`.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus

    model = client.create_logged_model(run.info.experiment_id, name="model", source_run_id=run.info.run_id)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        _save(network, example, path, model.model_id, run.info.run_id)
        client.log_model_artifacts(model.model_id, str(path))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    if registered_name:
        _register(client, registered_name, model.artifact_location, run.info.run_id, model.model_id)
    return str(model.model_id)


def _save(network: nn.Module, example: Tensor, path: Path, model_id: str, run_id: str) -> None:
    import mlflow.pytorch
    import torch
    from mlflow.models import Model, infer_signature

    network = network.eval()
    with torch.no_grad():
        signature = infer_signature(example.numpy(), network(example).numpy())
    with warnings.catch_warnings(), _quiet("mlflow"):
        warnings.simplefilter("ignore")  # torch.export's own, about its internals
        mlflow.pytorch.save_model(
            network,
            path,
            mlflow_model=Model(model_id=model_id, run_id=run_id),
            signature=signature,
            input_example=example.numpy(),
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
            serialization_format="pt2",
        )


class _quiet:
    """MLflow's advice while it saves, kept out of the training log."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._level = self._logger.level

    def __enter__(self) -> None:
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        self._logger.setLevel(self._level)


def _register(client: MlflowClient, name: str, source: str, run_id: str, model_id: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.create_model_version(name, source=source, run_id=run_id, model_id=model_id)
