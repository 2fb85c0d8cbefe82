"""How fast a training is, and where its time goes: waiting for data, computing, logging, validating."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import Callback

from mlflow_dovetail import names
from mlflow_dovetail.lightning import probes
from mlflow_dovetail.lightning.timeline import Spent, Timeline
from mlflow_dovetail.records import TrainingSpeed

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

log = logging.getLogger("mlflow_dovetail")

WINDOW_SECONDS = 5.0
KEEP_SECONDS = 30.0
_BYTES_PER_MEGABYTE = 1e6

FIELDS: Mapping[str, tuple[str, str]] = {
    "training_step_seconds": ("s", "mean of a step, from the end of one to the end of the next, without validation"),
    "training_data_seconds": ("s", "mean of a step: waiting for its batch, and for workers to start"),
    "training_compute_seconds": ("s", "mean of a step: all but data and logging, so callbacks and checkpoints too"),
    "training_logging_seconds": ("s", "mean of a step: in the Trainer's loggers"),
    "training_data_percentage": ("%", "waiting for data, of the time without validation"),
    "training_validation_percentage": ("%", "validation, of all the time"),
    "training_samples_per_second": ("1/s", "of all ranks, if each is as fast as rank 0; without validation"),
    "training_steps_per_second": ("1/s", "batches of one rank; without validation"),
    "training_gpu_memory_peak_megabytes": ("MB", "the most that tensors took at once, since the process began, rank 0"),
    "training_gpu_memory_reserved_peak_megabytes": ("MB", "the most that PyTorch took from the GPU, likewise"),
}
"""By key, without the prefix `system/`: unit and meaning. What is unknown is absent."""

Keep = Callable[[TrainingSpeed], object]
Log = Callable[[Mapping[str, float]], object]


class SpeedMeter(Callback):
    """Measure where a fit spends its time, on each rank, and never stop or slow it.

    A step lasts from the end of one to the end of the next; the first begins with the training, and the last ends with
    it: everything but validation is in some step. Waiting for data and logging are seen; compute is what is left: the
    step itself, the optimiser, callbacks, checkpoints, and loggers that are not called by Lightning in a loop over
    `trainer.loggers`.

    CUDA is not waited for. Kernels run on while Python goes ahead, so that their time is in compute wherever Python
    waits for them. A wait for data is true of the CPU: the GPU may meanwhile be busy with what was queued.

    Sanity checks, and what is no fit, are not measured. Each fit begins anew.

    Args:
        keep: Given the totals of this rank about every 30 s, and at the end, however it ends but for SIGKILL.
        log: Given metrics, see `FIELDS`, about every 5 s, and at the end; on global rank 0 only.
    """

    def __init__(self, keep: Keep, log: Log) -> None:
        self._keep = keep
        self._log = log
        self._fit: _Fit | None = None
        self.fault: str | None = None
        """Why the last fit is not measured to its end."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin."""
        self.fault = None
        self._fit = _Fit(trainer, self._keep, self._log)
        self._tell(lambda fit: fit.begin())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count a step."""
        self._tell(lambda fit: fit.step_ends(batch))

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is validation."""
        self._tell(lambda fit: fit.timeline.validation_begins())

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A long validation has windows too."""
        self._tell(lambda fit: fit.look())

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What follows is training."""
        self._tell(lambda fit: fit.timeline.validation_ends())

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All has gone well."""
        self._tell(lambda fit: fit.end())
        self._fit = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what there is; Lightning calls this for SIGTERM and SIGINT too."""
        self._tell(lambda fit: fit.end())
        self._fit = None

    def _tell(self, what: Callable[[_Fit], None]) -> None:
        if self._fit is None:
            return
        try:
            what(self._fit)
        except Exception as error:  # of a user's batch, loader or strategy: the training goes on
            self._fit.remove_probes()
            self._fit = None
            if os.environ.get(names.ENV_STRICT) == "1":
                raise
            self.fault = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            log.warning("The speed of this training is not measured any more. %s", self.fault)


