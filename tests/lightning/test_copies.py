"""A Trainer that is measured can be copied to another process, and a forked child has no handler of ours."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import pyarrow as pa
from pytorch_lightning.profilers import PassThroughProfiler

from mlflow_dovetail.lightning import DovetailCallback
from mlflow_dovetail.lightning.probes import ProfilerProbe, TimedLoggers
from mlflow_dovetail.lightning.speed import SpeedMeter
from mlflow_dovetail.prediction_tables.page.outcomes import read_outcomes
from mlflow_dovetail.prediction_tables.schema import Column, Manifest

FORKS = """
import os, signal
from mlflow_dovetail.run.endings import WATCH
class Run:
    def close(self): pass
WATCH.add(Run())
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
child = os.fork()
if child == 0:
    os._exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, "the child has the parent's handler"
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
"""


def test_a_copy_has_the_trainers_own_profiler_and_loggers():
    probe, loggers = ProfilerProbe(PassThroughProfiler(), {}, {}), TimedLoggers([], lambda seconds: None)
    for made in (lambda value: pickle.loads(pickle.dumps(value)), copy.copy, copy.deepcopy):
        assert type(made(probe)) is PassThroughProfiler
        assert type(made(loggers)) is list
    callback = DovetailCallback()
    callback._meter = SpeedMeter(lambda speed: None, lambda values: None)
    assert pickle.loads(pickle.dumps(callback))._meter is None


def test_a_forked_child_is_ended_by_sigterm_as_if_there_were_no_run():
    subprocess.run([sys.executable, "-c", FORKS], check=True, timeout=60)


def test_an_example_that_was_validated_twice_in_an_epoch_counts_once():
    ids, epochs = ["a", "b", "a", "b", "a", None, None], [0, 0, 1, 1, 1, 1, 1]
    table = pa.table({"id": pa.array(ids, pa.string()), "epoch": pa.array(epochs, pa.int64())})
    columns = (Column("id", "id"), Column("epoch", "number"))
    outcomes = read_outcomes(table, Manifest("val", columns, len(ids), ()))
    assert outcomes.rows_of_last_epoch().tolist() == [3, 4, 5, 6]
