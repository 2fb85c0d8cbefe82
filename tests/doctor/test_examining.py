"""The whole of it: a project that is well, one that is not touched, and checks that fail by themselves."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_dovetail.doctor import Check, examine
from mlflow_dovetail.doctor.examining import CHECKS, ORDER
from mlflow_dovetail.errors import DovetailError

from .conftest import APART, Patient

SLOW_PLUGIN = "import sys\nprint('talk', flush=True)\nimport time\ntime.sleep(600)\n"


def everything_in(root: Path) -> dict[str, tuple[int, int, str]]:
    """Mode, time of change and content of all that lies in a folder."""
    found = {}
    for path in [root, *root.rglob("*")]:
        about = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (about.st_mode, about.st_mtime_ns, content)
    return found


def test_a_project_that_is_well_is_called_well_and_not_touched(patient: Patient):
    before = everything_in(patient.root.parent)
    found = patient.examine()
    # What this machine's GPUs are like is not the project's.
    assert [one for one in found if one.level in ("warning", "problem") and one.check != "gpu"] == []
    assert {one.check for one in found} == set(ORDER) == {check.name for check in CHECKS}
    assert [one.check for one in found] == sorted((one.check for one in found), key=ORDER.index)
    assert everything_in(patient.root.parent) == before


def test_a_folder_with_nothing_in_it_is_examined_and_stays_empty(tmp_path: Path, patient: Patient):
    (tmp_path / "empty").mkdir()
    found = patient.examine(*({*ORDER} - {*APART}), folder=tmp_path / "empty")
    assert {one.check for one in found if one.level == "warning"} == {"git"}
    assert "problem" not in {one.level for one in found}
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_subfolder_is_examined_as_its_project(patient: Patient):
    (patient.root / "deep").mkdir()
    assert str(patient.database) in patient.only("store", "ok", folder=patient.root / "deep").what


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(DovetailError, match="no such folder"):
        examine(tmp_path / "nowhere")


def test_files_of_the_project_that_are_named_as_modules_are_not_imported(patient: Patient):
    patient.is_apart = True
    for name in ("mlflow.py", "json.py", "dvc.py", "packaging.py"):
        (patient.root / name).write_text("raise SystemExit('the project was imported')\n")
    patient.is_well("dvc")


@pytest.mark.parametrize("name", ["a name with spaces", "naïve ☂", "quo'te", "50%", "semi;colon#hash"])
def test_a_project_in_a_folder_of_any_name(patient: Patient, name: str):
    patient.root = patient.root.rename(patient.root.parent / name)
    found = patient.examine("store", "git", "dvc", "machine")
    assert [one for one in found if one.level != "ok"] == []
    assert str(patient.database) in next(one.what for one in found if one.check == "store")


def test_a_check_that_hangs_is_ended_and_named(patient: Patient, plugin):
    plugin("hydra.plugins", SLOW_PLUGIN)
    quick = replace(next(check for check in CHECKS if check.part == "others"), seconds=4.0)
    (*_, late) = examine(patient.root, environment=patient.environment, checks=(quick,))
    assert (late.check, late.level) == ("plugins", "problem")
    assert "over 4 s while loading 'sick' of sick" in late.why


@pytest.mark.parametrize(
    ("code", "ending"),
    [("import os\nos.abort()\n", "SIGABRT"), ("import os\nos._exit(3)\n", "ended with 3")],
)
def test_a_check_whose_process_dies_is_named(patient: Patient, plugin, code: str, ending: str):
    plugin("hydra.plugins", code)
    told = patient.only("plugins others", "problem")
    assert ending in told.why and "while loading 'sick' of sick" in told.why
    assert told.do


def test_a_check_that_raises_is_a_finding_and_the_others_are_made(patient: Patient):
    checks = (Check("odd", "no_such_module"), next(check for check in CHECKS if check.name == "versions"))
    found = examine(patient.root, environment=patient.environment, checks=checks)
    assert [(one.check, one.level) for one in found] == [("versions", "ok"), ("odd", "problem")]
    assert "no_such_module" in found[1].why


@pytest.mark.skipif(os.name != "posix", reason="a folder that is gone under a process is POSIX's")
def test_checks_do_not_wait_for_one_another(patient: Patient, plugin):
    plugin("hydra.plugins", SLOW_PLUGIN)
    slow = replace(next(check for check in CHECKS if check.part == "others"), seconds=3.0)
    found = examine(patient.root, environment=patient.environment, checks=(slow, Check("machine", "machine")))
    assert {one.check for one in found} == {"plugins", "machine"}
