"""Bad input: an error of three parts, and nothing half-made left behind."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cookiecutter.generate import generate_context
from cookiecutter.prompt import prompt_for_config
from packaging.requirements import Requirement
from scaffold.answers import check_answers, check_dovetail_source
from scaffold.errors import ScaffoldError
from scaffold.taken import owner_of

BAD_ANSWERS = {
    "project_name=!!!": "Give a name with letters or digits",
    'project_name=The "Best"': "Use letters, digits, spaces and hyphens",
    "project_name=MLflow": "Use for example `project_name='MLflow Project'`",
    "__project_slug=../outside": "Give a name with letters or digits",
    "package_name=My-Package": "Use for example `package_name=my_package`",
    "package_name=3d": "Use for example `package_name=project_3d`",
    "package_name=": "Use for example `package_name=project`",
    "package_name=größe": "Use for example `package_name=gr_e`",
    "package_name=class": "Use for example `package_name=class_project`",
    "package_name=match": "a keyword of Python",
    "package_name=random": "a module of Python's standard library",
    "package_name=configs": "a folder of the project itself",
    "package_name=torch": "a package that the project installs",
    "package_name=sklearn": "a package that the project installs",
    "package_name=pil": "a package that the project installs",
    "package_name=pytorch_lightning": "a package that the project installs",
    "package_name=cookiecutter": "a package already installed",
    "author=": "Give one line",
    "author=Ada\nLovelace": "Give one line",
    "license=GPL": "it is none of MIT, Apache-2.0, BSD-3-Clause, Proprietary",
    "python_version=3.9": "it is none of 3.10, 3.11, 3.12, 3.13",
    "dovetail_source=numpy": "Use `dovetail_source=auto`",
    "dovetail_source=--index-url=x": "Use `dovetail_source=auto`",
    "dovetail_source=mlflow-dovetail\nnumpy": "Use `dovetail_source=auto`",
    "dovetail_source=mlflow-dovetail==0.1.0 --pre": "Use `dovetail_source=auto`",
    "dovetail_source=mlflow-dovetail @ git+https://t0ken@git.example.invalid/a.git": "Use the address without it",
    "dovetail_source=mlflow-dovetail @ https://ada:p4ssw0rd@git.example.invalid/a.whl": "Use the address without it",
}


def tree(directory: Path) -> dict[str, str]:
    """Every file with its content's digest, git's own folder included."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def git(directory: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.invalid")
    command = ["git", *identity, *arguments]
    return subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


def answers_with(answer: str, repository: Path) -> dict[str, str]:
    """What cookiecutter makes of one answer beside the defaults."""
    key, _, value = answer.partition("=")
    context = generate_context(str(repository / "template" / "cookiecutter.json"), extra_context={key: value})
    return prompt_for_config(context, no_input=True)


def test_the_default_answers_are_good(repository_copy):
    check_answers(answers_with("license=mit", repository_copy), repository_copy / "template")


@pytest.mark.parametrize("answer", BAD_ANSWERS)
def test_bad_answer(answer, repository_copy):
    with pytest.raises(ScaffoldError, match=re.escape(BAD_ANSWERS[answer])) as caught:
        check_answers(answers_with(answer, repository_copy), repository_copy / "template")
    what, remedy = str(caught.value).splitlines()
    assert what.startswith("Cannot use ") and ": " in what and remedy.startswith(("Use", "Give"))


@pytest.mark.parametrize("answer", ["package_name=torch", "__project_slug=../outside", "author=Ada\nLovelace"])
def test_bad_answer_leaves_nothing(answer, tmp_path, repository_copy, cookiecutter):
    """No project, and no copy of the template in the temporary folder either."""
    for name in ("in", "temporary"):
        (tmp_path / name).mkdir()
    environment = {"TMPDIR": str(tmp_path / "temporary")}
    done = cookiecutter(tmp_path / "in", str(repository_copy), "--no-input", answer, environment=environment)
    assert done.returncode == 1
    assert BAD_ANSWERS[answer] in done.stderr
    assert list((tmp_path / "in").iterdir()) == []
    # Cookiecutter leaves each hook that it renders.
    assert {path.suffix for path in (tmp_path / "temporary").iterdir()} == {".py"}


@pytest.mark.parametrize(
    "requirement",
    [
        *(
            "mlflow-dovetail",
            "mlflow_dovetail[all]",
            "MLflow.Dovetail[lightning, sweeps] >=0.1,<2",
            "mlflow-dovetail==1.*",
        ),
        "mlflow-dovetail[all] @ git+https://git.example.invalid/dovetail.git@0a1b2c",
        "mlflow-dovetail @ https://git.example.invalid/dovetail.whl#sha256=00",
    ],
)
def test_a_requirement_of_pip_is_good(requirement):
    assert Requirement(requirement)
    check_dovetail_source({"dovetail_source": requirement})


