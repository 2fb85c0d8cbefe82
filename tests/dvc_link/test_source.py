"""Data by their content: real git, DVC and MLflow, a local DVC remote, and a machine that has only the network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow.data.dataset_source_registry import DatasetSourceRegistry

from mlflow_dovetail import entry_points
from mlflow_dovetail.dvc_link.address import DataAddress, dataset_input
from mlflow_dovetail.dvc_link.content import digest_of_path
from mlflow_dovetail.dvc_link.records import Item
from mlflow_dovetail.dvc_link.source import DvcDatasetSource
from mlflow_dovetail.errors import DovetailError

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
ENTRY = "mlflow_dovetail.entry_points:DvcDatasetSource"
IMAGES = {"1.txt": b"one", "same.txt": b"one", "sub/2.txt": b"two", "empty.txt": b""}
CODE = {"a.py": b"a = 1\n", "deep/b.py": b"b = 1\n"}
FILE, FOLDER = "data/x.csv", "data/images"
NEVER = "0" * 40


@dataclass(frozen=True)
class Project:
    """A DVC project with two commits: `data/x.csv` and `code` differ between them, `data/images` does not."""

    root: Path
    storage: Path
    url: str
    first: str
    second: str

    def digest(self, path: str) -> str:
        return digest_of_path(self.root / path)

    def object_in(self, place: Path, digest: str) -> Path:
        return place / "files" / "md5" / digest[:2] / digest[2:]

    def cached(self, digest: str) -> Path:
        return self.object_in(self.root / ".dvc" / "cache", digest)

    def stored(self, digest: str) -> Path:
        return self.object_in(self.storage, digest)


def run(folder: Path, *commands: str) -> str:
    for command in commands:
        done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def contents(path: str | Path) -> dict[str, bytes]:
    root = Path(path)
    return {one.relative_to(root).as_posix(): one.read_bytes() for one in root.rglob("*") if one.is_file()}


def damage(path: Path) -> None:
    """Other bytes of the same length, and read-only as DVC leaves its objects."""
    path.chmod(0o644)
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    path.chmod(0o444)


def lose(*paths: Path) -> None:
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def machine(home: Path) -> dict[str, str]:
    """The environment of a person at a machine: nothing of the one that the test runs on."""
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitconfig").write_text("[user]\n\tname = T\n\temail = t@example.org\n[safe]\n\tdirectory = *\n")
    return {
        "HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
        "DVC_SITE_CACHE_DIR": str(home / "site"),
        "DVC_GLOBAL_CONFIG_DIR": str(home / "config"),
        "DVC_SYSTEM_CONFIG_DIR": str(home / "system"),
        "DVC_NO_ANALYTICS": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Project:
    base = tmp_path_factory.mktemp("master")
    root, storage = base / "project", base / "storage"
    root.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for key, value in machine(base / "home").items():
            patch.setenv(key, value)
        run(root, "git init -q -b main", "dvc init -q", f"dvc remote add -q -d storage {storage}")
        write(root, {FILE: b"old\r\n", **{f"{FOLDER}/{name}": content for name, content in IMAGES.items()}})
        write(root, {f"code/{name}": content for name, content in CODE.items()})
        run(root, f"dvc add -q {FILE} {FOLDER}", "git add .", "git commit -qm first")
        first = run(root, "git rev-parse HEAD")
        write(root, {FILE: b"new\r\n", "code/a.py": b"a = 2\n"})
        run(
            root,
            f"dvc add -q {FILE}",
            "git commit -qam second",
            "dvc push -q -A",
            "git init -q -b main --bare ../git.git",
        )
        run(root, "git push -q ../git.git main")
    return Project(root, storage, f"file://{base}/git.git", first, run(root, "git rev-parse HEAD"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory in no repository; temporary files of a test lie in its own folder."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_", "DOVETAIL_", "MLFLOW_"))]:
        monkeypatch.delenv(name)
    for key, value in machine(tmp_path / "home").items():
        monkeypatch.setenv(key, value)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def project(master: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of the project and of its remote, to break, with the working directory in it."""
    shutil.copytree(master.root, tmp_path / "project", symlinks=True)
    shutil.copytree(master.storage, tmp_path / "storage")
    config = f"['remote \"storage\"']\n    url = {tmp_path / 'storage'}\n"
    (tmp_path / "project/.dvc/config.local").write_text(config)
    monkeypatch.chdir(tmp_path / "project" / "data")
    return Project(tmp_path / "project", tmp_path / "storage", master.url, master.first, master.second)


