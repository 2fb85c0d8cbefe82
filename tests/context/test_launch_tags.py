"""The launch of a process, and records as tags that any store takes."""

from __future__ import annotations

import sys

import pytest

from mlflow_dovetail import names
from mlflow_dovetail.context import PARTS, GitState, Launch, Machine, encode, read_launch, seal

MACHINE = Machine(host="h", system="Linux 6 x86_64", python="CPython 3.11", cuda="12.8", gpus=("NVIDIA L4",) * 2)


def test_the_command_line_is_the_one_that_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "pkg.train", "db.password=hunter2", "lr=1"])
    monkeypatch.setattr(sys, "argv", ["rewritten"])
    assert read_launch().command == "python -m pkg.train db.password=*** lr=1"
    monkeypatch.setattr(sys, "orig_argv", [])
    assert read_launch().command == "rewritten"


def test_scheduler_pipeline_and_sweep_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "SLURM_JOB_ID": "4711",
        "DVC_STAGE": "train",
        "DVC_EXP_NAME": "puffy-ling",
        "DVC_EXP_BASELINE_REV": "a" * 40,
        "DOVETAIL_PARENT_RUN": "b" * 32,
        "DOVETAIL_SWEEP_JOB": "3",
        "DOVETAIL_SWEEP_PARAMS": "lr=0.1",
    }
    for key, value in given.items():
        monkeypatch.setenv(key, value)
    assert (
        seal(encode(read_launch())).items()
        >= {
            "dovetail.slurm.job": "4711",
            "dovetail.dvc.stage": "train",
            "dovetail.dvc.experiment": "puffy-ling",
            "dovetail.dvc.baseline_rev": "a" * 40,
            "mlflow.parentRunId": "b" * 32,
            "dovetail.sweep.job": "3",
            "dovetail.sweep.params": "lr=0.1",
        }.items()
    )


def test_a_plain_process_has_a_command_line_alone() -> None:
    assert set(seal(encode(read_launch()))) == {names.TAG_COMMAND}


@pytest.mark.parametrize("parent", ["", "../x", "a b", "x" * 300, "-a"])
def test_a_parent_that_cannot_be_a_run_is_left_out(parent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(names.ENV_PARENT_RUN, parent)
    assert read_launch().parent_run is None


@pytest.mark.parametrize(
    ("state", "tags"),
    [
        (
            GitState("c" * 40, "main", False, "git@host:x.git"),
            {"commit": "c" * 40, "branch": "main", "dirty": "false", "remote": "git@host:x.git"},
        ),
        (GitState("c" * 40, None, True, None), {"commit": "c" * 40, "branch": "detached", "dirty": "true"}),
        (GitState(None, "main", None, None), {"branch": "main"}),
        (GitState(cause="x"), {}),
    ],
)
def test_git_tags(state: GitState, tags: dict[str, str]) -> None:
    assert seal(encode(state)) == {f"dovetail.git.{key}": value for key, value in tags.items()}


def test_machine_tags() -> None:
    assert seal(encode(MACHINE)) == {
        "dovetail.host": "h",
        "dovetail.os": "Linux 6 x86_64",
        "dovetail.python": "CPython 3.11",
        "dovetail.cuda": "12.8",
        "dovetail.gpus": "NVIDIA L4 x2",
    }


@pytest.mark.parametrize(
    ("value", "sealed"),
    [
        (None, {}),
        ("", {}),
        (" \0 ", {}),
        ("a\0b", {"k": "ab"}),
        ("caf\udce9", {"k": "caf?"}),
        ("x" * 8000, {"k": "x" * 8000}),
        ("x" * 8001, {"k": "x" * 7999 + "…"}),
        ("é" * 10**6, {"k": "é" * 7999 + "…"}),
    ],
)
def test_tags_are_made_fit_for_any_store(value: str | None, sealed: dict[str, str]) -> None:
    assert seal({"k": value}) == sealed


def test_a_secret_across_the_cut_is_masked_before_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["x" * 7970, "password=" + "s" * 100])
    command = seal(encode(read_launch()))[names.TAG_COMMAND]
    assert "password=***" in command


def test_every_part_is_read_and_encoded() -> None:
    records = [read() for read in PARTS]
    assert [type(record) for record in records] == [GitState, Machine, Launch]
    assert all(isinstance(encode(record), dict) for record in records)
