"""The list of packages is what pip says is installed, and pip can install it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mlflow_dovetail
from mlflow_dovetail.context import read_packages

SOURCE = Path(mlflow_dovetail.__file__).parents[1]
PRINT = "from mlflow_dovetail.context import read_packages; print(read_packages(), end='')"


def run(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pinned(requirements: str) -> dict[str, str]:
    """Of each line that installs: name → what it asks for; a version that stands in the comment in full, in full."""
    found = {}
    for line in requirements.splitlines():
        line, _, comment = line.partition("  # ")
        if match := re.match(r"([\w.-]+)(?:==| @ )(.+)", line):
            found[match[1]] = comment or match[2]
    return found


def commented(requirements: str) -> set[str]:
    return set(re.findall(r"^# ([\w.-]+)==\S+ is ", requirements, re.MULTILINE))


def test_it_is_what_pip_freeze_says(tmp_path: Path) -> None:
    ours = run(sys.executable, "-c", PRINT, cwd=tmp_path)
    freeze = run(sys.executable, "-m", "pip", "freeze", "--exclude-editable", cwd=tmp_path)
    editable = run(sys.executable, "-m", "pip", "list", "--editable", "--format=json", cwd=tmp_path)
    assert len(pinned(ours)) > 50
    assert pinned(ours) == pinned(freeze)
    assert commented(ours) == {package["name"] for package in json.loads(editable)}


def test_it_installs(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for venv in (first, second):
        run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=tmp_path)
    pip = (sys.executable, "-m", "pip", "--quiet", "--python")
    run(*pip, str(first), "install", "--no-deps", "six==1.17.0", "iniconfig==2.1.0", cwd=tmp_path)
    requirements = run(str(first / "bin/python"), "-c", PRINT, cwd=tmp_path)
    assert pinned(requirements) == {"iniconfig": "2.1.0", "six": "1.17.0"}
    (tmp_path / "requirements.txt").write_text(requirements)
    run(*pip, str(second), "install", "--no-deps", "-r", "requirements.txt", cwd=tmp_path)
    assert run(str(second / "bin/python"), "-c", PRINT, cwd=tmp_path) == requirements


def install(folder: Path, name: str, version: str, origin: object = None, **files: str) -> None:
    """What an installer leaves of a package in a folder of `sys.path`."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: text\n")
    if origin is not None:
        (info / "direct_url.json").write_text(origin if isinstance(origin, str) else json.dumps(origin))
    for file, text in files.items():
        (info / file).write_text(text)


def git(url: str, **more: str) -> dict[str, object]:
    return {"url": url, "vcs_info": {"vcs": "git", "requested_revision": "main", "commit_id": "ab12"}, **more}


LINES = [
    ("1.0", None, "a.b-C==1.0"),
    ("2.13.0+cpu", None, "a.b-C==2.13.0  # 2.13.0+cpu"),
    ("1!2.0rc1.post2.dev3", None, "a.b-C==1!2.0rc1.post2.dev3"),
    ("2004d", None, "a.b-C===2004d"),
    ("1.0", git("https://github.com/o/r.git"), "a.b-C @ git+https://github.com/o/r.git@ab12"),
    ("1.0", git("https://u:secret@host/r"), "a.b-C @ git+https://host/r@ab12"),
    ("1.0", git("https://secret@host/r", subdirectory="x"), "a.b-C @ git+https://host/r@ab12#subdirectory=x"),
    ("1.0", git("ssh://git@host/r"), "a.b-C @ git+ssh://git@host/r@ab12"),
    ("1.0", git("file:///srv/r"), "# a.b-C==1.0 is installed from /srv/r"),
    ("1.0", {"url": "https://host/c.whl", "archive_info": {}}, "a.b-C @ https://host/c.whl"),
    (
        "1.0",
        {"url": "https://u:secret@host/c.whl?sig=secret", "archive_info": {"hashes": {"sha256": "abc"}}},
        "a.b-C @ https://host/c.whl#sha256=abc",
    ),
    ("1.0", {"url": "https://host/c.whl", "archive_info": {"hash": "sha256=abc"}}, "a.b-C @ https://host/c.whl#sha256=abc"),
    ("1.0", {"url": "file:///w/c%20d.whl", "archive_info": {}}, "# a.b-C==1.0 is installed from /w/c%20d.whl"),
    ("1.0", {"url": "file:///w", "dir_info": {}}, "# a.b-C==1.0 is installed from /w"),
    ("1.0", {"url": "file:///w", "dir_info": {"editable": True}}, "# a.b-C==1.0 is an editable install from /w"),
    ("1.0", "no json", "a.b-C==1.0"),
    ("1.0", "[]", "a.b-C==1.0"),
]  # fmt: skip


@pytest.mark.parametrize(("version", "origin", "line"), LINES)
def test_line(tmp_path: Path, version: str, origin: object, line: str) -> None:
    install(tmp_path, "a.b-C", version, origin)
    assert read_packages([str(tmp_path)]).splitlines()[2:] == [line]


def test_condas_builds_name_the_machine_that_built_them(tmp_path: Path) -> None:
    install(tmp_path, "numpy", "2.0", {"url": "file:///home/conda/work", "dir_info": {}}, INSTALLER="conda\n")
    assert read_packages([str(tmp_path)]).splitlines()[2:] == ["numpy==2.0"]


def test_the_first_folder_wins_as_in_import_and_the_order_is_that_of_names(tmp_path: Path) -> None:
    install(tmp_path / "1", "Zlib_x", "1.0")
    install(tmp_path / "2", "zlib-X", "2.0")
    install(tmp_path / "2", "Abc", "3.0")
    install(tmp_path / "2", "~bc", "2.9")
    install(tmp_path / "2", "pip", "25.0")
    (tmp_path / "2/bad-1.dist-info").mkdir()
    (tmp_path / "2/latin-1.dist-info").mkdir()
    (tmp_path / "2/latin-1.dist-info/METADATA").write_bytes(b"Name: latin\nAuthor: \xe9\nVersion: 1\n")
    text = read_packages([str(tmp_path / "1"), str(tmp_path / "2")])
    assert text.splitlines()[2:] == ["Abc==3.0", "Zlib_x==1.0"]


def test_what_pip_could_not_remove_is_not_installed(tmp_path: Path) -> None:
    install(tmp_path, "six", "1.0")
    (tmp_path / "six-1.0.dist-info").rename(tmp_path / "~ix-1.0.dist-info")
    assert read_packages([str(tmp_path)]).splitlines()[2:] == []


def test_sources_on_the_path_cannot_be_installed_elsewhere(tmp_path: Path) -> None:
    info = tmp_path / "src/mine.egg-info"
    info.mkdir(parents=True)
    (info / "PKG-INFO").write_text("Name: mine\nVersion: 0.1\n")
    (tmp_path / "pyproject.toml").touch()
    path = [str(tmp_path / "src")]
    assert read_packages(path).splitlines()[2:] == [f"# mine==0.1 is used from its sources in {tmp_path}"]
    (tmp_path / "pyproject.toml").unlink()
    assert read_packages(path).splitlines()[2:] == ["mine==0.1"]


def test_the_first_line_says_the_interpreter() -> None:
    assert read_packages([]).startswith(f"# CPython {sys.version.split()[0]} on ")
