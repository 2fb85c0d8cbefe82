"""Whatever the server does, training does not notice; afterwards the same run is there, each point exactly once."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from faults.conftest import Train
from faults.proxy import Proxy
from faults.training import Training, wait_until
from faults.truth import Recorded, assert_exact, read_recorded, runs_with

# The longest that a call in the training thread may take on a busy machine with two cores; MLflow's own takes 247 s.
LONGEST_STEP_SECONDS = 1.0
# How long a trainer may wait at its end for what is not sent yet, and what Python needs to end on a busy machine.
EXIT_SECONDS = 10 + 5
AT_ONCE = 5

Scenario = Callable[[Proxy, Callable[..., Training]], Training]


def down_at_the_start(proxy: Proxy, start: Callable[..., Training]) -> Training:
    proxy.refuses()
    training = start()
    training.wait_steps(100)
    time.sleep(3)  # the recorder has tried
    proxy.passes()
    training.wait_steps(100)
    return training


def down_in_the_middle(proxy: Proxy, start: Callable[..., Training]) -> Training:
    training = sending(proxy, start)
    proxy.refuses()
    training.wait_steps(300)
    proxy.passes()
    training.wait_steps(100)
    return training


def down_at_the_end(proxy: Proxy, start: Callable[..., Training]) -> Training:
    training = sending(proxy, start)
    proxy.refuses()
    training.wait_steps(100)
    begin = time.monotonic()
    training.stop()
    training.wait()
    assert time.monotonic() - begin < EXIT_SECONDS, training.report()
    proxy.passes()
    return training


def two_seconds_a_request(proxy: Proxy, start: Callable[..., Training]) -> Training:
    proxy.delays(2)
    training = start()
    wait_until(lambda: proxy.paths["log-batch"] >= 2, "the recorder sends", 60)
    training.stop()
    training.wait()
    proxy.passes()  # the rest would come as well, in a minute
    return training


def hangs(proxy: Proxy, start: Callable[..., Training]) -> Training:
    training = sending(proxy, start)
    proxy.hangs()
    training.wait_steps(300)
    wait_until(lambda: proxy.outcomes["hung"], "a request hangs", 30)
    proxy.passes()
    training.wait_steps(100)
    return training


def one_in_ten_fails(proxy: Proxy, start: Callable[..., Training]) -> Training:
    proxy.answers_500(0.1, seed=5)
    training = start()
    training.wait_steps(500)
    return training


def drops_connections(proxy: Proxy, start: Callable[..., Training]) -> Training:
    training = sending(proxy, start)
    proxy.drops()
    training.wait_steps(300)
    wait_until(lambda: proxy.outcomes["dropped"], "a connection is dropped", 30)
    proxy.passes()
    training.wait_steps(100)
    return training


def loses_the_reply_to_create(proxy: Proxy, start: Callable[..., Training]) -> Training:
    proxy.loses_replies(only=1, path_part="runs/create")
    training = start()
    training.wait_steps(200)
    wait_until(lambda: proxy.outcomes["reply lost"], "the reply to runs/create is lost", 60)
    return training


def loses_replies_to_batches(proxy: Proxy, start: Callable[..., Training]) -> Training:
    training = sending(proxy, start)
    proxy.loses_replies(path_part="log-batch")
    training.wait_steps(100)
    wait_until(lambda: proxy.outcomes["reply lost"] >= 2, "replies are lost", 60)
    proxy.passes()
    training.wait_steps(100)
    return training


def loses_one_reply_in_three(proxy: Proxy, start: Callable[..., Training]) -> Training:
    proxy.loses_replies(0.33, seed=7)
    training = start()
    training.wait_steps(400)
    return training


SCENARIOS: dict[str, tuple[Scenario, str]] = {
    "down at the start": (down_at_the_start, "passed"),
    "down in the middle": (down_in_the_middle, "passed"),
    "down at the end": (down_at_the_end, "passed"),
    "two seconds a request": (two_seconds_a_request, "delayed"),
    "hangs": (hangs, "hung"),
    "one in ten fails": (one_in_ten_fails, "answered 500"),
    "drops connections": (drops_connections, "dropped"),
    "loses the reply to create": (loses_the_reply_to_create, "reply lost"),
    "loses replies to batches": (loses_replies_to_batches, "reply lost"),
    "loses one reply in three": (loses_one_reply_in_three, "reply lost"),
}


def sending(proxy: Proxy, start: Callable[..., Training]) -> Training:
    """A trainer whose recorder has begun to send."""
    training = start()
    wait_until(lambda: training.process.poll() is not None or proxy.requests >= 5, "it sends", 60)
    training.wait_steps(50)
    return training


@pytest.fixture(scope="module")
def scenarios(request: pytest.FixtureRequest, train_for_all: Train, server: str) -> Iterator[dict[str, Future[Played]]]:
    """Every scenario that a test here asks for, a few at once: they mostly wait."""
    wanted = {item.callspec.params["name"] for item in request.session.items if is_played(item)}

    def play(name: str) -> tuple[Training, Proxy]:
        with Proxy(server) as proxy:
            training = SCENARIOS[name][0](
                proxy, lambda: train_for_all(proxy.address, steps=100_000, artifact_every=100)
            )
            training.finish(90)
            return training, proxy

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(play, name) for name in SCENARIOS if name in wanted}


Played = tuple[Training, Proxy]


def is_played(item: pytest.Item) -> bool:
    return item.path.samefile(__file__) and "name" in getattr(getattr(item, "callspec", None), "params", {})


@pytest.mark.parametrize("name", SCENARIOS)
def test_training_does_not_notice_and_the_run_is_exact(scenarios: dict[str, Future[Played]], server: str, name: str):
    training, proxy = scenarios[name].result(timeout=180)
    assert proxy.outcomes[SCENARIOS[name][1]], f"the fault has not happened: {proxy.outcomes}"
    assert training.process.returncode == 0, training.report()
    truth, recorded = training.truth, read_recorded(server, training.token)
    assert_exact(truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert truth.artifacts.items() <= recorded.artifacts.items()
    assert truth.slowest_seconds < LONGEST_STEP_SECONDS
    assert len(runs_in_experiment(server, recorded)) == 1
    if name == "down at the start":
        assert training.facts["start_seconds"] < 2
        assert len(told(training)) == 1, training.stderr


def told(training: Training) -> list[str]:
    """The lines in which the trainer speaks of the server."""
    return [line for line in training.stderr.splitlines() if re.search(r"offline|server|http", line, re.IGNORECASE)]


def runs_in_experiment(uri: str, recorded: Recorded) -> list[object]:
    from mlflow import MlflowClient

    return list(MlflowClient(uri).search_runs([recorded.run.info.experiment_id]))


def test_a_server_that_never_comes_back_costs_ten_seconds_and_sync_sends_the_rest(
    train: Train, proxy: Proxy, server: str
):
    training = sending(proxy, lambda: train(proxy.address, steps=100_000))
    proxy.hangs()
    training.wait_steps(100)
    begin = time.monotonic()
    training.stop()
    assert training.wait() == 0
    assert time.monotonic() - begin < EXIT_SECONDS, training.report()
    training.kill_recorders()  # the machine is switched off
    run_id = training.facts["run_id"]
    assert training.dovetail("sync").returncode == 1
    training.sync("--tracking-uri", server)
    recorded = read_recorded(server, training.token)
    assert_exact(training.truth, recorded)
    assert recorded.ending == ("FINISHED", None), training.report()
    assert run_id in (recorded.run.info.run_id, training.token)


def test_sigkill_while_the_store_creates_the_run_leaves_none_running(train: Train, proxy: Proxy, server: str):
    proxy.delays(1.5, path_part="runs/create")
    training = train(proxy.address)
    wait_until(lambda: proxy.paths["create"] >= 2, "experiment and run are created", 60)
    training.process.kill()
    training.wait()
    wait_until(lambda: proxy.outcomes["delayed"], "the server has created the run", 10)
    assert [run.info.status for run in runs_with(server, training.token)] == ["RUNNING"]
    training.sync()
    assert [run.info.status for run in runs_with(server, training.token)] == ["FAILED"]
