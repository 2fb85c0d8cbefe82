"""Capturing the code of a run: in an index and an object folder of our own, so that the user's are not touched."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import msgspec

from mlflow_dovetail.git_patch import filters as git_filters
from mlflow_dovetail.git_patch.limits import Limits
from mlflow_dovetail.git_patch.records import VERSION, Capture, Captured, LeftOut, shown
from mlflow_dovetail.git_patch.selection import NotCode, bounded, too_large
from mlflow_dovetail.git_patch.trees import (
    GITLINK,
    Change,
    changes,
    empty_tree,
    names,
    set_entries,
    sizes,
    text,
    unchanged,
    with_index,
    with_objects,
    write_tree,
)
from mlflow_dovetail.repository import (
    SETTINGS_CALL,
    DvcOuts,
    Git,
    GitFailed,
    RepositorySettings,
    absolute_remote,
    advice,
    branch_name,
    is_dvc_file,
    read_dvc_outs,
)
from mlflow_dovetail.run_folder import write_whole

CAPTURED_FILE = "captured.json"
# A file with mixed line ends is an error otherwise.
_KEPT_AS_THEY_ARE = ("core.safecrlf=false",)
# One pack for all: 1,000 files, one an object, take four times as long. An earlier git would make a pack of each.
_PACKS_SINCE = (2, 37)
_AS_ONE_PACK = ("core.bigFileThreshold=1", "core.fsync=none")
_NOTHING = "000000"
_DVC_ENDINGS = (b"dvc.yaml", b"dvc.lock", b".dvc")  # of what `is_dvc_file` takes
_ABSENT = "git does not have what it was before: a partial clone"


def capture(
    folders: Sequence[Path],
    into: Path,
    *,
    attempt: int,
    leave_out: Sequence[Path],
    limits: Limits,
    script: Path | None = None,
) -> Capture:
    """Capture the code of the repository that a folder lies in.

    Args:
        folders: The first that lies in a repository counts.
        into: An empty folder, for us alone; new objects and `captured.json` lie there afterwards.
        attempt: Of the run.
        leave_out: Absolute paths that are no code: run folders, the store's database, its artifact root.
        limits: Nothing takes longer than these say.
        script: What runs; kept where there is no repository.

    Raises:
        OSError: `into` cannot be written.
    """
    began = time.monotonic()
    told = Capture(attempt, time.time_ns() // 1_000_000, version=VERSION)
    into.mkdir(parents=True, mode=0o700, exist_ok=True)
    if not limits.seconds:
        told.cause, folders, script = "capturing code is switched off", (), None
    for folder in folders:
        try:
            told.repositories = list(_Capturing(into, leave_out, limits, began).capture(folder))
            told.cause = ""
            break
        except (GitFailed, OSError) as error:
            told.cause = told.cause or (advice(error.cause) if isinstance(error, GitFailed) else str(error))
    if told.cause and script is not None and script.stat().st_size <= limits.file_bytes:
        told.script = script.name
        (into / "script").mkdir()
        shutil.copyfile(script, into / "script" / script.name)
    told.took_ms = round((time.monotonic() - began) * 1000)
    _keep(into, told)
    return told


def give_up(into: Path, attempt: int, cause: str) -> None:
    """Say in place of a capture why there is none.

    Raises:
        OSError: `into` cannot be written.
    """
    _keep(into, Capture(attempt, time.time_ns() // 1_000_000, cause=cause, version=VERSION))


def _keep(into: Path, told: Capture) -> None:
    write_whole(into / CAPTURED_FILE, msgspec.json.encode(told))


@dataclass(frozen=True)
class _Place:
    """A repository, and how git sees it."""

    root: Path
    git_folder: Path
    objects: Path
    commit: str | None
    base: str  # the commit's tree; empty where there is no commit
    packs: bool  # git can put many new objects into one file
    branch: str | None
    remote: str | None
    filters: frozenset[str]


@dataclass(frozen=True)
class _Listing:
    """What a work tree holds, by its index.

    Args:
        changed: Tracked paths that differ from the index, or are in conflict.
        untracked: Not ignored; a folder when it ends in a slash.
        has_conflicts: Of a merge.
        submodules: With a work tree.
        dvc_files: Tracked.
        tracked: The index, as git lists it.
        cause: Why untracked files could not be listed.
    """

    changed: list[str]
    untracked: list[str]
    has_conflicts: bool
    submodules: list[str]
    dvc_files: list[str]
    tracked: bytes
    cause: str


class _Capturing:
    """One capture, repository by repository.

    Args:
        into: The capture's folder.
        leave_out: Absolute paths.
        limits: Of each repository; the seconds are for all together.
        began: On `time.monotonic()`'s clock.
    """

    def __init__(self, into: Path, leave_out: Sequence[Path], limits: Limits, began: float) -> None:
        self._into = into
        self._leave_out = [path.resolve() for path in leave_out]
        self._limits = limits
        self._deadline = began + limits.seconds
        self._half_time = began + limits.seconds / 2
        self._count = 0

    def capture(self, folder: Path, path: str = "") -> Iterator[Captured]:
        """A repository and its submodules.

        Raises:
            GitFailed: The outermost one cannot be captured.
            OSError: There is no room.
        """
        place = self._place(folder)
        own = self._into / str(self._count)
        self._count += 1
        own.mkdir()
        git = self._prepare(place, own)
        listing = self._list(git, place)
        captured = Captured(
            path,
            str(place.root),
            "",
            f"{own.name}/objects",
            place.commit,
            place.branch,
            place.remote,
        )
        try:
            left_out = self._stage(git, place, listing, own)
        except (GitFailed, OSError):  # a file has changed, or gone, while git read it
            git = self._prepare(place, own)
            listing = self._list(git, place)
            left_out = self._stage(git, place, listing, own)
        captured.tree, captured.left_out = self._settle(git, place, listing, left_out)
        yield captured
        for submodule in listing.submodules:
            try:
                yield from self.capture(place.root / submodule, f"{path}/{submodule}" if path else submodule)
            except GitFailed as error:
                captured.left_out.append(LeftOut(shown(f"{submodule}/"), f"submodule: {error.cause}"))

    def _place(self, folder: Path) -> _Place:
        git = Git(folder, deadline=self._deadline)
        version, top, inside, objects, head, branch, settings = git.ask(
            ("version",),
            ("rev-parse", "--show-toplevel"),
            ("rev-parse", "--absolute-git-dir"),
            ("rev-parse", "--path-format=absolute", "--git-path", "objects"),
            ("rev-list", "--no-walk", "--format=tree %T", "HEAD", "--"),
            ("symbolic-ref", "-q", "HEAD"),
            SETTINGS_CALL,
        )
        if top.cause or objects.cause:
            raise GitFailed("rev-parse", top.cause or objects.cause)
        known, name = RepositorySettings.parse(settings.output), branch_name(branch.output)
        remote = known.remote(name)
        commit = dict(line.split(" ") for line in text(head.output).splitlines())
        return _Place(
            root=Path(text(top.output)),
            git_folder=Path(text(inside.output)),
            objects=Path(text(objects.output)),
            commit=commit.get("commit"),
            base=commit.get("tree", ""),
            packs=_version(version.output) >= _PACKS_SINCE,
            branch=shown(name) if name else None,
            remote=shown(absolute_remote(remote, Path(text(top.output)))) if remote else None,
            filters=known.filters,
        )

    def _prepare(self, place: _Place, own: Path) -> Git:
        """Git with a copy of the index, and with a folder of its own for new objects."""
        git = Git(place.root, deadline=self._deadline, settings=(*_KEPT_AS_THEY_ARE, *git_filters.off(place.filters)))
        index = own / "index"
        git = with_index(with_objects(git, own / "objects", place.objects), index)
        try:
            shutil.copy2(place.git_folder / "index", index)  # with its time, by which git knows what it has to look at
        except OSError:
            _from_commit(git, index, place.commit)
        return git

    def _list(self, git: Git, place: _Place, *, is_first: bool = True) -> _Listing:
        half = Git(git.folder, deadline=self._half_time, settings=git.settings, environment=git.environment)
        entries, changed, untracked = half.ask(
            ("ls-files", "-v", "-s", "-z"),
            ("diff-files", "--name-only", "-z", "--ignore-submodules=dirty"),
            ("ls-files", "-z", "--others", "--exclude-standard"),
        )
        if entries.cause and is_first:
            _from_commit(git, Path(git.environment["GIT_INDEX_FILE"]), place.commit)
            return self._list(git, place, is_first=False)
        if entries.cause or changed.cause:
            raise GitFailed("diff-files", entries.cause or changed.cause)
        listed = entries.output.split(b"\0")  # as bytes: 50,000 are all looked at, and hardly any is of interest
        unusual = names(b"\0".join(entry for entry in listed if not entry.startswith((b"H 100", b"H 120"))))
        may_be_dvc = names(b"\0".join(entry for entry in listed if entry.endswith(_DVC_ENDINGS)))
        hidden = [path for flag, path in map(_flag_and_path, unusual) if _is_hidden(flag, place.root / path)]
        found = names(changed.output)
        if hidden:
            feed = "".join(f"{path}\0" for path in hidden).encode("utf-8", "surrogateescape")
            for flag in ("--no-assume-unchanged", "--no-skip-worktree"):  # one at a time: of two, git heeds the first
                git.run("update-index", "-z", flag, "--stdin", feed=feed)
            found = names(git.run("diff-files", "--name-only", "-z", "--ignore-submodules=dirty"))
        links = {path for entry in unusual if entry[2:8] == GITLINK for path in [_flag_and_path(entry)[1]]}
        return _Listing(
            changed=list(dict.fromkeys(found)),
            untracked=names(untracked.output),
            has_conflicts=any(not told.endswith(" 0") for told in (entry.partition("\t")[0] for entry in unusual)),
            submodules=sorted(path for path in links if (place.root / path / ".git").exists()),
            dvc_files=[path for _, path in map(_flag_and_path, may_be_dvc) if is_dvc_file(path)],
            tracked=entries.output,
            cause=untracked.cause,
        )

    def _not_code(self, place: _Place, listing: _Listing, paths: Sequence[str]) -> NotCode:
        outs = DvcOuts(frozenset())
        files = [*listing.dvc_files, *(path for path in listing.untracked if is_dvc_file(path))]
        if files and paths:
            there = (path for path in files if (place.root / path).is_file())
            outs = read_dvc_outs(place.root, there, paths, deadline=self._deadline)
        return NotCode(place.root, self._leave_out, outs, listing.untracked, listing.tracked)

    def _stage(self, git: Git, place: _Place, listing: _Listing, own: Path) -> list[LeftOut]:
        """Bring the work tree into the copy of the index."""
        not_code = self._not_code(place, listing, [*listing.changed, *listing.untracked])
        changed = [path for path in listing.changed if not not_code.has(path, is_untracked=False)]
        gone = _gone(place.root, changed)
        changed = [path for path in changed if path not in gone]
        untracked = [path for path in listing.untracked if not not_code.has(path, is_untracked=True)]
        over = bounded(place.root, changed, untracked, self._limits)
        large = [path for path in changed if path in over and over[path].why.startswith("over")]
        for path in unchanged(git, large):
            del over[path]
        paths = [path for path in (*changed, *untracked) if path not in over]
        filtered = git_filters.read(git, place.root, paths, place.filters, own / "pointers")
        pointed = {entry.partition("\t")[2] for entry in names(filtered.entries)}
        plain = [path for path in paths if path not in filtered.left_out and path not in pointed]
        if gone:
            feed = "".join(f"{path}\0" for path in gone).encode("utf-8", "surrogateescape")
            git.run("update-index", "--force-remove", "-z", "--stdin", feed=feed)
        if plain:
            feed = "".join(f"{path}\0" for path in plain).encode("utf-8", "surrogateescape")
            packing = git.given(*_AS_ONE_PACK) if place.packs else git
            packing.run("update-index", "--add", "--remove", "--replace", "-z", "--stdin", feed=feed)
        if filtered.entries:
            git.run("update-index", "--add", "--replace", "-z", "--index-info", feed=filtered.entries)
        left_out = {id(one): one for one in (*over.values(), *filtered.left_out.values())}
        if listing.cause:
            left_out[0] = LeftOut("./", f"untracked files could not be listed: {listing.cause}", files=0)
        return list(left_out.values())

    def _settle(self, git: Git, place: _Place, listing: _Listing, left_out: list[LeftOut]) -> tuple[str, list[LeftOut]]:
        """The tree, without what is staged and is no code, or is too large."""
        base = place.base or empty_tree(git)
        unmerged = listing.has_conflicts and {
            entry.partition("\t")[2] for entry in names(git.run("ls-files", "-u", "-z"))
        }
        if unmerged:  # in conflict, and not taken: as in the commit
            set_entries(git, _as_in(git, base, unmerged))
        tree = write_tree(git)
        if tree == base:
            return tree, left_out
        found = changes(git, base, tree)
        not_code = self._not_code(place, listing, [change.path for change in found])
        staged = [change for change in found if not_code.has(change.path, is_untracked=False)]
        known = sizes(git, (name for change in found for name in (change.old_object, change.new_object)))
        blobs = {change.path: known[change.new_object] for change in found if change.new_object in known}
        code = [change for change in found if change not in staged]
        why = too_large(blobs, self._limits) | {change.path: _ABSENT for change in code if not _is_here(change, known)}
        told = {one.path for one in left_out}
        left_out += [
            LeftOut(shown(path), reason, blobs.get(path, 0)) for path, reason in why.items() if shown(path) not in told
        ]
        reverted = [*staged, *(change for change in code if change.path in why)]
        if not reverted:
            return tree, left_out
        set_entries(git, reverted)
        return write_tree(git), left_out


def _version(told: bytes) -> tuple[int, ...]:
    """Of git; empty where it does not say."""
    found = re.search(rb"version (\d+)\.(\d+)", told)
    return tuple(map(int, found.groups())) if found else ()


def _flag_and_path(entry: str) -> tuple[str, str]:
    told, _, path = entry.partition("\t")
    return told[0], path


def _gone(root: Path, paths: Sequence[str]) -> set[str]:
    """Which tracked files are no more; what lies beyond a link, in place of their folder, is not theirs."""
    folders = {folder.as_posix() for path in paths for folder in PurePosixPath(path).parents}
    links = {folder for folder in folders if (root / folder).is_symlink()}
    return {
        path
        for path in paths
        if not os.path.lexists(root / path) or not links.isdisjoint(map(str, PurePosixPath(path).parents))
    }


def _is_hidden(flag: str, path: Path) -> bool:
    """Whether git does not look at a file that is there: assume-unchanged, or skip-worktree."""
    return os.path.lexists(path) if flag in "Ss" else flag.islower()


def _is_here(change: Change, known: Mapping[str, int]) -> bool:
    """Whether both contents are in git's objects."""
    sides = ((change.old_mode, change.old_object), (change.new_mode, change.new_object))
    return all(name in known for mode, name in sides if mode not in (_NOTHING, GITLINK))


def _as_in(git: Git, tree: str, paths: set[str]) -> list[Change]:
    """Entries that `set_entries` makes as they are in a tree."""
    listed = names(git.run("--literal-pathspecs", "ls-tree", "-r", "-z", "--full-tree", tree, "--", *paths))
    there = {path: told.split(" ") for told, _, path in (entry.partition("\t") for entry in listed)}
    nothing = "0" * len(tree)
    before = {path: (there[path][0], there[path][2]) if path in there else (_NOTHING, nothing) for path in paths}
    return [Change(path, mode, name, _NOTHING, nothing) for path, (mode, name) in sorted(before.items())]


def _from_commit(git: Git, index: Path, commit: str | None) -> None:
    """Begin with the commit's index where the repository has none that can be read."""
    index.unlink(missing_ok=True)
    if commit:
        git.run("read-tree", commit)
