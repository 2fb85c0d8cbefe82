"""`cruft check` and `cruft update` in a project whose template has gone on, with cruft itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

SLUG = "{{cookiecutter.__project_slug}}"
RESULTS = ("dvc.lock", "params.yaml", "metrics.json", "evaluation.json", "mlflow_run.json")
# One line of one file: what the older template has, the newer one, and the user.
CONFLICT = ("configs/model/cnn.yaml", "dropout: 0.2\n", "dropout: 0.25\n", "dropout: 0.5\n")


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.invalid", *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    file.write_text(text.replace(old, new), encoding="utf-8")


@dataclass(frozen=True)
class Baked:
    """A project, its template's clone, and the environment of the commands."""

    project: Path
    template: Path
    environment: Mapping[str, str]

    def cruft(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cruft", *arguments]
        return subprocess.run(command, cwd=self.project, env=self.environment, capture_output=True, text=True)

    def update(self) -> str:
        """Run `cruft update`, which must succeed; what it said."""
        done = self.cruft("update", "--skip-apply-ask")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def release(self) -> str:
        """The newer commit of the template."""
        files = self.template / "template" / SLUG
        edit(files / "README.md", "## Start", "## Begin here")
        edit(files / CONFLICT[0], CONFLICT[1], CONFLICT[2])
        (files / "configs/experiment/newer.yaml").write_text("# @package _global_\nname: newer\n")
        (files / "configs/experiment/baseline.yaml").unlink()
        for name in (*RESULTS, "data/raw/digits.csv.dvc"):
            (files / name).write_text("not to be taken\n")
        with (self.template / "plugins/mlflow_dovetail/names.py").open("a") as plugin:
            plugin.write('NEWER = "yes"\n')
        git(self.template, "add", "--all")
        git(self.template, "commit", "--quiet", "-m", "Newer")
        return git(self.template, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def bake_older(tmp_path_factory, repository_copy, cookiecutter, bake_environment):
    """Bake from a clone of the template, or from an address that git takes for that clone."""

    def run(address: str | None = None) -> Baked:
        folder = tmp_path_factory.mktemp("update")
        template, config = folder / "dovetail.git", folder / "gitconfig"
        git(folder, "clone", "--quiet", str(repository_copy), str(template))
        shutil.copy(bake_environment["GIT_CONFIG_GLOBAL"], config)
        if address:
            git(folder, "config", "--file", str(config), f"url.{template.as_uri()}.insteadOf", address)
        environment = {**bake_environment, "GIT_CONFIG_GLOBAL": str(config)}
        done = cookiecutter(folder, address or str(template), "--no-input", environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return Baked(folder / "digits-classifier", template, environment)

    return run


@pytest.fixture(scope="module")
def updated(bake_older) -> tuple[Baked, str, str]:
    """A project with work and results of its own, after the update; the newer commit, and what cruft said."""
    one: Baked = bake_older()
    assert one.cruft("check").returncode == 0
    edit(one.project / "README.md", "A model that reads", "My model, which reads")
    (one.project / "digits_classifier" / "mine.py").write_text("MINE = True\n")
    (one.project / "data" / "raw" / "digits.csv").write_text("my own data\n")
    for name in (*RESULTS, "data/raw/digits.csv.dvc"):
        (one.project / name).write_text(f"my {name}\n")
    git(one.project, "add", "--all")
    git(one.project, "commit", "--quiet", "-m", "Mine")
    commit = one.release()
    assert one.cruft("check").returncode == 1
    return one, commit, one.update()


def test_check_passes_again(updated):
    one, commit, said = updated
    assert json.loads((one.project / ".cruft.json").read_text())["commit"] == commit
    assert one.cruft("check").returncode == 0
    assert "has been updated" in said


def test_the_work_of_the_user_stays(updated):
    project = updated[0].project
    assert "My model, which reads" in (project / "README.md").read_text()
    assert (project / "digits_classifier" / "mine.py").read_text() == "MINE = True\n"
    assert (project / "data" / "raw" / "digits.csv").read_text() == "my own data\n"
    kept = (*RESULTS, "data/raw/digits.csv.dvc")
    assert {name: (project / name).read_text() for name in kept} == {name: f"my {name}\n" for name in kept}


def test_what_the_template_changed_comes(updated):
    project = updated[0].project
    assert "## Begin here" in (project / "README.md").read_text()
    assert CONFLICT[2] in (project / CONFLICT[0]).read_text()
    assert (project / "configs/experiment/newer.yaml").exists()
    assert not (project / "configs/experiment/baseline.yaml").exists()


def test_the_plugin_comes_with_it(updated, tmp_path):
    """The wheel is the newer commit's, requirements.txt names it, and pip takes it."""
    project = updated[0].project
    (wheel,) = (project / "vendor").iterdir()
    lines = (project / "requirements.txt").read_text().splitlines()
    assert f"./vendor/{wheel.name}[all]" in lines
    assert "@MLFLOW_DOVETAIL@" not in lines
    options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--target", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], cwd=project, check=True)
    assert 'NEWER = "yes"' in (tmp_path / "mlflow_dovetail" / "names.py").read_text()


def test_nothing_else_is_changed(updated):
    """All that git shows is what the newer template has changed; no cache, no repository of a rendering."""
    project = updated[0].project
    names = {line.split()[-1] for line in git(project, "status", "--porcelain", "--no-renames").splitlines()}
    wheels = {name for name in names if name.startswith("vendor/")}
    configs = {f"configs/experiment/{name}.yaml" for name in ("newer", "baseline")}
    assert names - wheels == {".cruft.json", "README.md", "requirements.txt", CONFLICT[0], *configs}
    assert len(wheels) == 2


def test_the_tests_of_the_project_pass(bake_older):
    one: Baked = bake_older()
    one.release()
    one.update()
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/test_configs.py"]
    done = subprocess.run(command, cwd=one.project, env=one.environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "experiment=newer] PASSED" in done.stdout


def test_a_conflict_is_marked_and_said(bake_older):
    one: Baked = bake_older()
    edit(one.project / CONFLICT[0], CONFLICT[1], CONFLICT[3])
    git(one.project, "commit", "--quiet", "--all", "-m", "Mine")
    one.release()
    assert f"Applied patch to '{CONFLICT[0]}' with conflicts" in one.update()
    text = (one.project / CONFLICT[0]).read_text()
    assert "<<<<<<< ours" in text and CONFLICT[2] in text and CONFLICT[3] in text
    assert f"UU {CONFLICT[0]}" in git(one.project, "status", "--porcelain")
    assert (one.project / "configs/experiment/newer.yaml").exists()


def test_from_a_git_address_the_requirement_names_the_newer_commit(bake_older):
    address = "https://git.example.invalid/dovetail.git"
    one: Baked = bake_older(address)
    commit = one.release()
    one.update()
    (line,) = [line for line in (one.project / "requirements.txt").read_text().splitlines() if "dovetail[" in line]
    assert Requirement(line).url == f"git+{address}@{commit}"
    assert not (one.project / "vendor").exists()
    assert one.cruft("check").returncode == 0


def test_uncommitted_work_is_not_touched(bake_older):
    one: Baked = bake_older()
    one.release()
    edit(one.project / "README.md", "## Start", "## Mine")
    done = one.cruft("update", "--skip-apply-ask")
    assert done.returncode == 1
    assert "unclean git project" in done.stdout
    assert git(one.project, "status", "--porcelain") == "M README.md"


def test_a_template_without_its_folder_is_refused(tmp_path, repository_copy, cookiecutter):
    """`--directory template` skips the hooks that make a project whole."""
    done = cookiecutter(tmp_path, str(repository_copy), "--no-input", "--directory", "template")
    assert done.returncode == 1
    assert "Leave out `--directory template`" in done.stderr
    assert list(tmp_path.iterdir()) == []