def source(project: Project, path: str, **more: str) -> DvcDatasetSource:
    return DvcDatasetSource(path, project.digest(path), **more)


# Each of the places alone.


@pytest.mark.parametrize("place", ["work tree", "cache", "remote"])
def test_a_file_is_loaded_from_each_place_alone(project: Project, place: str) -> None:
    wanted = source(project, FILE)
    keep_only(project, FILE, place)
    loaded = Path(wanted.load())
    assert loaded.name == "x.csv"
    assert loaded.read_bytes() == b"new\r\n"


@pytest.mark.parametrize("place", ["work tree", "cache", "remote"])
def test_a_folder_is_loaded_from_each_place_alone(project: Project, place: str) -> None:
    wanted = source(project, FOLDER)
    assert wanted.digest.endswith(".dir")
    keep_only(project, FOLDER, place)
    loaded = wanted.load()
    assert Path(loaded).name == "images"
    assert contents(loaded) == IMAGES


def keep_only(project: Project, path: str, place: str) -> None:
    places = {"work tree": project.root / path, "cache": project.root / ".dvc/cache", "remote": project.storage}
    lose(*(one for name, one in places.items() if name != place and one.exists()))


def test_each_place_may_have_a_part_of_a_folder(project: Project) -> None:
    wanted = source(project, FOLDER)
    lose(project.root / FOLDER, project.cached(md5(b"one")), project.stored(md5(b"two")), project.stored(wanted.digest))
    assert contents(wanted.load()) == IMAGES


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def test_the_named_remote_is_asked_before_the_default_one(project: Project, tmp_path: Path) -> None:
    wanted = source(project, FILE, remote="other")
    project.storage.rename(tmp_path / "other")
    with (project.root / ".dvc/config.local").open("a") as config:
        config.write(f"['remote \"other\"']\n    url = {tmp_path / 'other'}\n")
    lose(project.root / FILE, project.root / ".dvc/cache")
    assert Path(wanted.load()).read_bytes() == b"new\r\n"
    with pytest.raises(DovetailError, match="dvc push"):
        source_without_remote = DvcDatasetSource(FILE, wanted.digest)
        source_without_remote.load()


def test_a_remote_that_is_not_configured_here_does_not_keep_the_default_one_from_being_asked(project: Project) -> None:
    wanted = source(project, FILE, remote="theirs")
    lose(project.root / FILE, project.root / ".dvc/cache")
    assert Path(wanted.load()).read_bytes() == b"new\r\n"


# Content decides, not names.


