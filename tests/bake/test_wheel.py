"""The wheel made with the standard library is the one that the build backend makes."""

from __future__ import annotations

import base64
import configparser
import email
import hashlib
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from scaffold.errors import ScaffoldError
from scaffold.wheel import build_wheel

FIELDS = ("Name", "Summary", "Author", "License-Expression", "License-File", "Keywords", "Requires-Python")
VERSION = re.compile(r"0\.1\.0\+[0-9a-f]{8}")


@pytest.fixture(scope="module")
def ours(repository_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(repository_copy, tmp_path_factory.mktemp("ours"))


@pytest.fixture(scope="module")
def theirs(repository_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("theirs")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(command, cwd=repository_copy, check=True, capture_output=True)
    return next(target.glob("*.whl"))


def info(wheel: Path) -> str:
    return "-".join(wheel.name.split("-")[:2]) + ".dist-info"


def read(wheel: Path, name: str) -> str:
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"{info(wheel)}/{name}").decode()


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_same_name_and_files(ours, theirs):
    assert VERSION.sub("0.1.0", ours.name) == theirs.name
    mine = {VERSION.sub("0.1.0", name): content for name, content in contents(ours).items()}
    backend = contents(theirs)
    assert set(mine) == set(backend)
    differing = {name for name in mine if mine[name] != backend[name]}
    assert differing <= {f"{info(theirs)}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt")}


def test_same_metadata(ours, theirs):
    mine, backend = (email.message_from_string(read(wheel, "METADATA")) for wheel in (ours, theirs))
    for field in (*FIELDS, "Classifier", "Provides-Extra", "Description-Content-Type"):
        assert mine.get_all(field) == backend.get_all(field), field
    assert mine.get_payload() == backend.get_payload()
    assert VERSION.fullmatch(mine["Version"])
    assert VERSION.sub("0.1.0", mine["Version"]) == backend["Version"]


def test_a_change_of_the_plugin_is_another_version(repository_copy, ours, tmp_path):
    shutil.copytree(repository_copy, tmp_path / "changed")
    with (tmp_path / "changed" / "plugins" / "mlflow_dovetail" / "names.py").open("a") as file:
        file.write("# changed\n")
    assert build_wheel(tmp_path / "changed", tmp_path).name != ours.name


def test_same_requirements(ours, theirs):
    def parsed(wheel: Path) -> set[Requirement]:
        found = email.message_from_string(read(wheel, "METADATA")).get_all("Requires-Dist")
        return {Requirement(line) for line in found or ()}

    assert parsed(ours) == parsed(theirs)
    assert len(parsed(ours)) > 5


def test_same_entry_points(ours, theirs):
    def parsed(wheel: Path) -> dict[str, dict[str, str]]:
        parser = configparser.ConfigParser(delimiters="=")
        parser.read_string(read(wheel, "entry_points.txt"))
        return {group: dict(parser[group]) for group in parser.sections()}

    assert parsed(ours) == parsed(theirs)
    assert parsed(ours)["console_scripts"] == {"dovetail": "mlflow_dovetail.cli:main"}


def test_same_input_gives_the_same_bytes(ours, repository_copy, tmp_path):
    assert build_wheel(repository_copy, tmp_path).read_bytes() == ours.read_bytes()


def test_times_and_modes_are_those_of_the_backend(ours, theirs):
    def stamps(wheel: Path) -> set[tuple[object, int]]:
        with zipfile.ZipFile(wheel) as archive:
            return {(entry.date_time, entry.external_attr >> 16 & 0o777) for entry in archive.infolist()}

    assert stamps(ours) == stamps(theirs)


def test_pip_installs_it_from_the_root_of_the_project(baked, tmp_path):
    line = next(line for line in (baked / "requirements.txt").read_text().splitlines() if "vendor" in line)
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, line], cwd=baked, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mlflow_dovetail" / "py.typed").is_file()
    (folder,) = tmp_path.glob("*.dist-info")
    recorded = (folder / "RECORD").read_text().splitlines()
    assert {row.split(",")[0] for row in recorded} >= {"mlflow_dovetail/__init__.py", f"{folder.name}/METADATA"}


def test_record_is_true(ours):
    files = contents(ours)
    rows = [row.split(",") for row in files[f"{info(ours)}/RECORD"].decode().splitlines()]
    assert {row[0] for row in rows} == set(files)
    for name, digest, size in rows:
        if name.endswith("RECORD"):
            continue
        expected = base64.urlsafe_b64encode(hashlib.sha256(files[name]).digest()).rstrip(b"=").decode()
        assert (digest, size) == (f"sha256={expected}", str(len(files[name])))


def test_a_tree_without_its_licence_is_refused(repository_copy, tmp_path):
    (tmp_path / "pyproject.toml").write_text((repository_copy / "pyproject.toml").read_text())
    with pytest.raises(ScaffoldError, match="Bake from a whole clone"):
        build_wheel(tmp_path, tmp_path / "vendor")
    assert not (tmp_path / "vendor").exists()
