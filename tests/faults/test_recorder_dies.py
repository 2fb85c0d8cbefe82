"""The recorder may die at any moment: the trainer does not notice, and what it left is sent, each point once."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor

from faults.conftest import Train
from faults.training import Training
from faults.truth import assert_exact, read_recorded

SEED = 11
# A recorder first sends 15 s after its start, so that short runs are not slowed by its import of MLflow.
FIRST_SENDING_SECONDS = 15.0
TRAINING_SECONDS = 21.0


def kill_recorders_at(training: Training, moments: list[float]) -> int:
    """Kill its recorders at these seconds of its training; how many died."""
    training.wait_started()
    begin, dead = time.monotonic(), 0
    for moment in moments:
        time.sleep(max(0.0, begin + moment - time.monotonic()))
        dead += training.kill_recorders()
    time.sleep(max(0.0, begin + TRAINING_SECONDS - time.monotonic()))
    return dead


def test_recorders_killed_while_training_lose_nothing(train: Train, database: str):
    chance = random.Random(SEED)
    # Two while they import MLflow or send, and two at any time, again and again: the trainer starts new ones.
    sending = [[FIRST_SENDING_SECONDS + chance.uniform(0.5, 5)] for _ in range(2)]
    anywhere = [sorted(chance.uniform(0, TRAINING_SECONDS) for _ in range(4)) for _ in range(2)]
    trainings = [train(database, steps=100_000, seconds=0.005, artifact_every=200) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        dead = list(pool.map(kill_recorders_at, trainings, sending + anywhere))
        codes = list(pool.map(lambda training: training.finish(120), trainings))
    assert all(dead), "no recorder was killed: the test has tested nothing"
    assert codes == [0, 0, 0, 0], trainings[0].report()
    for training in trainings:
        truth, recorded = training.truth, read_recorded(database, training.token)
        assert_exact(truth, recorded)
        assert recorded.ending == ("FINISHED", None), training.report()
        assert recorded.journal_status == "ok", training.report()
        assert truth.artifacts.items() <= recorded.artifacts.items()
        assert truth.slowest_seconds < 1


def test_a_recorder_killed_while_it_sends_the_rest_is_made_up_for_by_sync(train: Train, database: str):
    training = train(database, metrics=20, steps=20_000, seconds=0)
    training.wait_steps(2000)
    training.process.kill()
    training.wait()
    time.sleep(random.Random(SEED).uniform(2.5, 5))  # it imports MLflow first
    assert training.kill_recorders() == 1, training.report()
    assert_sync_completes(training, database)


def test_trainer_and_recorder_killed_at_once_are_completed_by_sync(train: Train, database: str):
    moments = [0.0, *(random.Random(SEED).uniform(0, 6) for _ in range(3))]
    trainings = [train(database, steps=100_000, seconds=0.002, artifact_every=100) for _ in moments]

    def kill_both(training: Training, moment: float) -> None:
        training.wait_started()
        time.sleep(moment)
        training.process.kill()
        training.kill_recorders()
        training.wait()
        training.kill_recorders()  # one that was just being started

    with ThreadPoolExecutor(len(moments)) as pool:
        list(pool.map(kill_both, trainings, moments))
        list(pool.map(assert_sync_completes, trainings, [database] * len(moments)))


def assert_sync_completes(training: Training, uri: str) -> None:
    training.sync()
    truth, recorded = training.truth, read_recorded(uri, training.token)
    assert_exact(truth, recorded, more_steps=1)
    assert recorded.ending == ("FAILED", "vanished"), training.report()
    assert truth.artifacts.items() <= recorded.artifacts.items()
    assert training.facts["run_id"] in (recorded.run.info.run_id, training.token)
