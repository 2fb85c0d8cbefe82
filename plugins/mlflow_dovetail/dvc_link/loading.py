"""Data by their address, from wherever they lie: the work tree, DVC's cache, a remote, a commit, a clone."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mlflow_dovetail.dvc_link.address import DataAddress
from mlflow_dovetail.dvc_link.content import NotThere, Objects, Place, Together, Tree, digest_of_path
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.redact import strip_url_credentials

if TYPE_CHECKING:
    from dvc.repo import Repo
    from dvc_data.hashfile.db import HashFileDB


def load(address: DataAddress, dst_path: str | Path | None = None) -> Path:
    """Copy what an address means into a folder; see `DvcDatasetSource.load`."""
    _check(address)
    if dst_path is not None:
        folder = Path(dst_path)
        folder.mkdir(parents=True, exist_ok=True)
        return _load_into(folder, address)
    folder = Path(tempfile.mkdtemp(prefix="dovetail-data-"))
    with ExitStack() as on_error:
        on_error.callback(shutil.rmtree, folder, ignore_errors=True)
        loaded = _load_into(folder, address)
        on_error.pop_all()
    return loaded


def _check(address: DataAddress) -> None:
    if address.digest and not address.is_md5:
        raise DovetailError(
            f"Cannot load {address.path} by its content.",
            f"DVC has no copy of it, and of its version knows only {address.digest!r}.",
            f"Read {address.path} itself.",
        )
    try:
        import dvc.repo  # noqa: F401
    except ImportError as error:
        raise DovetailError(
            f"Cannot load {_told(address)}.", "DVC is not installed here.", "Run `pip install dvc`, and load it again."
        ) from error


def _load_into(folder: Path, address: DataAddress) -> Path:
    with ExitStack() as stack:
        repositories = _Repositories(address, stack)
        digest = address.digest or _digest_at_rev(repositories)
        target = folder / address.file_name
        if target.exists():
            return _is_there_already(target, digest)
        # In the folder itself, so that a rename is all that is left to do.
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder, prefix=".dovetail-")))
        _copy(repositories, digest, scratch).rename(target)
        return target


def _is_there_already(target: Path, digest: str) -> Path:
    if digest_of_path(target) == digest:
        return target
    raise DovetailError(
        f"Cannot load {target.name} into {target.parent}.",
        "Something of this name is there already, with another content.",
        "Name another folder, or move it away.",
    )


def _copy(repositories: _Repositories, digest: str, scratch: Path) -> Path:
    for number, place in enumerate(repositories.places()):
        attempt = scratch / str(number)
        attempt.mkdir()
        try:
            place.copy(digest, attempt / "data")
            return attempt / "data"
        except NotThere:
            shutil.rmtree(attempt)
            repositories.told.update(place.told)
    raise _nowhere(repositories)


def _digest_at_rev(repositories: _Repositories) -> str:
    for tree in repositories.trees_at_rev():
        try:
            return tree.digest()
        except NotThere:
            repositories.told.update(tree.told)
    raise _nowhere(repositories)


def _nowhere(repositories: _Repositories) -> DovetailError:
    address = repositories.address
    looked = "; ".join(f"{label}: {why}" for label, why in repositories.told.items())
    remedy = "Run `dvc push` where the data are, and load them again."
    if repositories.here is None and not address.url:
        remedy = "Load them inside a clone of their repository, or name its URL."
    return DovetailError(f"Cannot load {_told(address)}.", f"Looked in: {looked or 'no place'}.", remedy)


def _told(address: DataAddress) -> str:
    version = f"md5 {address.digest}" if address.digest else f"rev {address.rev}"
    return f"{address.path} ({version})" if address.path else version


class _Repositories:
    """The repositories that may have the data, opened when their turn comes, closed with the stack.

    Attributes:
        told: Where was looked, and why in vain.
    """

    def __init__(self, address: DataAddress, stack: ExitStack) -> None:
        self.address = address
        self.told: dict[str, str] = {}
        self._stack = stack
        self._stores: dict[tuple[str, str], Objects] = {}

    @cached_property
    def here(self) -> Repo | None:
        """The one around the working directory."""
        return self._open("the working directory", _open_here)

    @cached_property
    def _here_at_rev(self) -> Repo | None:
        rev, here = self.address.rev, self.here
        if here is None or not rev:
            return None
        return self._open(f"commit {rev[:12]} in {here.root_dir}", lambda: _open_at(here, rev))

    @cached_property
    def _elsewhere(self) -> Repo | None:
        url, rev = self.address.url, self.address.rev
        if not url:
            return None
        found = self._open(f"commit {rev[:12]} in {url}", lambda: _open_url(url, rev)) if rev else None
        # By hash, the remotes of its newest commit may do.
        return found or self._open(url, lambda: _open_url(url, None))

    def places(self) -> Iterator[Place]:
        """Every place to look in, the nearest first."""
        path = self.address.path
        if self.here is not None:
            if path:
                label = f"the work tree of {self.here.root_dir}"
                where = str(Path(self.here.root_dir, path))
                yield Tree(label, self.here.fs, where, self.here.cache.local, self.here.dvcignore)
            yield from self._objects(self.here)
        for repo in self._with_rev():
            yield from self._objects(repo)
            yield from self._tree(repo)

    def trees_at_rev(self) -> Iterator[Tree]:
        for repo in self._with_rev():
            yield from self._tree(repo)

    def _with_rev(self) -> Iterator[Repo]:
        if self._here_at_rev is not None:
            yield self._here_at_rev
        if self._elsewhere is not None:
            yield self._elsewhere

    def _tree(self, repo: Repo) -> Iterator[Tree]:
        path = PurePosixPath(self.address.path)
        if self.address.path and self.address.rev and not path.is_absolute() and ".." not in path.parts:
            label = f"commit {self.address.rev[:12]} in {_place_of(repo)}"
            yield Tree(label, repo.dvcfs, f"/{path}", repo.cache.local)

    def _objects(self, repo: Repo) -> Iterator[Together]:
        """All caches and remotes known so far, if this repository has one more."""
        known = len(self._stores)
        names = dict.fromkeys((self.address.remote, repo.config["core"].get("remote", "")))
        self._add((f"DVC's cache {one.path}", one) for one in (repo.cache.local, repo.cache.legacy) if one)
        for name in filter(None, names):
            self._add(self._remote(repo, name))
        if len(self._stores) > known:
            yield Together(list(self._stores.values()))

    def _add(self, stores: Iterable[tuple[str, HashFileDB]]) -> None:
        for label, odb in stores:
            self._stores.setdefault((label, odb.hash_name), Objects(label, odb))

    def _remote(self, repo: Repo, name: str) -> Iterator[tuple[str, HashFileDB]]:
        label = f"the remote {name!r}"
        try:
            odbs = [repo.cloud.get_remote_odb(name, hash_name=kind) for kind in ("md5", "md5-dos2unix")]
        except Exception as error:  # noqa: BLE001 - of a configuration, a scheme, a package that is missing
            self.told[f"{label} of {_place_of(repo)}"] = _first_line(error)
            return
        address = strip_url_credentials(str(odbs[1].fs.unstrip_protocol(odbs[1].path)))
        yield from ((f"{label} ({address})", odb) for odb in odbs)

    def _open(self, label: str, opening: Callable[[], Repo]) -> Repo | None:
        try:
            return self._stack.enter_context(opening())
        except Exception as error:  # noqa: BLE001 - DVC raises errors of many packages; the next place may have it
            self.told[label] = _first_line(error)
            return None


def _open_here() -> Repo:
    from dvc.repo import Repo

    return Repo()


def _open_at(here: Repo, rev: str) -> Repo:
    """A commit in the repository of `here`, whose root need not be git's."""
    from dvc.fs import GitFileSystem
    from dvc.repo import Repo
    from dvc.scm import SCM

    scm = SCM(here.root_dir)
    fs = GitFileSystem(scm=scm, rev=rev)
    root = Path(here.root_dir).resolve().relative_to(Path(scm.root_dir).resolve())
    return Repo(str(PurePosixPath("/", root.as_posix())), fs=fs, scm=scm)


def _open_url(url: str, rev: str | None) -> Repo:
    from dvc.repo import Repo

    _delete_clones_at_exit()
    return Repo.open(url, rev=rev)


@cache
def _delete_clones_at_exit() -> None:
    """DVC deletes them at the end of its own commands only; while the process lives, one clone serves many loads."""
    from dvc.repo.open_repo import clean_repos

    atexit.register(clean_repos)


def _place_of(repo: Repo) -> str:
    return strip_url_credentials(str(repo.url or (repo.scm.root_dir if repo.root_dir == "/" else repo.root_dir)))


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
