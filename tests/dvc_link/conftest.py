"""Real git and real DVC, with settings and caches of their own; a project is made once a module and copied."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .projects import FILES, Project, make_project


@pytest.fixture(scope="module")
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No settings, caches or analytics of this machine's user."""
    home = tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Tester\n\temail = tester@example.org\n[init]\n\tdefaultBranch = main\n"
        '[protocol "file"]\n\tallow = always\n[safe]\n\tdirectory = *\n'
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_", "DOVETAIL_", "XDG_"))]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setenv("DVC_SITE_CACHE_DIR", str(home / "site"))
        yield


@pytest.fixture(scope="module")
def bases(own_home: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`plain`: one commit A, nothing was run. `ran`: a run on A with an edit, not committed. Copied, not used."""
    plain = make_project(tmp_path_factory.mktemp("plain") / "project", FILES)
    ran = Project(plain.root.parent / "ran")
    shutil.copytree(plain.root, ran.root, symlinks=True)
    ran.edit("params.yaml", "1e-05", "0.2")
    ran.dvc("repro", "--quiet")
    return {"plain": plain.root, "ran": ran.root}


@pytest.fixture
def new_project(bases: dict[str, Path], tmp_path: Path) -> Callable[[str], Project]:
    def make(base: str) -> Project:
        root = tmp_path / uuid.uuid4().hex[:8] / "project"
        shutil.copytree(bases[base], root, symlinks=True)
        return Project(root)

    return make


@pytest.fixture
def plain(new_project: Callable[[str], Project]) -> Project:
    return new_project("plain")


@pytest.fixture
def ran(new_project: Callable[[str], Project]) -> Project:
    return new_project("ran")
