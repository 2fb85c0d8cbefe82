"""The whole of it: a project that is well, one that is not touched, and checks that fail by themselves."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mlflow_dovetail.doctor import Check, examine
from mlflow_dovetail.doctor.examining import CHECKS, ORDER
from mlflow_dovetail.errors import DovetailError

from .conftest import APART, Patient

OTHERS = next(check for check in CHECKS if check.part == "others")


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
    assert everything_in(patient.root.parent) == before


def test_a_folder_with_nothing_in_it_is_examined_and_stays_empty(tmp_path: Path, patient: Patient):
    (tmp_path / "empty").mkdir()
    found = patient.examine(*({*ORDER} - {*APART}), folder=tmp_path / "empty")
    assert {one.check for one in found if one.level == "warning"} == {"git"}
    assert "problem" not in {one.level for one in found}
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_subfolder_is_examined_as_its_project(patient: Patient):
    patient.is_apart = True
    (patient.root / "deep").mkdir()
    found = patient.examine("store", "dvc", folder=patient.root / "deep")
    assert [one.level for one in found] == ["ok"] * 3, found
    assert str(patient.database) in found[-1].what


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path):
    with pytest.raises(DovetailError, match="no such folder"):
        examine(tmp_path / "nowhere")


def test_files_of_the_project_that_are_named_as_modules_are_not_imported(patient: Patient):
    patient.is_apart = True
    for name in ("mlflow.py", "json.py", "dvc.py", "packaging.py"):
        (patient.root / name).write_text("raise SystemExit('the project was imported')\n")
    patient.is_well("dvc")


@pytest.mark.parametrize("name", ["a name with spaces", "naïve ☂", "50%41 quo'te", "semi;colon#hash"])
def test_a_project_in_a_folder_of_any_name(patient: Patient, name: str):
    patient.root = patient.root.rename(patient.root.parent / name)
    beside = {*patient.root.parent.iterdir()}
    found = patient.examine("store", "git", "dvc", "machine")
    assert {*patient.root.parent.iterdir()} == beside
    assert [one for one in found if one.level != "ok"] == []
    assert str(patient.database) in next(one.what for one in found if one.check == "store")


def test_a_check_that_hangs_is_ended_and_named(patient: Patient):
    patient.plug_in("hydra.plugins", "import time\ntime.sleep(600)\n")
    quick = replace(OTHERS, seconds=8.0)
    (*_, late) = examine(patient.root, environment=patient.environment, checks=(quick,))
    assert (late.check, late.level) == ("plugins", "problem")
    assert "over 8 s while loading 'sick' of sick" in late.why


@pytest.mark.parametrize(
    ("code", "ending"),
    [("import os\nos.abort()\n", "SIGABRT"), ("import os\nos._exit(3)\n", "ended with 3")],
)
def test_a_check_whose_process_dies_is_named(patient: Patient, code: str, ending: str):
    patient.plug_in("hydra.plugins", code)
    told = patient.only("plugins others", "problem")
    assert ending in told.why and "while loading 'sick' of sick" in told.why
    assert told.do


def test_a_check_that_raises_is_a_finding_and_the_others_are_made(patient: Patient):
    checks = (Check("odd", "no_such_module"), next(check for check in CHECKS if check.name == "versions"))
    found = examine(patient.root, environment=patient.environment, checks=checks)
    assert [(one.check, one.level) for one in found] == [("versions", "ok"), ("odd", "problem")]
    assert "no_such_module" in found[1].why


def test_checks_do_not_wait_for_one_another(patient: Patient):
    """Each of two ends only when the other has begun."""
    code = f"""
import os, pathlib, time
begun = pathlib.Path({str(patient.home)!r})
(begun / f"begun-{{os.getpid()}}").touch()
while len(list(begun.glob("begun-*"))) < 2:
    time.sleep(0.05)
thing = 1
"""
    patient.plug_in("hydra.plugins", code)
    found = examine(patient.root, environment=patient.environment, checks=(OTHERS, OTHERS))
    assert {one.level for one in found} == {"ok"}, found
