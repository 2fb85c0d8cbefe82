"""The table of versions is that of the packages' own files, and what does not fit is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from mlflow_dovetail.doctor.versions import RANGES

from .conftest import Patient

REPOSITORY = Path(__file__).resolve().parents[2]
(LOCK,) = REPOSITORY.glob("template/*/requirements.lock")


def test_every_range_that_dovetail_states_is_in_the_table():
    project = (REPOSITORY / "pyproject.toml").read_text("utf-8")
    project = project.partition("\ndependencies = ")[2].partition("dev = [")[0]
    requirements = map(Requirement, re.findall(r'"([a-z0-9-]+[<>=!][^"]*)"', project))
    stated = {one.name: one.specifier for one in requirements}
    assert len(stated) >= 12
    assert {name: SpecifierSet(RANGES[name][0]) for name in stated if name in RANGES} == stated


def test_the_tested_versions_are_those_of_the_lock():
    locked: dict[str, Version] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^\s;]+)", LOCK.read_text("utf-8"), re.MULTILINE):
        locked[name] = max(locked.get(name, Version(version)), Version(version))
    tested = {name: Version(version) for name, (_, version) in RANGES.items() if name != "lightning"}
    assert tested == {name: locked[name] for name in tested}


def test_the_tested_versions_are_in_their_ranges():
    assert all(SpecifierSet(taken, prereleases=True).contains(tested) for taken, tested in RANGES.values())


@pytest.mark.parametrize(
    ("package", "version", "level", "told"),
    [
        ("optuna", "2.10.1", "problem", ">=5,<6"),
        ("hydra-core", "1.3.8", "problem", "1.4.0rc3"),
        ("lightning", "2.6.3", "problem", "malicious"),
        ("mlflow-skinny", "3.16.0", "problem", "two halves"),
        ("torch", "2.99.0", "note", "torch 2.99.0"),
        ("mlflow-skinny", "4.0.0", "problem", ">=3.10,<4"),
    ],
)
def test_a_version_that_does_not_fit(patient: Patient, package, version, level, told):
    patient.install(package, version)
    found = [one for one in patient.examine("versions") if one.level == level]
    assert any(told in f"{one.what} {one.why} {one.do}" and one.do for one in found), found


def test_this_environment_fits(well: Patient):
    assert [one.level for one in well.examine("versions")] == ["ok"]
