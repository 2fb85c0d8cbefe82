"""One copy of what the template needs, and bakes of it, for every test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A shell's background job is started with Ctrl-C ignored, and so would be every child that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


ROOT = Path(__file__).resolve().parent.parent
NEEDED = (
    "cookiecutter.json",
    "template",
    "hooks",
    "plugins",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".gitattributes",
)
GIT_CONFIG = "[user]\n\tname = Ada Lovelace\n\temail = ada@example.invalid\n"

# Two of these install an environment, the others bake, train and break things: with a process a core, they must not be
# the ones to wait for at the end.
LONGEST = ("docs", "template", "bake", "faults")

Cookiecutter = Callable[..., subprocess.CompletedProcess[str]]


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def copy_needed(target: Path) -> None:
    """Copy what git tracks or would track: a working tree's caches and environments stay behind."""
    listing = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *NEEDED)
    # The template's own .gitignore hides the data here too; test_result.py holds that it is tracked.
    data = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("template/*/data/raw/digits.csv")]
    for name in {*filter(None, listing.split("\0")), *data}:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first."""

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(ROOT / "tests").parts[0]
        return LONGEST.index(room) if room in LONGEST else len(LONGEST)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def _no_store_chosen() -> Iterator[None]:
    """No test chooses MLflow's store for those that share its process."""
    yield
    utils = sys.modules.get("mlflow.tracking._tracking_service.utils")
    assert utils is None or utils._tracking_uri is None


@pytest.fixture(scope="session")
def bake_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a git identity, and with cookiecutter's own folders in a temporary place."""
    home = tmp_path_factory.mktemp("home")
    (home / "gitconfig").write_text(GIT_CONFIG)
    (home / "cookiecutter.yaml").write_text(f"cookiecutters_dir: {home / 'clones'}\nreplay_dir: {home / 'replay'}\n")
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    config = {"GIT_CONFIG_GLOBAL": str(home / "gitconfig"), "GIT_CONFIG_NOSYSTEM": "1"}
    return {**kept, **config, "COOKIECUTTER_CONFIG": str(home / "cookiecutter.yaml"), "PYTHONUTF8": "1"}


@pytest.fixture(scope="session")
def repository_copy(tmp_path_factory: pytest.TempPathFactory, bake_environment: dict[str, str]) -> Path:
    """A git repository of one commit with what the template needs. Read only: tests share it."""
    target = tmp_path_factory.mktemp("template") / "dovetail"
    copy_needed(target)
    identity = ("-c", "user.name=Ada Lovelace", "-c", "user.email=ada@example.invalid", "-c", "commit.gpgSign=false")
    git(target, "init", "--quiet", "--initial-branch=main")
    git(target, "add", "--all", "--force")
    git(target, *identity, "commit", "--quiet", "-m", "The template")
    return target


@pytest.fixture(scope="session")
def cookiecutter(bake_environment: dict[str, str]) -> Cookiecutter:
    """Run the command: `cookiecutter(directory, *arguments, environment=..., stdin=..., hook_python=...)`."""

    def run(
        directory: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        stdin: str = "",
        hook_python: str = sys.executable,
    ) -> subprocess.CompletedProcess[str]:
        # Cookiecutter runs hooks under sys.executable.
        code = f"import sys; sys.executable = {hook_python!r}; from cookiecutter.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=directory,
            env={**bake_environment, "PWD": str(directory), **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
        )

    return run


@pytest.fixture(scope="session")
def bake(
    tmp_path_factory: pytest.TempPathFactory, repository_copy: Path, cookiecutter: Cookiecutter
) -> Callable[..., Path]:
    """Make a project: `bake(license="MIT", ...)` gives its directory, a new one each time."""

    def run(**answers: str) -> Path:
        directory = tmp_path_factory.mktemp("bake")
        done = cookiecutter(
            directory, str(repository_copy), "--no-input", *(f"{key}={value}" for key, value in answers.items())
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (project,) = directory.iterdir()
        return project

    return run


@pytest.fixture(scope="session")
def baked(bake: Callable[..., Path]) -> Path:
    """The project of the default answers. Read only: tests share it."""
    return bake()
