"""`dovetail sync` sends what no recorder could: to any store, as often as you like, and whatever interrupts it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from faults.proxy import Proxy
from faults.training import Copied, Training, child_environment, wait_until
from faults.truth import Recorded, assert_exact, read_recorded, runs_with


def test_a_run_offline_by_choice_has_no_id_but_its_token(ended_offline: Training, database: str):
    assert ended_offline.facts["run_id"] == ended_offline.token
    assert runs_with(database, ended_offline.token) == []


def test_sync_twice_changes_nothing_and_another_store_gets_it_too(copied: Copied, server: str, fresh_database: str):
    before = None
    for uri in (server, server, fresh_database):
        copied.sync("--tracking-uri", uri)
        recorded = read_recorded(uri, copied.token)
        assert_exact(copied.truth, recorded)
        assert recorded.ending == ("FINISHED", None)
        assert copied.truth.artifacts.items() <= recorded.artifacts.items()
        assert before in (None, everything_of(recorded)), "the second sync has changed something"
        before = everything_of(recorded) if uri == server and before is None else None


def everything_of(recorded: Recorded) -> object:
    run = recorded.run
    return (run.info.end_time, run.data.params, run.data.tags, run.data.metrics, recorded.points, recorded.artifacts)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sync_that_is_interrupted_goes_on_where_it_was(copied: Copied, proxy: Proxy, server: str, number: int):
    proxy.delays(0.2)
    command = [sys.executable, "-m", "mlflow_dovetail", "sync", "--tracking-uri", proxy.address]
    environment = child_environment(DOVETAIL_DIR=str(copied.project))
    with subprocess.Popen(command, cwd=copied.project, env=environment, stderr=subprocess.PIPE, text=True) as sync:
        wait_until(lambda: proxy.paths["log-batch"] >= 7, "the first 5,000 values are acknowledged", 60)
        sync.send_signal(number)
        talk = sync.communicate(timeout=30)[1]
    assert sync.returncode not in (0, 1) and "Traceback" not in talk, talk
    proxy.passes()
    before = proxy.paths["log-batch"]
    copied.sync("--tracking-uri", proxy.address)
    assert proxy.paths["log-batch"] - before <= 6, "it has begun anew"
    recorded = read_recorded(server, copied.token)
    assert_exact(copied.truth, recorded)
    assert recorded.ending == ("FINISHED", None)


def test_a_server_that_fails_at_the_very_end_hears_the_status_later(copied: Copied, proxy: Proxy, server: str):
    """All values are there, and the last request of all fails: the next sync must not take that for complete."""
    proxy.answers_500(path_part="runs/update")
    first = copied.dovetail("sync", "--tracking-uri", proxy.address)
    assert proxy.outcomes["answered 500"], "the fault has not happened"
    assert first.returncode == 1, first.stdout + first.stderr
    proxy.passes()
    copied.sync("--tracking-uri", proxy.address)
    recorded = read_recorded(server, copied.token)
    assert_exact(copied.truth, recorded)
    assert recorded.ending == ("FINISHED", None)