class _Fit:
    """One fit of one Trainer, while it trains."""

    def __init__(self, trainer: Trainer, keep: Keep, log: Log) -> None:
        self.timeline = Timeline()
        self._trainer: Any = trainer  # whose `profiler` has no type
        self._keep = keep
        self._log = log
        self._logged = Spent()
        now = perf_counter()
        self._next_window = now + WINDOW_SECONDS
        self._next_keep = now + KEEP_SECONDS
        self._probe: probes.ProfilerProbe | None = None

    def begin(self) -> None:
        """Ask what does not change, and put the probes in."""
        trainer, timeline = self._trainer, self.timeline
        self._batch_size = probes.loader_batch_size(trainer.train_dataloader)
        self._workers = probes.loader_workers(trainer.train_dataloader)
        self._replicas = (trainer.distributed_sampler_kwargs or {"num_replicas": 1})["num_replicas"]
        fetch = f"[{type(trainer.fit_loop.epoch_loop).__name__}].train_dataloader_next"
        zero_grad = f"[LightningModule]{type(trainer.lightning_module).__name__}.on_validation_model_zero_grad"
        begins = {
            "run_training_epoch": timeline.epoch_begins,
            fetch: timeline.wait_begins,
            "run_training_batch": timeline.step_begins,
            zero_grad: timeline.validation_begins,
        }
        self._probe = probes.ProfilerProbe(trainer.profiler, begins, {fetch: timeline.wait_ends})
        trainer.profiler = self._probe
        trainer.loggers = probes.TimedLoggers(trainer.loggers, timeline.logged)

    def step_ends(self, batch: Any) -> None:
        """A batch was trained on."""
        self.timeline.step_ends(self._samples(batch))
        self.look()

    def look(self) -> None:
        """Whether a window is over."""
        now = perf_counter()
        if now >= self._next_window:
            self._close_window(now)
            if now >= self._next_keep:
                self._keep_totals()

    def end(self) -> None:
        """The last window, and the totals."""
        self.remove_probes()
        self._close_window(perf_counter())
        self._keep_totals()

    def remove_probes(self) -> None:
        """The Trainer is as it was; what somebody has changed in it since stays."""
        if self._probe and self._trainer.profiler is self._probe:
            self._trainer.profiler = self._probe.given
        if isinstance(self._trainer.loggers, probes.TimedLoggers):
            self._trainer.loggers = list(self._trainer.loggers)

    def _samples(self, batch: Any) -> int | None:
        """A DataLoader knows: a batch of images of many sizes, or of graphs, does not begin with its samples."""
        if self._batch_size is None:
            return probes.batch_samples(batch)
        if not self._trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            return self._batch_size
        return min(self._batch_size, probes.batch_samples(batch) or self._batch_size)

    def _close_window(self, now: float) -> None:
        spent = self.timeline.read(now)
        window, self._logged = spent - self._logged, spent
        self._next_window = now + WINDOW_SECONDS
        if self._trainer.is_global_zero:
            values = window_values(window, self._replicas, is_data_known=spent.fetches > 0)
            self._log(values | peak_memory(self._trainer.strategy.root_device))

    def _keep_totals(self) -> None:
        self._next_keep = perf_counter() + KEEP_SECONDS
        spent = self._logged
        if not spent.fetches:  # this Lightning does not tell its profiler when it waits for data
            return
        self._keep(
            TrainingSpeed(
                rank=self._trainer.global_rank,
                steps=spent.steps,
                samples=None if spent.unsized else spent.samples,
                step_seconds=spent.training,
                data_seconds=spent.data,
                logging_seconds=spent.logging,
                validation_seconds=spent.validation,
                data_workers=self._workers,
            )
        )


def window_values(spent: Spent, replicas: int, *, is_data_known: bool) -> dict[str, float]:
    """The metrics of a window, but for memory.

    Args:
        spent: In the window.
        replicas: How many ranks train on data of their own.
        is_data_known: Whether Lightning tells when it waits for a batch.
    """
    values = {"training_validation_percentage": 100 * spent.validation / spent.wall}
    if not spent.steps or spent.training <= 0:
        return values
    values["training_step_seconds"] = spent.training / spent.steps
    values["training_logging_seconds"] = spent.logging / spent.steps
    values["training_steps_per_second"] = spent.steps / spent.training
    if is_data_known:
        values["training_data_seconds"] = spent.data / spent.steps
        values["training_compute_seconds"] = (spent.training - spent.data - spent.logging) / spent.steps
        values["training_data_percentage"] = 100 * spent.data / spent.training
    if not spent.unsized:
        values["training_samples_per_second"] = replicas * spent.samples / spent.training
    return values


def peak_memory(device: torch.device) -> dict[str, float]:
    """The metrics of a CUDA device's memory since the process began; none where CUDA was never used."""
    if device.type != "cuda" or not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return {}
    return {
        "training_gpu_memory_peak_megabytes": torch.cuda.max_memory_allocated(device) / _BYTES_PER_MEGABYTE,
        "training_gpu_memory_reserved_peak_megabytes": torch.cuda.max_memory_reserved(device) / _BYTES_PER_MEGABYTE,
    }
