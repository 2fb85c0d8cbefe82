"""Where the time of real fits goes, against what they slept in truth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loops import _TrainingEpochLoop
from pytorch_lightning.profilers import PassThroughProfiler, SimpleProfiler
from torch.utils.data import DataLoader

from mlflow_dovetail.lightning import probes, speed
from mlflow_dovetail.lightning.speed import FIELDS, SpeedMeter
from mlflow_dovetail.records import TrainingSpeed

from .sleeping import Rows, SleepingLogger, SleepingModule, Sleeps, Stream, train

SCRIPT = Path(__file__).with_name("sleeping.py")
NAP = 0.05
SLACK = 0.5  # seconds of a fit that a busy machine may take where nobody sleeps


class Measured:
    """A meter, and all that it has told."""

    def __init__(self) -> None:
        self.kept: list[TrainingSpeed] = []
        self.logged: list[dict[str, float]] = []
        self.meter = SpeedMeter(self.kept.append, self.logged.append)

    @property
    def total(self) -> TrainingSpeed:
        return self.kept[-1]

    @property
    def parts(self) -> dict[str, float]:
        """Seconds by what they were spent on."""
        total = self.total
        compute = total.step_seconds - total.data_seconds - total.logging_seconds
        parts = {"data": total.data_seconds, "compute": compute, "logging": total.logging_seconds}
        return {**parts, "validation": total.validation_seconds}


@pytest.fixture
def measured(tmp_path, monkeypatch) -> Measured:
    monkeypatch.chdir(tmp_path)
    return Measured()


def holds(seconds: float, truth: float) -> bool:
    """Never less than was slept."""
    return truth <= seconds <= truth + SLACK


@pytest.mark.parametrize(
    ("place", "part", "times"),
    [
        ("data", "data", 12),
        ("data_iter", "data", 1),  # of the second epoch: the first one's is before the training
        ("training_step", "compute", 6),
        ("hook", "compute", 6),
        ("epoch_end", "compute", 2),
        ("logger", "logging", 6),
        ("validation_iter", "validation", 2),
        ("validation", "validation", 8),
        ("validation_step", "validation", 4),
        ("validation_logger", "validation", 2),
        ("sanity", "", 2),
    ],
)
def test_what_sleeps_is_what_has_the_time(measured, place, part, times):
    sleeps = Sleeps(**{place: 0.8 / times})
    train(measured.meter, sleeps, num_sanity_val_steps=2 if place == "sanity" else 0)
    slept = sleeps.slept(place, after=1 if place == "data_iter" else 0)
    assert slept >= 0.8
    for name, seconds in measured.parts.items():
        assert holds(seconds, slept if name == part else 0.0), (name, measured.parts)
    assert (measured.total.steps, measured.total.samples, measured.total.data_workers) == (6, 12, 0)


def test_the_metrics_of_a_fit_say_the_same_as_its_totals(measured):
    sleeps = Sleeps(data=NAP, training_step=NAP, logger=NAP, validation_step=NAP)
    train(measured.meter, sleeps)
    (values,), total = measured.logged, measured.total
    assert values == pytest.approx(
        {
            "training_step_seconds": total.step_seconds / 6,
            "training_data_seconds": total.data_seconds / 6,
            "training_compute_seconds": measured.parts["compute"] / 6,
            "training_logging_seconds": total.logging_seconds / 6,
            "training_data_percentage": 100 * total.data_seconds / total.step_seconds,
            "training_validation_percentage": 100
            * total.validation_seconds
            / (total.step_seconds + total.validation_seconds),
            "training_samples_per_second": 12 / total.step_seconds,
            "training_steps_per_second": 6 / total.step_seconds,
        }
    )
    assert values.keys() <= FIELDS.keys()


def test_a_long_fit_has_windows_and_totals_meanwhile(measured, monkeypatch):
    monkeypatch.setattr(speed, "WINDOW_SECONDS", 0.2)
    monkeypatch.setattr(speed, "KEEP_SECONDS", 0.6)
    train(measured.meter, Sleeps(training_step=NAP, validation_step=6 * NAP), max_epochs=4)
    assert 6 <= len(measured.logged) <= 20
    validating = [
        values for values in measured.logged if values["training_validation_percentage"] == pytest.approx(100)
    ]
    assert validating, "a validation that is longer than a window has windows of its own"
    assert all(values.keys() == {"training_validation_percentage"} for values in validating)
    assert len(measured.kept) > 2
    assert 0 < measured.kept[0].steps < measured.total.steps == 12
    assert measured.kept[0].validation_seconds < measured.kept[1].validation_seconds


def test_accumulation_counts_batches(measured):
    sleeps = Sleeps(training_step=NAP)
    trainer = train(measured.meter, sleeps, accumulate_grad_batches=3)
    assert trainer.global_step == 2
    assert measured.total.steps == 6
    assert holds(measured.parts["compute"], sleeps.slept("training_step"))


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
def test_a_step_that_fetches_its_batches_itself(measured):
    class Fetching(SleepingModule):
        def training_step(self, dataloader_iter):
            self.sleeps.at("training_step")
            batch, _, _ = next(dataloader_iter)
            return self.layer(batch).mean()

    sleeps = Sleeps(data=NAP, training_step=NAP)
    train(measured.meter, sleeps, module=Fetching(sleeps))
    assert holds(measured.parts["data"], sleeps.slept("data"))
    assert holds(measured.parts["compute"], sleeps.slept("training_step"))
    assert (measured.total.steps, measured.total.samples) == (6, 12)


def test_several_loaders_are_waited_for_together(measured):
    sleeps = Sleeps(data=NAP, other=NAP)
    loaders = {
        "a": DataLoader(Rows(sleeps, "data", 6), batch_size=3),
        "b": [DataLoader(Rows(sleeps, "other", 6), batch_size=2)],
    }
    train(measured.meter, sleeps, loader=loaders, max_epochs=1)
    assert holds(measured.parts["data"], sleeps.slept("data") + sleeps.slept("other"))
    assert (measured.total.steps, measured.total.samples, measured.total.data_workers) == (3, 9, 0)


def test_a_stream_without_a_length(measured):
    sleeps = Sleeps(data=NAP)
    train(measured.meter, sleeps, loader=DataLoader(Stream(sleeps, "data", 6), batch_size=2), max_epochs=1)
    assert holds(measured.parts["data"], sleeps.slept("data", after=2))  # the first batch is there before
    assert (measured.total.steps, measured.total.samples) == (3, 6)


def test_workers_are_counted_and_the_wait_for_them_is_one_for_data(measured):
    loader = DataLoader(Rows(Sleeps(data=5 * NAP), "data", 6), batch_size=2, num_workers=1)
    train(measured.meter, Sleeps(), loader=loader, max_epochs=1)
    assert measured.total.data_workers == 1
    assert measured.total.data_seconds > 0.5 * 6 * 5 * NAP
    assert measured.total.data_seconds > 0.5 * measured.total.step_seconds


def test_samples_nobody_can_tell_are_absent(measured):
    class OfWords(SleepingModule):
        def training_step(self, batch, _):
            return self.layer(torch.ones(1, 1)).mean()

    batches = DataLoader([["a", "word"]] * 3, batch_size=None)
    train(measured.meter, Sleeps(), loader=batches, module=OfWords(Sleeps()), max_epochs=1)
    assert (measured.total.steps, measured.total.samples) == (3, None)
    (values,) = measured.logged
    assert "training_samples_per_second" not in values
    assert values["training_steps_per_second"] > 0


def test_the_last_batch_has_fewer_samples(measured):
    loader = DataLoader(Rows(Sleeps(), "data", 5), batch_size=2)
    train(measured.meter, Sleeps(), loader=loader, max_epochs=1)
    assert (measured.total.steps, measured.total.samples) == (3, 5)


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(4, 3), 4),
        ([torch.zeros(4), torch.zeros(5)], 4),
        ({"name": "x", "image": torch.zeros(2, 3)}, 2),
        ((torch.tensor(1.0), {"a": [torch.zeros(7)]}), 7),
        (torch.tensor(1.0), None),
        (["a", "b"], None),
        (None, None),
        ([0] * 10**6 + [torch.zeros(3)], None),
        (np.zeros(3), None),
    ],
)
def test_the_size_of_a_batch(batch, size):
    assert probes.batch_samples(batch) == size


def test_an_exception_keeps_what_there_is_and_gives_the_trainer_back(measured):
    class Failing(SleepingModule):
        def training_step(self, batch, index):
            if self.global_step == 4:
                raise ValueError("the model is wrong")
            return super().training_step(batch, index)

    sleeps, profiler, seen = Sleeps(training_step=NAP), PassThroughProfiler(), []

    class AtTheEnd(pl.Callback):
        def on_exception(self, trainer, *_):
            seen.append((trainer.profiler, type(trainer.loggers)))

    with pytest.raises(ValueError, match="the model is wrong"):
        train(measured.meter, sleeps, module=Failing(sleeps), profiler=profiler, callbacks=[AtTheEnd()])
    assert measured.total.steps == 4
    assert holds(measured.parts["compute"], sleeps.slept("training_step"))
    assert seen == [(profiler, list)]


def test_two_fits_are_two_measurements_and_what_is_no_fit_is_none(measured):
    first, second = Sleeps(data=2 * NAP), Sleeps(training_step=NAP, validation_step=NAP)
    train(measured.meter, first)
    trainer = train(measured.meter, second)
    rows = DataLoader(Rows(second, "data", 4), batch_size=2)
    within = second.slept("validation_step")
    second.seconds["validation_step"] = SLACK
    trainer.validate(trainer.lightning_module, rows, verbose=False)
    trainer.lightning_module.layer = torch.nn.Linear(2, 1)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        trainer.validate(trainer.lightning_module, rows, verbose=False)
    slow, fast = measured.kept
    assert len(measured.logged) == 2
    assert holds(slow.data_seconds, first.slept("data"))
    assert holds(fast.data_seconds, 0)
    assert holds(fast.validation_seconds, within)
    assert fast.steps == 6


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_a_resumed_fit_measures_its_own_steps(measured, tmp_path):
    sleeps = Sleeps(training_step=NAP)
    trainer = train(Measured().meter, sleeps, max_steps=4, max_epochs=-1)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    train(measured.meter, sleeps, max_steps=7, max_epochs=-1, ckpt_path=tmp_path / "four.ckpt")
    assert measured.total.steps == 3
    assert holds(measured.parts["compute"], sleeps.slept("training_step", after=4))
    assert holds(measured.parts["data"], 0)


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch")
def test_a_fit_that_is_resumed_within_a_validation_waits_for_no_data_meanwhile(measured, tmp_path):
    class Saves(SleepingModule):
        def validation_step(self, batch, index):
            if self.trainer.global_step == 1 and not (tmp_path / "within.ckpt").exists():
                self.trainer.save_checkpoint(tmp_path / "within.ckpt")
            super().validation_step(batch, index)

    settings = {"max_epochs": 1, "val_check_interval": 1}
    train(Measured().meter, Sleeps(), module=Saves(Sleeps()), **settings)
    sleeps = Sleeps(validation_step=0.4)
    train(measured.meter, sleeps, ckpt_path=tmp_path / "within.ckpt", **settings)
    assert measured.total.steps == 2
    assert holds(measured.parts["validation"], sleeps.slept("validation_step"))
    assert holds(measured.parts["data"], 0)


def test_the_search_for_a_learning_rate_is_none_of_the_training(measured):
    sleeps = Sleeps(data=NAP)

    class WithRate(SleepingModule):
        lr = 0.1

    finder = pl.callbacks.LearningRateFinder(num_training_steps=5, early_stop_threshold=None, update_attr=False)
    train(measured.meter, sleeps, module=WithRate(sleeps), max_epochs=1, callbacks=[finder])
    assert measured.total.steps == 3
    assert measured.total.data_seconds < 0.6 * sleeps.slept("data")


def test_a_users_profiler_hears_all_and_is_the_trainers_again(measured):
    profiler = SimpleProfiler()
    seen = []

    class Looks(pl.Callback):
        def on_train_batch_start(self, trainer, *_):
            seen.append(trainer.profiler.recorded_durations)
            with trainer.profiler.profile("my own"):
                pass

    sleeps = Sleeps(data=NAP)
    trainer = train(measured.meter, sleeps, profiler=profiler, callbacks=[Looks()])
    assert trainer.profiler is profiler
    assert seen[0] is profiler.recorded_durations
    durations = profiler.recorded_durations
    assert len(durations["my own"]) == len(durations["run_training_batch"]) == 6
    assert holds(sum(durations["[_TrainingEpochLoop].train_dataloader_next"]), sleeps.slept("data"))
    assert holds(measured.parts["data"], sleeps.slept("data"))


def test_the_loggers_are_the_same_and_one_that_is_added_stays(measured, tmp_path):
    sleeps = Sleeps(logger=NAP)
    mine, added = SleepingLogger(sleeps), CSVLogger(tmp_path)
    seen = []

    class Adds(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step == 1:
                seen.append((trainer.logger, len(trainer.loggers), isinstance(trainer.loggers, list)))
                trainer.loggers.append(added)

    trainer = train(measured.meter, sleeps, logger=mine, callbacks=[Adds()])
    assert seen == [(mine, 1, True)]
    assert (type(trainer.loggers), trainer.loggers) == (list, [mine, added])
    assert measured.parts["logging"] >= sleeps.slept("logger")


def test_a_fault_of_the_meter_is_told_once_and_costs_no_training(measured, caplog, monkeypatch):
    monkeypatch.setattr(speed, "WINDOW_SECONDS", 0.0)

    def fails(_):
        raise OSError("the disk is full")

    meter = SpeedMeter(measured.kept.append, fails)
    trainer = train(meter, Sleeps())
    assert trainer.global_step == 6
    assert meter.fault == "OSError: the disk is full"
    assert [record.getMessage() for record in caplog.records].count(
        "The speed of this training is not measured any more. OSError: the disk is full"
    ) == 1
    assert isinstance(trainer.profiler, PassThroughProfiler)
    assert type(trainer.loggers) is list
    monkeypatch.setenv("DOVETAIL_STRICT", "1")
    with pytest.raises(OSError, match="the disk is full"):
        train(meter, Sleeps())


def test_a_lightning_that_does_not_tell_of_data_has_no_figure_for_it(measured, monkeypatch):
    for name in ("_on_before_fetch", "_on_after_fetch"):
        monkeypatch.setattr(_TrainingEpochLoop, name, lambda _: None)
    train(measured.meter, Sleeps())
    assert measured.kept == []
    (values,) = measured.logged
    assert values.keys() & {"training_data_seconds", "training_compute_seconds", "training_data_percentage"} == set()
    assert values["training_step_seconds"] > 0


def test_two_processes_measure_each_its_own(tmp_path):
    subprocess.run([sys.executable, str(SCRIPT), str(tmp_path)], cwd=tmp_path, check=True, timeout=120)
    records = [json.loads((tmp_path / f"rank_{rank}.json").read_text()) for rank in range(2)]
    for rank, record in enumerate(records):
        (total,) = record["kept"]
        assert (total["rank"], total["steps"], total["samples"]) == (rank, 4, 6)
        assert holds(total["data_seconds"], record["slept"])
    assert records[1]["kept"][0]["data_seconds"] > records[0]["kept"][0]["data_seconds"]
    (values,) = records[0]["logged"]
    assert records[1]["logged"] == []
    assert values["training_samples_per_second"] == pytest.approx(12 / records[0]["kept"][0]["step_seconds"])


def test_memory_is_absent_where_cuda_is_not_used():
    assert speed.peak_memory(torch.device("cpu")) == {}
    if not torch.cuda.is_initialized():
        assert speed.peak_memory(torch.device("cuda", 0)) == {}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
def test_memory_is_the_peak_of_the_device():
    held = torch.zeros(50_000_000, dtype=torch.uint8, device="cuda")
    values = speed.peak_memory(held.device)
    assert values.keys() <= FIELDS.keys()
    assert 50 <= values["training_gpu_memory_peak_megabytes"] <= values["training_gpu_memory_reserved_peak_megabytes"]
