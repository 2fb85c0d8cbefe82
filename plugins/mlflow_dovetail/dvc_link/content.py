"""Content by its md5, copied out of caches, remotes and trees of files; a copy is looked at before it is believed.

Nothing here asks DVC to check an object: DVC deletes one that is damaged, and it is not ours.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from dvc.fs import FileSystem
    from dvc_data.hashfile._ignore import Ignore
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.obj import HashFile
    from dvc_data.hashfile.tree import Tree as _Folder

ABSENT = "it is not there"
DAMAGED = "damaged: what is there under this hash has another content"
CHANGED = "it has another content there"

_DIRECTORY = ".dir"
_WORKERS = 8  # remotes answer slowly, one file at a time
_Copy = Callable[[str, str, Path], None]


class NotThere(Exception):
    """A place has not got the content; the text says why, without the place."""


class Place(Protocol):
    """Where content may be."""

    @property
    def told(self) -> Mapping[str, str]:
        """Where it has looked in vain, and why."""

    def copy(self, digest: str, target: Path) -> None:
        """Copy a file, or a folder if the digest ends in `.dir`, to a path where nothing is.

        Raises:
            NotThere: Not there, not with this content, or not to be read; something may be left at `target`.
        """


@dataclass(frozen=True)
class Objects:
    """A cache or a remote: single files by their md5, and folders' lists of files. None is asked twice for one."""

    label: str
    odb: HashFileDB
    lacks: dict[str, str] = field(default_factory=dict)

    def copy(self, digest: str, target: Path) -> None:
        """Copy one object.

        Raises:
            NotThere: Not there, or not with this content.
        """
        if digest not in self.lacks:
            why = self._copy(digest, target)
            if not why:
                return
            self.lacks[digest] = why
        raise NotThere(self.lacks[digest])

    def _copy(self, digest: str, target: Path) -> str:
        try:
            self.odb.fs.get_file(self.odb.oid_to_path(digest), str(target))
            return "" if digest.removesuffix(_DIRECTORY) in self._hashes(target) else DAMAGED
        except Exception as error:  # noqa: BLE001 - of any remote's client
            return _cause(error)

    def _hashes(self, path: Path) -> Iterable[str]:
        yield md5_of(path)
        if self.odb.hash_name == "md5-dos2unix":  # of DVC before 3.0
            from dvc_data.hashfile.hash import file_md5

            yield file_md5(str(path), name="md5-dos2unix")


@dataclass(frozen=True)
class Together:
    """Caches and remotes, nearest first, of which each may have a part of a folder.

    Attributes:
        told: Why each has not got it, by label.
    """

    stores: list[Objects]
    told: dict[str, str] = field(default_factory=dict)

    def copy(self, digest: str, target: Path) -> None:
        if not digest.endswith(_DIRECTORY):
            self._copy_object(digest, target)
            return
        listing = target.with_name(f"{target.name}.files")
        self._copy_object(digest, listing)
        _copy_files(read_listing(listing), target, lambda _, md5, to: self._copy_object(md5, to), workers=_WORKERS)

    def _copy_object(self, digest: str, target: Path) -> None:
        for store in self.stores:
            try:
                store.copy(digest, target)
                return
            except NotThere as error:
                if self.told.get(store.label, ABSENT) == ABSENT:
                    self.told[store.label] = str(error)
        raise NotThere(ABSENT)


@dataclass(frozen=True)
class Tree:
    """A file or a folder by its path: in a work tree, or in a commit.

    Args:
        label: What people know it as.
        fs: DVC's file system of the work tree or commit.
        path: In it.
        odb: Of which the table of known hashes is used; nothing is put into it. A bare repository has none.
        ignore: The repository's .dvcignore; None where `fs` minds it.
    """

    label: str
    fs: FileSystem
    path: str
    odb: HashFileDB | None
    ignore: Ignore | None = None
    told: dict[str, str] = field(default_factory=dict)

    def digest(self) -> str:
        """What DVC calls the content; a commit knows it without reading the data.

        Raises:
            NotThere: Nothing is there, or it cannot be read.
        """
        with self._telling():
            known = self.fs.info(self.path).get("md5")
            return str(known or self._content.hash_info.value)

    def copy(self, digest: str, target: Path) -> None:
        with self._telling():
            self._copy(digest, target)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.told[self.label] = _cause(error)
            raise NotThere(self.told[self.label]) from error

    def _copy(self, digest: str, target: Path) -> None:
        content = self._content
        if content.hash_info.value != digest:
            raise NotThere(CHANGED)
        if digest.endswith(_DIRECTORY):
            files = {str(one["relpath"]): str(one["md5"]) for one in cast("_Folder", content).as_list()}
            # Git's objects are read by one thread at a time.
            _copy_files(files, target, lambda name, md5, to: self._copy_file(self.fs.join(self.path, name), md5, to))
        else:
            self._copy_file(self.path, digest, target)

    @cached_property
    def _content(self) -> HashFile:
        from dvc.fs import MemoryFileSystem
        from dvc_data.hashfile.build import build
        from dvc_data.hashfile.db import HashFileDB

        odb = self.odb or HashFileDB(MemoryFileSystem(), "memory://dovetail")
        return build(odb, self.path, self.fs, "md5", ignore=self.ignore, dry_run=True)[2]

    def _copy_file(self, path: str, md5: str, target: Path) -> None:
        """Not with the file system's own `get_file`: DVC's makes a link into the cache where it is set up for links."""
        with self.fs.open(path, "rb") as content, target.open("xb") as copy:
            shutil.copyfileobj(content, copy, 1 << 20)
        if md5_of(target) != md5:
            raise NotThere(CHANGED)


def md5_of(path: Path) -> str:
    """The md5 of a file's bytes."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as content:
        for part in iter(partial(content.read, 1 << 20), b""):
            digest.update(part)
    return digest.hexdigest()


def digest_of_path(path: Path) -> str:
    """What DVC calls a file or a folder, all files in it counted."""
    if not path.is_dir():
        return md5_of(path)
    files = sorted((one.relative_to(path).as_posix(), one) for one in path.rglob("*") if one.is_file())
    listing = json.dumps([{"md5": md5_of(one), "relpath": name} for name, one in files], sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + _DIRECTORY


def read_listing(path: Path) -> dict[str, str]:
    """The files of a folder, from DVC's list of them: relative path to md5.

    Raises:
        NotThere: It is no list, or it names a file outside the folder.
    """
    try:
        files = {str(entry["relpath"]): str(entry["md5"]) for entry in json.loads(path.read_bytes())}
    except (ValueError, TypeError, KeyError) as error:
        raise NotThere("the folder's list of files cannot be read") from error
    for name in files:
        inside = PurePosixPath(name)
        if inside.is_absolute() or ".." in inside.parts or not inside.parts:
            raise NotThere(f"the folder's list of files names {name!r}, which is outside it")
    return files


def _copy_files(files: Mapping[str, str], target: Path, copy: _Copy, *, workers: int = 1) -> None:
    target.mkdir()
    for folder in {(target / name).parent for name in files}:
        folder.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(workers)
    try:
        for _ in pool.map(lambda name: copy(name, files[name], target / name), files):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def _cause(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return ABSENT
    if isinstance(error, NotThere):
        return str(error)
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
