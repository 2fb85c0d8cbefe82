"""What a model says of each example, as tables of its run."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.utils.data import DistributedSampler

from mlflow_dovetail import names
from mlflow_dovetail.lightning.places import Places, runs_of
from mlflow_dovetail.lightning.step_columns import columns_of, content_ids, inputs_of, says_one_score
from mlflow_dovetail.prediction_tables import Class, NamedImages, Policy, Probabilities, TableWriter
from mlflow_dovetail.run import Run
from mlflow_dovetail.run.open_tables import OpenTables
from mlflow_dovetail.run.other_host import HostWatch
from mlflow_dovetail.run.tracked import log
from mlflow_dovetail.run_folder import RunFolder

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer


class PredictionTables(Callback):
    """Keep every example of validation, test and predict, with what the model said of it, in the tables `val`, `test`
    and `predict` of the run; see `Run.table`.

    A step says it by what it returns: a dictionary with any of `prediction`, `probabilities`, `scores` (before the
    softmax), `loss` (one an example) and further columns, each with one value an example; or scores alone, (n,
    classes). Input and label are the batch's: `(input, label)`, or a dictionary with `image` or `text`, `label` and
    `id`. Without an `id` an example is known by the content of its input, so that it is the same one in any order,
    split and run. An array of two or three axes an example is shown as an image: floats from 0 to 1 or bytes as they
    are, integers as a mask with a colour a class; scores of (n, classes, height, width) are such a mask.
    One score an example or a point, before the sigmoid, tells two classes; a label of floats is then class 1 above 0.5.

    `epoch` and `step` are the Trainer's, and outside a fit those of the checkpoint that it has loaded. They are 0 where
    a new Trainer was given a module with its weights, or a checkpoint of weights alone.

    It needs a `DovetailLogger`, and never stops a training.

    Args:
        classes: Names of the classes 0, 1, ...
        every_n_epochs: Of validation; the last epoch of another rhythm is then missing.
        policy: Which rows are kept; all when left out.
        columns: What columns hold that cannot be told from their values, such as `{"region": Class(names)}`.
    """

    def __init__(
        self,
        classes: Sequence[str] | None = None,
        every_n_epochs: int = 1,
        policy: Policy | None = None,
        columns: Mapping[str, Any] | None = None,
    ) -> None:
        self._kinds = {**(_kinds_of(list(classes)) if classes else {}), **(columns or {})}
        self._every_n_epochs = every_n_epochs
        self._policy = policy
        self._places = Places("tables")
        self._named = NamedImages(content_ids)
        self._run: Run | None = None
        self._tables: OpenTables | None = None
        self._loaded: dict[str, int] | None = None
        self._is_off = False

    def __getstate__(self) -> dict[str, Any]:
        """Of a copy in another process, which keeps nothing."""
        forgotten = {"_run": None, "_tables": None, "_named": NamedImages(content_ids)}
        return {**self.__dict__, **forgotten, "_is_off": True}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the run, on every rank."""
        self._loaded = None  # Lightning loads a checkpoint after this
        runs = runs_of(trainer) if trainer.is_global_zero else []
        place = self._places.share(trainer, runs)
        self._run = runs[0] if runs else None
        if self._run is None and place is not None:
            # Another machine adds to the run from a folder of its own, which its first rank has made by the first row.
            folder = RunFolder(Path(place.folder)) if place.is_here else HostWatch.folder_of(place)
            self._tables = OpenTables(folder, f"rank-{trainer.global_rank:04d}")
        self._is_off = self._run is None and self._tables is None
        if self._is_off:
            log.warning("No predictions are kept: they need a DovetailLogger.")
        if self._run is not None and self._run.is_offline and trainer.num_nodes > 1:
            why = "degraded: the rows of other machines are not kept: the run is offline"
            self._run.set_tags({f"{names.TAG_STATUS_PREFIX}predictions": why})

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """What is evaluated: outside a fit the Trainer of a new process counts from 0, whatever it has loaded."""
        if trainer.state.fn != "fit":
            # One that a user wrote has what they put into it.
            self._loaded = {"epoch": checkpoint.get("epoch", 0), "step": checkpoint.get("global_step", 0)}

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close what other ranks have; the run closes its own."""
        if self._tables is not None:
            self._tables.close()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch of `val`."""
        # As Lightning counts `check_val_every_n_epoch`; outside a fit there is no rhythm.
        is_due = trainer.state.fn != "fit" or (trainer.current_epoch + 1) % self._every_n_epochs == 0
        if is_due and not trainer.sanity_checking:
            self._keep("val", trainer, outputs, batch, (batch_idx, dataloader_idx))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch of `test`."""
        self._keep("test", trainer, outputs, batch, (batch_idx, dataloader_idx))

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch of `predict`."""
        self._keep("predict", trainer, outputs, batch, (batch_idx, dataloader_idx))

    def _keep(self, name: str, trainer: Trainer, outputs: Any, batch: Any, place: tuple[int, int]) -> None:
        if self._is_off:
            return
        batch_idx, dataloader_idx = place
        try:
            said = columns_of(outputs)
            if said is None:
                self._is_off = True
                log.warning("No predictions are kept: %s_step returns none. See PredictionTables.", name)
                return
            prints: dict[str, Sequence[Hashable]] = {}
            inputs = inputs_of(batch, partial(self._name, prints), is_one_score=says_one_score(outputs))
            columns = {**inputs, **said}
            if "image" in said:
                prints.clear()  # which are of the batch's
            count = len(next(iter(said.values())))
            keep = _unpadded(trainer, batch_idx, dataloader_idx, count)
            if keep is not None:
                columns = {key: _taken(values, keep) for key, values in columns.items()}
                prints = {key: _taken(values, keep) for key, values in prints.items()}
            told = self._loaded or {"epoch": trainer.current_epoch, "step": trainer.global_step}
            table = self._table(name if not dataloader_idx else f"{name}-{dataloader_idx}", columns)
            table.append({**columns, **told}, prints=prints)
        except Exception as error:  # of a user's batch or module: the training goes on
            self._is_off = True
            if os.environ.get(names.ENV_STRICT) == "1":
                raise
            log.warning("No more predictions are kept. %s: %s", type(error).__name__, error)
            cause = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            if self._run is not None:
                self._run.set_tags({f"{names.TAG_STATUS_PREFIX}predictions": f"degraded: {cause}"})
            elif self._tables is not None:
                self._tables.trouble(cause)

    def _name(self, prints: dict[str, Sequence[Hashable]], content: Any) -> list[str]:
        """Names by content; of images that come again, as in every validation, without another look.

        Their prints are left in `prints`, so that the table does not take them too.
        """
        if not (isinstance(content, Tensor) and content.ndim in (3, 4)):
            return content_ids(content)
        found = self._named.look(content)
        prints["image"] = found.prints
        return found.names

    def _table(self, name: str, columns: Mapping[str, Any]) -> TableWriter:
        kinds = {key: kind for key, kind in self._kinds.items() if key in columns}
        for key in ("label", "prediction"):
            if isinstance(kinds.get(key), Class) and getattr(columns[key], "ndim", 1) > 1:
                del kinds[key]  # the classes of a mask's points
        if self._run is not None:
            return self._run.table(name, kinds, self._policy)
        assert self._tables is not None
        return self._tables.get(name, kinds, self._policy)


def _kinds_of(classes: list[str]) -> dict[str, Any]:
    return {"label": Class(classes), "prediction": Class(classes), "probabilities": Probabilities(classes)}


def _unpadded(trainer: Trainer, batch_idx: int, dataloader_idx: int, count: int) -> list[int] | None:
    """Which rows are no padding: a DistributedSampler repeats examples so that each rank has as many; None for all."""
    if trainer.world_size == 1:
        return None
    loop: Any = trainer._active_loop  # `val_dataloaders` are those of the fit, also in a `validate` after it
    loader = loop._combined_loader.flattened[dataloader_idx]
    sampler, batch_size = getattr(loader, "sampler", None), getattr(loader.batch_sampler, "batch_size", None)
    if not isinstance(sampler, DistributedSampler) or sampler.drop_last or batch_size is None:
        return None
    total, ranks = len(sampler.dataset), sampler.num_replicas  # type: ignore[arg-type]
    first = batch_idx * batch_size
    kept = [row for row in range(count) if (first + row) * ranks + sampler.rank < total]
    return kept if len(kept) < count else None


def _taken(values: Any, rows: Sequence[int]) -> Any:
    return values[list(rows)] if isinstance(values, Tensor) else [values[row] for row in rows]