@pytest.mark.parametrize("is_hidden", [False, True])
def test_a_changed_file_in_the_work_tree_is_not_taken(project: Project, is_hidden: bool) -> None:
    """Also with the size and the time it had, by which DVC would know its hash."""
    wanted = source(project, FILE)
    wanted.load()
    before = (project.root / FILE).stat()
    (project.root / FILE).write_bytes(b"bad\r\n" if is_hidden else b"edited\r\n")
    if is_hidden:
        os.utime(project.root / FILE, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert Path(wanted.load()).read_bytes() == b"new\r\n"
    lose(project.root / ".dvc/cache", project.storage)
    with pytest.raises(DovetailError, match=r"work tree of .*: it has another content there"):
        wanted.load()


@pytest.mark.parametrize("change", ["edited", "deleted", "added"])
def test_a_changed_folder_in_the_work_tree_is_not_taken(project: Project, change: str) -> None:
    wanted = source(project, FOLDER)
    folder = project.root / FOLDER
    {"edited": lambda: (folder / "1.txt").write_bytes(b"two"), "deleted": (folder / "empty.txt").unlink}.get(
        change, (folder / "more.txt").touch
    )()
    assert contents(wanted.load()) == IMAGES


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_a_damaged_object_in_the_cache_is_refused_and_left_alone(project: Project, path: str) -> None:
    wanted = source(project, path)
    broken = project.cached(wanted.digest if path == FILE else md5(b"one"))
    expected = (project.root / path).read_bytes() if path == FILE else IMAGES
    damage(broken)
    bytes_before = broken.read_bytes()
    lose(project.root / path)
    loaded = wanted.load()
    assert (Path(loaded).read_bytes() if path == FILE else contents(loaded)) == expected
    lose(project.storage)
    with pytest.raises(DovetailError, match=r"DVC's cache .*: damaged"):
        wanted.load()
    assert broken.read_bytes() == bytes_before


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_a_damaged_object_on_the_remote_is_refused(project: Project, path: str) -> None:
    wanted = source(project, path)
    damage(project.stored(wanted.digest if path == FILE else md5(b"two")))
    lose(project.root / path, project.root / ".dvc/cache")
    with pytest.raises(DovetailError, match=r"the remote 'storage' .*: damaged"):
        wanted.load()


def test_a_damaged_list_of_a_folder_is_refused(project: Project) -> None:
    wanted = source(project, FOLDER)
    damage(project.cached(wanted.digest))
    lose(project.root / FOLDER, project.storage)
    with pytest.raises(DovetailError, match=r"DVC's cache .*: damaged"):
        wanted.load()


@pytest.mark.parametrize("name", ["../escaped.txt", "/ABSOLUTE/escaped.txt", "a/../../escaped.txt", ""])
def test_a_list_that_leads_out_of_its_folder_is_refused(project: Project, tmp_path: Path, name: str) -> None:
    name = name.replace("/ABSOLUTE", str(tmp_path))
    listing = json.dumps([{"md5": md5(b"one"), "relpath": name}]).encode()
    digest = f"{md5(listing)}.dir"
    write(project.root, {str(project.cached(digest)): listing})
    with pytest.raises(DovetailError, match="Cannot load"):
        DvcDatasetSource(digest=digest).load(tmp_path / "out")
    assert not list(tmp_path.rglob("escaped.txt"))


def test_a_file_of_dvc_2_comes_with_its_own_line_ends_though_its_hash_is_without(project: Project) -> None:
    old = md5(b"text\n")
    place = project.root / ".dvc/cache" / old[:2] / old[2:]
    write(project.root, {str(place): b"text\r\n"})
    assert Path(DvcDatasetSource(digest=old).load()).read_bytes() == b"text\r\n"
    place.write_bytes(b"test\r\n")
    with pytest.raises(DovetailError, match="damaged"):
        DvcDatasetSource(digest=old).load()


# Revisions, without another machine.


def test_a_revision_alone_is_enough(project: Project) -> None:
    assert Path(DvcDatasetSource(FILE, rev=project.first).load()).read_bytes() == b"old\r\n"
    assert Path(DvcDatasetSource(FILE, rev=project.second).load()).read_bytes() == b"new\r\n"


def test_a_folder_and_a_file_in_it_at_a_revision(project: Project) -> None:
    lose(project.root / FOLDER)
    assert contents(DvcDatasetSource(FOLDER, rev=project.first).load()) == IMAGES
    assert Path(DvcDatasetSource(f"{FOLDER}/sub/2.txt", rev=project.first).load()).read_bytes() == b"two"


def test_a_commit_knows_the_hash_and_the_work_tree_has_the_content(project: Project) -> None:
    lose(project.root / ".dvc/cache", project.storage)
    assert contents(DvcDatasetSource(FOLDER, rev=project.first).load()) == IMAGES


def test_what_git_keeps_is_found_by_dvcs_hash_in_its_commit(project: Project) -> None:
    old = project.root.parent / "old"
    write(old, {f"code/{name}": content for name, content in CODE.items()})
    folder = DvcDatasetSource("code", digest_of_path(old / "code"), project.first)
    assert contents(folder.load()) == CODE
    file = DvcDatasetSource("code/a.py", md5(b"a = 1\n"), project.first)
    assert Path(file.load()).read_bytes() == b"a = 1\n"
    with pytest.raises(DovetailError, match=f"commit {project.second[:12]} in .*: it has another content there"):
        DvcDatasetSource("code/a.py", md5(b"a = 1\n"), project.second).load()


def test_a_revision_that_is_not_there(project: Project) -> None:
    with pytest.raises(DovetailError, match=f"commit {NEVER[:12]} in {project.root}: "):
        DvcDatasetSource(FILE, rev=NEVER).load()


def test_a_path_that_is_not_in_the_revision(project: Project) -> None:
    with pytest.raises(DovetailError, match=f"commit {project.first[:12]} in {project.root}: it is not there"):
        DvcDatasetSource("data/y.csv", rev=project.first).load()


def test_a_dvc_project_in_a_sub_directory_of_the_git_repository(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = project.root / "inner"
    write(inner, {"d.csv": b"1\n"})
    run(inner, "dvc init -q --subdir", "dvc add -q d.csv", "git add .", "git commit -qm inner")
    rev = run(inner, "git rev-parse HEAD")
    write(inner, {"d.csv": b"2\n"})
    monkeypatch.chdir(inner)
    assert Path(DvcDatasetSource("d.csv", rev=rev).load()).read_bytes() == b"1\n"


def test_imported_data_come_from_where_they_were_imported(project: Project) -> None:
    """Without a copy in this project's cache, and none on its remote."""
    run(project.root, f"dvc import -q --rev {project.first} -o theirs {project.url} {FOLDER}", "git add theirs.dvc")
    run(project.root, "git commit -qm import")
    wanted = source(project, "theirs", rev=run(project.root, "git rev-parse HEAD"))
    lose(project.root / "theirs", project.root / ".dvc/cache", project.storage)
    assert contents(wanted.load()) == IMAGES


# Nothing of the user's is touched.


def snapshot(*roots: Path) -> dict[str, tuple[int, int, bytes]]:
    found = {}
    for root in roots:
        for one in root.rglob("*"):
            if one.is_file() and ".dvc/tmp" not in one.as_posix():
                about = one.stat()
                found[str(one)] = (about.st_mode, about.st_mtime_ns, one.read_bytes())
    return found


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_loading_adds_and_changes_nothing_in_project_and_remote(project: Project, path: str) -> None:
    wanted = source(project, path, rev=project.second)
    lose(project.root / path)
    lose(*(one for one in (project.root / ".dvc/cache/files/md5").iterdir()))
    before = snapshot(project.root, project.storage)
    wanted.load()
    assert snapshot(project.root, project.storage) == before


def test_what_is_loaded_is_a_copy_also_where_dvc_makes_links(project: Project) -> None:
    run(project.root, "dvc config cache.type hardlink,symlink", "dvc checkout --relink -q")
    assert (project.root / FILE).stat().st_nlink > 1
    files = [source(project, FILE).load(), DvcDatasetSource(FILE, rev=project.first).load()]
    files += [str(Path(source(project, FOLDER).load(), "1.txt"))]
    for file in files:
        about = Path(file).stat()
        assert about.st_nlink == 1
        assert about.st_mode & stat.S_IWUSR
        assert not Path(file).is_symlink()


# The folder to copy into.


def test_the_folder_is_made_and_has_the_data_only(project: Project, tmp_path: Path) -> None:
    loaded = source(project, FILE).load(tmp_path / "a" / "b")
    assert loaded == str(tmp_path / "a/b/x.csv")
    assert [one.name for one in (tmp_path / "a/b").iterdir()] == ["x.csv"]


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_the_folder_may_lie_on_another_disk_than_temporary_files(project: Project, tmp_path: Path, path: str) -> None:
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        assert digest_of_path(Path(source(project, path).load(folder))) == project.digest(path)


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_what_is_there_already_is_good_if_it_is_the_same(project: Project, tmp_path: Path, path: str) -> None:
    wanted = source(project, path)
    assert wanted.load(tmp_path / "out") == wanted.load(tmp_path / "out")


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_what_is_in_the_way_stays(project: Project, tmp_path: Path, path: str) -> None:
    wanted = source(project, path)
    blocking = tmp_path / "out" / Path(path).name
    write(blocking if path == FOLDER else blocking.parent, {"1.txt" if path == FOLDER else "x.csv": b"mine"})
    with pytest.raises(DovetailError, match="Name another folder"):
        wanted.load(tmp_path / "out")
    assert list(contents(tmp_path / "out").values()) == [b"mine"]


def test_without_a_path_the_name_is_the_hash(project: Project) -> None:
    assert Path(DvcDatasetSource(digest=project.digest(FOLDER)).load()).name == project.digest(FOLDER)[:32]


def test_a_failed_load_leaves_nothing(project: Project, tmp_path: Path) -> None:
    with pytest.raises(DovetailError):
        DvcDatasetSource(FILE, "0" * 32).load()
    with pytest.raises(DovetailError):
        DvcDatasetSource(FILE, "0" * 32).load(tmp_path / "out")
    assert not list((tmp_path / "tmp").iterdir())
    assert not list((tmp_path / "out").iterdir())


# In vain.


@pytest.mark.parametrize("path", [FILE, FOLDER])
def test_the_error_says_where_was_looked_and_what_to_do(project: Project, path: str) -> None:
    wanted = source(project, path, rev=project.second)
    lose(project.root / path, project.root / ".dvc/cache", project.storage)
    with pytest.raises(DovetailError) as raised:
        wanted.load()
    told = str(raised.value)
    for place in (
        "the work tree of",
        "DVC's cache",
        f"the remote 'storage' ({project.storage})",
        f"commit {project.second[:12]}",
    ):
        assert place in told
    assert "Run `dvc push` where the data are" in told


def test_a_hash_alone_in_no_repository_needs_one() -> None:
    with pytest.raises(DovetailError, match="inside a clone of their repository, or name its URL"):
        DvcDatasetSource(digest="0" * 32).load()


def test_a_remote_that_cannot_be_asked_is_named(project: Project) -> None:
    wanted = source(project, FILE)
    lose(project.root / FILE, project.root / ".dvc/cache")
    (project.root / ".dvc/config.local").write_text("['remote \"storage\"']\n    url = ssh://u:secret@h.invalid/p\n")
    with pytest.raises(DovetailError, match=r"the remote 'storage'.*: ImportError: ") as raised:
        wanted.load()
    assert "secret" not in str(raised.value)


def test_a_url_that_cannot_be_cloned_is_named(tmp_path: Path) -> None:
    with pytest.raises(DovetailError, match=f"file://{tmp_path}/none.git: "):
        DvcDatasetSource(digest="0" * 32, url=f"file://{tmp_path}/none.git").load()


def test_every_repository_is_closed(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from dvc.repo import Repo

    opened, closed = [], []
    make, close = Repo.__init__, Repo.close
    monkeypatch.setattr(Repo, "__init__", lambda self, *a, **k: (make(self, *a, **k), opened.append(self))[0])
    monkeypatch.setattr(Repo, "close", lambda self: (close(self), closed.append(self))[0])
    source(project, FILE).load()
    with pytest.raises(DovetailError):
        DvcDatasetSource(FILE, "0" * 32, rev=project.first, url=project.url).load()
    assert len(opened) >= 4
    assert {id(one) for one in opened} == {id(one) for one in closed}


def test_threads_may_load_at_once(project: Project) -> None:
    wanted = source(project, FOLDER)
    with ThreadPoolExecutor(4) as pool:
        assert [contents(one) for one in pool.map(lambda _: wanted.load(), range(4))] == [IMAGES] * 4


# Another machine, and fresh processes.

LOAD = """
import json, sys, tempfile
from pathlib import Path
from mlflow_dovetail.dvc_link.source import DvcDatasetSource
for fields in json.loads(sys.argv[1]):
    path = Path(DvcDatasetSource(**fields).load("out"))
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    found = {one.relative_to(path).as_posix(): one.read_bytes().decode() for one in files}
    print(json.dumps([sorted(one.name for one in Path(tempfile.gettempdir()).iterdir()), found]))
    (path.rename("out/" + str(len(list(Path("out").iterdir()))) + "-was"))
"""

Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python(tmp_path: Path) -> Python:
    """A fresh process, at a machine of its own, with Dovetail as it is installed here."""

    def start(code: str, *arguments: str, cwd: Path, plugins: Path = PLUGINS) -> subprocess.CompletedProcess[str]:
        home = tmp_path / "their-home"
        path = os.pathsep.join([str(tmp_path / "site"), str(plugins)])
        environment = {**os.environ, **machine(home), "PYTHONPATH": path, "TMPDIR": str(home / "tmp")}
        (home / "tmp").mkdir(exist_ok=True)
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done

    return start


def test_another_machine_loads_the_same_bytes_by_revision_and_by_hash(
    python: Python, master: Project, elsewhere: Path, tmp_path: Path
) -> None:
    """No clone of the repository, no cache: the network alone, here two folders."""
    images, code = {name: content.decode() for name, content in IMAGES.items()}, master.digest("code")
    python_files = {"a.py": "a = 2\n", "deep/b.py": "b = 1\n"}
    wanted = [
        ({"path": FILE, "rev": master.first, "url": master.url}, {".": "old\r\n"}),
        ({"path": FILE, "digest": md5(b"old\r\n"), "rev": master.first, "url": master.url}, {".": "old\r\n"}),
        ({"path": FOLDER, "rev": master.second, "url": master.url}, images),
        ({"digest": master.digest(FOLDER), "url": master.url}, images),
        ({"path": FILE, "digest": md5(b"new\r\n"), "rev": NEVER, "url": master.url}, {".": "new\r\n"}),
        ({"path": "code", "digest": code, "rev": master.second, "url": master.url}, python_files),
        ({"path": "code", "rev": master.second, "url": master.url.removeprefix("file://")}, python_files),
    ]
    done = python(LOAD, json.dumps([fields for fields, _ in wanted]), cwd=elsewhere)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [found for _, found in answers] == [expected for _, expected in wanted]
    assert [name.endswith("dvc-clone") for name in answers[-1][0]].count(True) == 1  # it did clone, once for all
    assert not [name for name in (tmp_path / "their-home/tmp").iterdir() if "dvc" in name.name]


def test_a_colleagues_clone_loads_the_same_bytes(python: Python, master: Project, elsewhere: Path) -> None:
    run(elsewhere, f"git clone -q {master.url} clone")
    wanted = [
        ({"digest": md5(b"old\r\n")}, {".": "old\r\n"}),
        ({"path": FILE, "rev": master.first}, {".": "old\r\n"}),
        ({"path": FILE, "digest": md5(b"new\r\n")}, {".": "new\r\n"}),
        ({"digest": master.digest(FOLDER)}, {name: content.decode() for name, content in IMAGES.items()}),
    ]
    done = python(LOAD, json.dumps([fields for fields, _ in wanted]), cwd=elsewhere / "clone")
    assert [json.loads(line)[1] for line in done.stdout.splitlines()] == [expected for _, expected in wanted]
    assert not list((elsewhere / "clone/.dvc").glob("cache/files/md5/*"))


ROUND_TRIP = """
import json, sys, warnings
import mlflow
from mlflow.data.dataset_source_registry import resolve_dataset_source
from mlflow.data.meta_dataset import MetaDataset
from mlflow_dovetail import store
from mlflow_dovetail.dvc_link.address import dataset_input
from mlflow_dovetail.dvc_link.records import Item
uri = "sqlite:///" + sys.argv[1]
items = json.loads(sys.argv[2])
with store.open(uri, "data") as runs:
    run = runs.create_run("0" * 32)
    inputs = [dataset_input(Item(path, digest), stage="dvc.yaml:train", context="train") for path, digest in items]
    runs.log_inputs(run.run_id, inputs)
    assert list(runs.get_run(run.run_id).inputs) == inputs, runs.get_run(run.run_id).inputs
mlflow.set_tracking_uri(uri)
with warnings.catch_warnings():
    warnings.simplefilter("error")
    resolved = resolve_dataset_source(inputs[0].source)
    by_hash = resolve_dataset_source("md5:" + items[0][1])
with mlflow.start_run(run_id=run.run_id):
    mlflow.log_input(MetaDataset(by_hash, name="by hash", digest=items[0][1]))
found = {}
for one in mlflow.get_run(run.run_id).inputs.dataset_inputs:
    source = mlflow.data.get_source(one)
    found[one.dataset.name] = [one.dataset.digest, one.dataset.source_type, repr(source), source.load()]
print(json.dumps([repr(resolved), found]))
"""


def test_a_logged_run_gives_its_data_back(python: Python, project: Project, tmp_path: Path) -> None:
    items = [(path, project.digest(path)) for path in (FILE, FOLDER)]
    lose(project.root / FILE, project.root / FOLDER)
    done = python(ROUND_TRIP, str(tmp_path / "runs.db"), json.dumps(items), cwd=project.root)
    resolved, found = json.loads(done.stdout.splitlines()[-1])
    assert resolved == f"DvcDatasetSource('dvc://{FILE}?md5={items[0][1]}')"
    assert list(found) == [FILE, FOLDER, "by hash"]
    for (path, digest), (logged, kind, shown, _) in zip(items, found.values(), strict=False):
        assert (logged, kind) == (digest, "dvc")
        assert shown == f"DvcDatasetSource('dvc://{path}?md5={digest}')"
    assert Path(found[FILE][3]).read_bytes() == b"new\r\n" == Path(found["by hash"][3]).read_bytes()
    assert contents(found[FOLDER][3]) == IMAGES


REGISTERED = """
import json, sys, warnings
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import mlflow
loaded = sorted({name.partition(".")[0] for name in sys.modules} & {"dvc", "dvc_data", "dvc_objects", "scmrepo"})
from mlflow.data.dataset_source_registry import get_registered_sources
print(json.dumps([[one.__name__ for one in get_registered_sources()], loaded, [str(one.message) for one in told]]))
"""


@pytest.mark.parametrize("first", ["mlflow", "mlflow_dovetail.dvc_link.source"])
def test_mlflow_has_the_source_in_a_fresh_process_and_dvc_is_not_imported(
    python: Python, elsewhere: Path, first: str
) -> None:
    """Whichever is imported first: each imports the other."""
    code = REGISTERED.replace("    import mlflow\n", f"    import {first}\n")
    names, loaded, told = json.loads(python(code, cwd=elsewhere).stdout)
    assert names.count("DvcDatasetSource") == 1
    assert loaded == []
    assert not [one for one in told if "Dvc" in one]


def test_without_dvc_mlflow_has_the_source_and_loading_says_what_is_missing(
    python: Python, project: Project, tmp_path: Path
) -> None:
    write(tmp_path / "site", {"dvc/__init__.py": b"raise ImportError('no dvc here')\n"})
    code = f"{REGISTERED}\ntry:\n  mlflow.data.sources.DvcDatasetSource(digest='0' * 32).load()\n"
    done = python(f"{code}except Exception as error:\n  print(type(error).__name__, error)\n", cwd=project.root)
    registered, error = done.stdout.splitlines()
    assert "DvcDatasetSource" in json.loads(registered)[0]
    assert error.startswith("DovetailError")
    assert "DVC is not installed here. Run `pip install dvc`" in error


@pytest.mark.parametrize("fault", ["raise RuntimeError('broken')", "this is no Python"])
def test_mlflow_can_be_imported_with_a_source_that_cannot(
    python: Python, elsewhere: Path, tmp_path: Path, fault: str
) -> None:
    shutil.copytree(PLUGINS, tmp_path / "broken", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "broken/mlflow_dovetail/dvc_link/dataset_source.py").write_text(fault)
    names, _, told = json.loads(python(REGISTERED, cwd=elsewhere, plugins=tmp_path / "broken").stdout)
    assert "HTTPDatasetSource" in names
    assert "DvcDatasetSource" not in names
    assert len([one for one in told if "DvcDatasetSource cannot be loaded: " in one]) == 1


def test_the_project_declares_the_entry_point() -> None:
    declared = (PLUGINS.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'[project.entry-points."mlflow.dataset_source"]\ndvc = "{ENTRY}"\n' in declared


def test_entry_points_has_no_other_name() -> None:
    assert entry_points.DvcDatasetSource is DvcDatasetSource
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        entry_points.Other  # noqa: B018


# Names of data.

ADDRESSES = [
    (DataAddress("data/x.csv", "0" * 32), f"dvc://data/x.csv?md5={'0' * 32}"),
    (DataAddress(digest="a" * 32 + ".dir"), f"dvc://?md5={'a' * 32}.dir"),
    (DataAddress("data", rev="abc"), "dvc://data?rev=abc"),
    (
        DataAddress("x", "0" * 32, "abc", "git@github.com:a/b.git", "s3"),
        f"dvc://x?md5={'0' * 32}&rev=abc&url=git@github.com:a/b.git&remote=s3",
    ),
    (DataAddress("Ä ?&#%[1].csv", rev="main"), "dvc://%C3%84%20%3F%26%23%25%5B1%5D.csv?rev=main"),
    (DataAddress("a", rev="x&y=z w"), "dvc://a?rev=x%26y%3Dz%20w"),
    (DataAddress("/abs/a", rev="r"), "dvc:///abs/a?rev=r"),
]


@pytest.mark.parametrize(("address", "uri"), ADDRESSES)
def test_an_address_and_its_uri(address: DataAddress, uri: str) -> None:
    assert address.to_uri() == uri
    assert DataAddress.from_uri(uri) == address
    found = DvcDatasetSource.from_json(DvcDatasetSource.from_uri(uri).to_json())
    assert found == DvcDatasetSource(address.path, address.digest, address.rev, address.url, address.remote)
    assert DvcDatasetSource._can_resolve(uri)
    said = (found.path, found.digest, found.rev, found.url, found.remote)
    assert said == (address.path, address.digest, address.rev, address.url, address.remote)


@pytest.mark.parametrize("uri", [f"md5:{'a' * 32}", f"md5:{'A' * 32}", f"MD5:{'a' * 32}"])
def test_a_hash_alone(uri: str) -> None:
    assert DvcDatasetSource._can_resolve(uri)
    assert DvcDatasetSource._resolve(uri) == DvcDatasetSource(digest="a" * 32)


@pytest.mark.parametrize(
    "other", ["md5:abc", f"md5:{'a' * 33}", "a" * 32, "s3://b/c", "data/x.csv", 1, None, Path("x")]
)
def test_other_sources_are_not_ours(other: object) -> None:
    assert not DvcDatasetSource._can_resolve(other)


@pytest.mark.parametrize("uri", ["dvc://", "dvc://data/x.csv", "dvc://?rev=main", "dvc://?url=u"])
def test_a_uri_that_says_too_little(uri: str) -> None:
    with pytest.raises(DovetailError, match=r"dvc://PATH\?md5=HASH"):
        DvcDatasetSource.from_uri(uri)


def test_a_url_loses_its_credentials() -> None:
    found = DvcDatasetSource(digest="0" * 32, url="https://u:secret@host/a.git?token=secret")
    assert found.url == "https://host/a.git"
    assert "secret" not in found.to_uri()


def test_our_source_wins_over_mlflows_own() -> None:
    registry = DatasetSourceRegistry()
    registry.register(DvcDatasetSource)
    json_source = DvcDatasetSource(digest="0" * 32).to_json()
    assert registry.get_source_from_json(json_source, "dvc") == DvcDatasetSource(digest="0" * 32)


INPUTS = [
    ({}, "data/x.csv"),
    ({"stage": "train"}, "data/x.csv"),
    ({"stage": "models/dvc.yaml:train@cnn"}, "models/data/x.csv"),
    ({"stage": "models/dvc.yaml:train", "folder": ""}, "data/x.csv"),
    ({"folder": "models/a"}, "models/a/data/x.csv"),
]


@pytest.mark.parametrize(("given", "path"), INPUTS)
def test_the_dataset_of_a_dependency(given: dict[str, str], path: str) -> None:
    digest = "a" * 32 + ".dir"
    found = dataset_input(Item("data/x.csv", digest), rev="r", url="https://u:p@h/g", remote="s", context="c", **given)
    assert (found.name, found.digest, found.context, found.source_type) == (path, digest, "c", "dvc")
    assert len(found.digest) == 36
    assert found.source == f"dvc://{path}?md5={digest}&rev=r&url=https://h/g&remote=s"


def test_a_dependency_above_its_stage() -> None:
    assert dataset_input(Item("../data/x.csv", "0" * 32), stage="models/dvc.yaml:train").name == "data/x.csv"


def test_long_names_are_cut_as_mlflow_wants() -> None:
    found = dataset_input(Item("d/" * 300 + "x.csv", "e" * 50))
    assert (len(found.name), len(found.digest)) == (500, 36)
    assert found.name.endswith("/x.csv")


def test_what_is_not_there_has_no_dataset() -> None:
    with pytest.raises(DovetailError, match="nothing is there"):
        dataset_input(Item("data/x.csv"), rev="r")


def test_a_remote_file_of_which_dvc_knows_the_etag_only() -> None:
    found = dataset_input(Item("s3://bucket/x.csv", "etag-0123"))
    wanted = DvcDatasetSource.from_uri(found.source)
    assert wanted.digest == "etag-0123"
    with pytest.raises(DovetailError, match=r"Read s3://bucket/x\.csv itself"):
        wanted.load()
