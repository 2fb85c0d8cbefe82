"""The first commit, whatever the user's git is set to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

EXPECTED = Path(__file__).with_name("expected_files.txt")


def git(directory: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=directory, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def bake_with(tmp_path: Path, repository_copy: Path, cookiecutter):
    """Bake under a git configuration: `bake_with(text, **environment)` gives the project and what was said."""

    def run(config: str, **environment: str) -> tuple[Path, str]:
        (tmp_path / "gitconfig").write_text(config)
        (tmp_path / "in").mkdir()
        settings = {"GIT_CONFIG_GLOBAL": str(tmp_path / "gitconfig"), **environment}
        done = cookiecutter(tmp_path / "in", str(repository_copy), "--no-input", environment=settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path / "in" / "digits-classifier", done.stderr

    return run


@pytest.mark.parametrize("config", ["", "[user]\n\tname = Ada\n", "[user]\n\temail = ada@example.invalid\n"])
def test_without_an_identity(config, bake_with):
    project, said = bake_with(config)
    assert git(project, "log", "--format=%an <%ae>, %cn <%ce>") == ", ".join(
        2 * ["Dovetail <dovetail@example.invalid>"]
    )
    assert "git config --global user.email" in said
    assert "dovetail" not in git(project, "config", "--local", "--list").lower()


def test_identity_of_the_environment(bake_with):
    names = {f"GIT_{role}_{what}": f"{role}-{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    project, said = bake_with("", **names)
    assert git(project, "log", "--format=%an %ae %cn %ce") == (
        "AUTHOR-NAME AUTHOR-EMAIL COMMITTER-NAME COMMITTER-EMAIL"
    )
    assert said == ""


IDENTITY = "[user]\n\tname = Ada\n\temail = ada@example.invalid\n"


def test_signing_hooks_and_templates_stay_out(bake_with, tmp_path):
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    for name in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-commit"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    settings = f"[core]\n\thooksPath = {hooks}\n[init]\n\ttemplateDir = {hooks.parent}\n"
    signing = "[commit]\n\tgpgSign = true\n[gpg]\n\tprogram = /nonexistent\n"
    project, _ = bake_with(IDENTITY + settings + signing)
    assert git(project, "log", "--format=%s") == "Start from the Dovetail template"
    assert not list((project / ".git" / "hooks").glob("*"))


def test_global_ignore_file_and_line_ends_change_nothing(bake_with, tmp_path, baked, without_hash):
    (tmp_path / "ignore").write_text("*.whl\n*.lock\n.env*\nvendor/\n")
    project, _ = bake_with(
        IDENTITY + f"[core]\n\texcludesFile = {tmp_path / 'ignore'}\n\tautocrlf = true\n\tsafecrlf = true\n"
    )
    assert without_hash(git(project, "ls-files")).splitlines() == EXPECTED.read_text().splitlines()
    assert blobs(project) == blobs(baked)


def blobs(project: Path) -> list[str]:
    return git(project, "ls-tree", "-r", "HEAD").splitlines()


def test_variables_of_a_surrounding_git_are_dropped(bake_with, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    leaked = {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(other / ".git" / "index"),
        "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z",
    }
    project, _ = bake_with(IDENTITY, **leaked)
    assert git(project, "status", "--porcelain") == ""
    assert not git(project, "log", "--format=%ad", "--date=iso").startswith("2001")
    assert not (other / ".git" / "index").exists()


def test_inside_another_repository_it_is_one_of_its_own(bake_with, tmp_path):
    git(tmp_path, "init", "--quiet")
    project, _ = bake_with(IDENTITY)
    assert git(project, "rev-parse", "--show-toplevel") == str(project)
    assert git(tmp_path, "log", "--all", "--format=%s") == ""