def test_an_editable_install_elsewhere_is_no_reason(tmp_path, monkeypatch, repository_copy):
    """An earlier bake, installed with `-e`, is found outside site-packages; a real install is not."""
    for place in ("earlier", "site-packages"):
        package = tmp_path / place / f"in_{place.replace('-', '_')}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        monkeypatch.syspath_prepend(str(tmp_path / place))
    assert owner_of("in_earlier", repository_copy / "template") is None
    assert "already installed" in (owner_of("in_site_packages", repository_copy / "template") or "")


def test_existing_directory_is_refused_and_untouched(tmp_path, repository_copy, cookiecutter):
    target = tmp_path / "digits-classifier"
    target.mkdir()
    (target / "notes.txt").write_text("mine")
    done = cookiecutter(tmp_path, str(repository_copy), "--no-input")
    assert done.returncode == 1
    assert "already exists" in done.stdout
    assert tree(target) == {"notes.txt": hashlib.sha256(b"mine").hexdigest()}


def test_overwriting_keeps_uncommitted_work(tmp_path, repository_copy, cookiecutter, bake):
    project = bake()
    (project / "README.md").write_text("my own words")
    before = tree(project)
    done = cookiecutter(project.parent, str(repository_copy), "--no-input", "--overwrite-if-exists")
    assert done.returncode == 1
    assert "Commit or stash them" in done.stderr
    before.pop(".git/index"), (after := tree(project)).pop(".git/index")  # git status refreshes its times
    assert after == before


def test_overwriting_keeps_data_of_ones_own(tmp_path, repository_copy, cookiecutter, bake):
    project = bake()
    (project / "data" / "raw" / "digits.csv").write_text("my own data")
    done = cookiecutter(project.parent, str(repository_copy), "--no-input", "--overwrite-if-exists")
    assert done.returncode == 1
    assert "Move it away" in done.stderr
    assert (project / "data" / "raw" / "digits.csv").read_text() == "my own data"


def test_overwriting_a_clean_repository_keeps_its_history(repository_copy, cookiecutter, bake):
    project = bake()
    (project / "README.md").write_text("my own words")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "-m", "Mine")
    history = git(project, "log", "--format=%H")
    done = cookiecutter(project.parent, str(repository_copy), "--no-input", "-f")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Review `git diff`" in done.stderr
    assert git(project, "log", "--format=%H") == history
    assert git(project, "show", "HEAD:README.md") == "my own words"


def test_no_git(tmp_path, repository_copy, cookiecutter):
    done = cookiecutter(tmp_path, str(repository_copy), "--no-input", environment={"PATH": str(tmp_path / "nowhere")})
    assert done.returncode == 1
    assert "there is no `git` on PATH" in done.stderr and "Install git" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_commit_that_cannot_be_made(tmp_path, repository_copy, cookiecutter):
    """A git that fails at `commit`: its own words are passed on, and the project is gone."""
    real, fake = shutil.which("git"), tmp_path / "bin" / "git"
    fake.parent.mkdir()
    test = 'for word in "$@"; do [ "$word" = commit ] && { echo "disk full" >&2; exit 1; }; done'
    fake.write_text(f'#!/bin/sh\n{test}\nexec "{real}" "$@"\n')
    fake.chmod(0o755)
    (tmp_path / "in").mkdir()
    done = cookiecutter(
        tmp_path / "in", str(repository_copy), "--no-input", environment={"PATH": f"{fake.parent}:/bin"}
    )
    assert done.returncode == 1
    assert "Cannot run `git commit`" in done.stderr and "disk full" in done.stderr
    assert list((tmp_path / "in").iterdir()) == []


def test_changed_data_is_refused(tmp_path, repository_copy, cookiecutter):
    shutil.copytree(repository_copy, tmp_path / "dovetail")
    data = next((tmp_path / "dovetail").glob("template/*/data/raw/digits.csv"))
    data.write_bytes(data.read_bytes().replace(b"\n", b"\r\n"))
    (tmp_path / "in").mkdir()
    done = cookiecutter(tmp_path / "in", str(tmp_path / "dovetail"), "--no-input")
    assert done.returncode == 1
    assert "core.autocrlf=false" in done.stderr
    assert list((tmp_path / "in").iterdir()) == []


def test_a_broken_placeholder_is_refused(tmp_path, repository_copy, cookiecutter):
    shutil.copytree(repository_copy, tmp_path / "dovetail")
    next((tmp_path / "dovetail").glob("template/*/requirements.txt")).write_text("numpy\n")
    (tmp_path / "in").mkdir()
    done = cookiecutter(tmp_path / "in", str(tmp_path / "dovetail"), "--no-input")
    assert done.returncode == 1
    assert "Restore the file in the template" in done.stderr
    assert list((tmp_path / "in").iterdir()) == []
