"""Every answer that changes the project."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info < (3, 11):
    pytest.skip("reads TOML", allow_module_level=True)
import tomllib

LICENSES = {
    "MIT": "MIT License",
    "apache-2.0": "Apache License",
    "BSD-3-Clause": "BSD 3-Clause License",
    "proprietary": "All rights reserved",
}


def git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def requirements(project: Path) -> list[str]:
    lines = (project / "requirements.txt").read_text().splitlines()
    return [line for line in lines if "mlflow_dovetail" in line or line.startswith("mlflow-dovetail")]


PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@pytest.mark.parametrize(("license", "version"), [*zip(LICENSES, PYTHONS, strict=True)])
def test_license_and_python(license, version, bake):
    project = bake(license=license, python_version=version, author="Ada Lovelace")
    text = (project / "LICENSE").read_text()
    assert LICENSES[license] in text
    assert ("Ada Lovelace" in text) == (license != "apache-2.0")
    assert f'"{version}"' in (project / ".github" / "workflows" / "ci.yml").read_text()


@pytest.mark.parametrize("author", ['Conan "the" O\'Brien', "Back\\slash", "Zoë 数 😀", "{{ braces }} #<&>"])
def test_any_author_on_one_line_is_sound(author, tmp_path, repository_copy, cookiecutter):
    # Typed, because cookiecutter renders answers of the command line.
    done = cookiecutter(tmp_path, str(repository_copy), stdin=f"\n\n{author}\n\n\n\n")
    assert done.returncode == 0, done.stdout + done.stderr
    project = tmp_path / "digits-classifier"
    table = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert table["authors"] == [{"name": author}]
    assert author in (project / "LICENSE").read_text(encoding="utf-8")


def test_a_name_that_begins_with_a_digit_gets_a_package(bake):
    assert (bake(project_name="3D Shapes") / "project_3d_shapes").is_dir()


@pytest.mark.parametrize("source", ["auto", "wheel"])
def test_a_local_template_gives_a_wheel(source, bake):
    project = bake(dovetail_source=source)
    (wheel,) = (project / "vendor").iterdir()
    assert re.fullmatch(r"mlflow_dovetail-0\.1\.0\+[0-9a-f]{8}-py3-none-any\.whl", wheel.name)
    assert requirements(project) == [f"./vendor/{wheel.name}[all]"]
    assert git(project, "ls-files", "vendor") == f"vendor/{wheel.name}"


def test_a_requirement_is_taken_as_it_is(bake):
    project = bake(dovetail_source="mlflow-dovetail[all]==0.1.0")
    assert requirements(project) == ["mlflow-dovetail[all]==0.1.0"]
    assert not (project / "vendor").exists()


@pytest.fixture
def pushed(tmp_path: Path, repository_copy: Path) -> Path:
    """A clone of the template whose origin is an address with a password, and whose commit is pushed there."""
    clone = tmp_path / "dovetail.git"
    git(tmp_path, "clone", "--quiet", str(repository_copy), str(clone))
    git(clone, "remote", "set-url", "origin", "https://ada:p4ssw0rd@git.example.invalid/dovetail.git")
    return clone


def test_git_names_the_commit_without_the_password(pushed, tmp_path, cookiecutter):
    (tmp_path / "out").mkdir()
    done = cookiecutter(tmp_path / "out", str(pushed), "--no-input", "dovetail_source=git")
    assert done.returncode == 0, done.stdout + done.stderr
    commit = git(pushed, "rev-parse", "HEAD")
    project = tmp_path / "out" / "digits-classifier"
    assert requirements(project) == [f"mlflow-dovetail[all] @ git+https://git.example.invalid/dovetail.git@{commit}"]
    assert not (project / "vendor").exists()
    assert "p4ssw0rd" not in done.stdout + done.stderr
    assert subprocess.run(["git", "grep", "--quiet", "p4ssw0rd"], cwd=project).returncode == 1


def test_git_says_when_changes_stay_behind(pushed, tmp_path, cookiecutter):
    (pushed / "plugins" / "mlflow_dovetail" / "extra.py").write_text("")
    (tmp_path / "out").mkdir()
    done = cookiecutter(tmp_path / "out", str(pushed), "--no-input", "dovetail_source=git")
    assert done.returncode == 0
    assert "Answer `dovetail_source=wheel` to take them along" in done.stderr


@pytest.mark.parametrize("remedy", ["no remote `origin`", "on no remote branch"])
def test_git_is_refused_where_nobody_could_install_it(remedy, pushed, repository_copy, tmp_path, cookiecutter):
    template = repository_copy if "origin" in remedy else pushed
    git(pushed, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "--quiet", "--allow-empty", "-m", "Not pushed")
    (tmp_path / "out").mkdir()
    done = cookiecutter(tmp_path / "out", str(template), "--no-input", "dovetail_source=git")
    assert done.returncode == 1
    assert remedy in done.stderr and "Answer `dovetail_source=wheel`" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_a_template_cloned_from_afar_gives_its_commit(pushed, tmp_path, cookiecutter, bake_environment):
    """`auto`: git's own insteadOf lets an https address answer without a network. Its password is stored nowhere."""
    typed, config = "https://ada:p4ssw0rd@git.example.invalid/dovetail.git", tmp_path / "gitconfig"
    address = typed.replace("ada:p4ssw0rd@", "")
    shutil.copy(bake_environment["GIT_CONFIG_GLOBAL"], config)
    git(tmp_path, "config", "--file", str(config), f"url.{pushed.as_uri()}.insteadOf", typed)
    (tmp_path / "out").mkdir()
    done = cookiecutter(tmp_path / "out", typed, "--no-input", environment={"GIT_CONFIG_GLOBAL": str(config)})
    assert done.returncode == 0, done.stdout + done.stderr
    project, commit = tmp_path / "out" / "digits-classifier", git(pushed, "rev-parse", "HEAD")
    assert requirements(project) == [f"mlflow-dovetail[all] @ git+{address}@{commit}"]
    assert f'"template": "{address}"' in (project / ".cruft.json").read_text()
    assert subprocess.run(["git", "grep", "--quiet", "p4ssw0rd"], cwd=project).returncode == 1
