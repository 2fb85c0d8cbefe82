"""From what was captured to what restores: patches, proved; without what must not leave; with a verdict."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mlflow_dovetail import names as stored_names
from mlflow_dovetail import redact
from mlflow_dovetail.git_patch import sharing
from mlflow_dovetail.git_patch.records import (
    VERSION,
    Capture,
    Captured,
    Code,
    CodeState,
    LeftOut,
    Patch,
    Withheld,
    shown,
)
from mlflow_dovetail.git_patch.trees import (
    applied,
    changes,
    text,
    tree_of,
    with_index,
    with_objects,
    without,
    write_patch,
)
from mlflow_dovetail.git_patch.verdicts import verdict
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.repository import Git, GitFailed, absolute_remote
from mlflow_dovetail.run_folder import sha256_of, write_whole

STATE_FILE = "state.json"
PATCH_FILE = "diff.patch"
PREVIEW_FILE = "diff.patch.txt"
PUBLISHED_FILE = "from_published.patch"
_BINARY = b"GIT binary patch\n"
_LONGEST_PREVIEW_BYTES = 1 << 20
# In the recorder, beside the training: for a change of 200 MiB.
_PATIENCE_SECONDS = 120.0
_HASHING_SECONDS = 20.0


def finish(capture: Capture, folder: Path, target: Path, prefix: str) -> CodeState:
    """Make and prove the patches of a capture.

    Args:
        capture: As `capture.capture` made it.
        folder: Of the capture; the full patches stay there, for their owner alone.
        target: Where the artifacts go.
        prefix: Of the artifacts' names in the run: the path of `target` among them.

    Raises:
        OSError: There is no room.
    """
    deadline = time.monotonic() + _PATIENCE_SECONDS
    target.mkdir(parents=True, exist_ok=True)
    found = [_Finishing(one, folder, target, prefix, deadline).finish() for one in capture.repositories]
    script, withheld = _script(capture, folder, target, prefix)
    state = CodeState(
        verdict=verdict(capture.cause, found, script, withheld),
        attempt=capture.attempt,
        captured_ms=capture.time_ms,
        repositories=found,
        script=script,
        version=VERSION,
    )
    write_whole(target / STATE_FILE, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
    return state


def is_final(state: CodeState) -> bool:
    """Whether another try would give nothing better: a repository may be away for a moment."""
    return not any(code.fault for code in state.repositories)


def tidy(capture: Capture, state: CodeState, folder: Path) -> None:
    """Delete what a finished capture needs no more; where a patch could not be made, the objects are all there is."""
    for one, code in zip(capture.repositories, state.repositories, strict=True):
        own = folder / Path(one.objects).parent
        for index in ("index", "proof-index"):
            (own / index).unlink(missing_ok=True)
        shutil.rmtree(own / "pointers", ignore_errors=True)
        if not code.fault:
            shutil.rmtree(folder / one.objects, ignore_errors=True)


def tags(state: CodeState) -> dict[str, str]:
    """What a run says of its code, in short."""
    told = {stored_names.TAG_CODE_VERDICT: state.verdict}
    if state.repositories:
        code = state.repositories[0]
        told[stored_names.TAG_CODE_TREE] = code.tree
        if code.commit:
            told[stored_names.TAG_GIT_COMMIT] = code.commit
        if code.patch and code.patch.sha256:
            told[stored_names.TAG_CODE_DIGEST] = f"sha256:{code.patch.sha256}"
        base = code.commit if code.is_published else code.published.commit if code.published else None
        if base:
            told[stored_names.TAG_CODE_BASE] = base
    return {tag: value[: stored_names.MAX_TAG_LENGTH] for tag, value in told.items()}


class _Finishing:
    """One repository's patches."""

    def __init__(self, captured: Captured, folder: Path, target: Path, prefix: str, deadline: float) -> None:
        self._captured = captured
        self._own = folder / Path(captured.objects).parent
        self._target = target / "submodules" / captured.path if captured.path else target
        self._prefix = f"{prefix}/submodules/{captured.path}" if captured.path else prefix
        self._deadline = deadline
        self._objects = folder / captured.objects

    def finish(self) -> Code:
        captured = self._captured
        code = Code(
            captured.path, captured.tree, captured.commit, captured.branch,
            captured.remote, left_out=list(_hashed(Path(captured.root), captured.left_out)),
        )  # fmt: skip
        try:
            git = with_index(Git(Path(captured.root), deadline=self._deadline), self._own / "index")
            objects, refs = git.run_all(
                ("rev-parse", "--path-format=absolute", "--git-path", "objects"),
                ("for-each-ref", "--count=1", "refs/remotes"),
            )
            theirs = Path(text(objects))
            git = with_objects(git, self._objects, theirs)
            clean = with_objects(git, self._own / "proof", theirs)
            stocked = with_objects(git, self._own / "proof", theirs, self._objects)
            base = tree_of(git, captured.commit)
            code.patch = self._patch(git, clean, stocked, base, captured.commit or "", PATCH_FILE, code.withheld)
            published = _published(git, captured.commit) if refs else None
            code.is_published = published is not None and published == captured.commit
            if published:
                code.remote = _remote_with(git, published, captured.remote)
            if published and not code.is_published:
                base = tree_of(git, published)
                code.published = self._patch(git, clean, stocked, base, published, PUBLISHED_FILE, code.withheld)
        except (GitFailed, ValueError, FileNotFoundError) as error:
            code.fault = error.cause if isinstance(error, GitFailed) else str(error)
        finally:
            shutil.rmtree(self._own / "proof", ignore_errors=True)
        return code

    def _patch(
        self, git: Git, clean: Git, stocked: Git, base: str, commit: str, name: str, told: list[Withheld]
    ) -> Patch:
        """The patch from `base` that may leave this machine, proved; what may not is added to `told`."""
        tree = self._captured.tree
        if tree == base:
            return Patch(commit, tree, is_proved=True)
        full, index = self._own / name, self._own / "proof-index"
        write_patch(git, base, tree, full)
        kept_here = sharing.withheld(git, self._own, changes(git, base, tree), self._deadline)
        shared = tree
        if kept_here:
            shared = without(git, base, tree, kept_here, index)
            missing = [change.path for change in changes(git, shared, tree)]
            known = {one.path for one in told}
            rules = {
                path: kept_here.get(path) or Withheld(shown(path), "its place in the tree is withheld")
                for path in missing
            }
            told += [one for one in rules.values() if one.path not in known]
        prover = stocked if _is_text(full) else clean
        is_whole = applied(prover, base, full, index) == tree
        if shared == base:
            return Patch(commit, shared, is_proved=is_whole)
        self._target.mkdir(parents=True, exist_ok=True)
        upload = self._target / name
        if shared == tree:
            shutil.copyfile(full, upload)
            full.unlink()
            is_proved = is_whole
        else:
            write_patch(git, base, shared, upload)
            is_proved = is_whole and applied(prover, base, upload, index) == shared
        upload.chmod(0o644)
        if name == PATCH_FILE:
            preview = sharing.preview(upload, _LONGEST_PREVIEW_BYTES)
            write_whole(self._target / PREVIEW_FILE, preview.encode("utf-8", "replace"))
        return Patch(commit, shared, f"{self._prefix}/{name}", sha256_of(upload), is_proved)


def _is_text(patch: Path) -> bool:
    """Whether git applies all of a patch line by line, also where it has the result: of a binary part it takes that.

    The result of a patch of text may therefore be among its objects, and need not be written: 1,000 files take longer
    to write than to make.
    """
    with patch.open("rb") as file:
        return all(line != _BINARY for line in file)


def _published(git: Git, commit: str | None) -> str | None:
    """The nearest ancestor of a commit that a remote had when it was last asked."""
    if not commit:
        return None
    listed = text(git.run("rev-list", "--boundary", commit, "--not", "--remotes")).split()
    if not listed:
        return commit
    edges = [name[1:] for name in listed if name.startswith("-")]
    return text(git.run("rev-list", "--no-walk=sorted", "--max-count=1", *edges)) if edges else None


def _remote_with(git: Git, commit: str, preferred: str | None) -> str | None:
    """The URL of a remote that had the commit: of the preferred one if that is among them."""
    refs = text(git.run("for-each-ref", "--format=%(refname)", f"--contains={commit}", "refs/remotes")).splitlines()
    urls = git.ask(*(("remote", "get-url", "--", name) for name in dict.fromkeys(ref.split("/")[2] for ref in refs)))
    known = [strip_url_credentials(text(url.output)) for url in urls if not url.cause]
    absolute = [shown(absolute_remote(url, git.folder)) for url in known]
    return preferred if preferred in absolute or not absolute else absolute[0]


def _hashed(root: Path, left_out: Sequence[LeftOut]) -> Iterator[LeftOut]:
    """With the hash of each file that is still as large as it was."""
    deadline = time.monotonic() + _HASHING_SECONDS
    for one in left_out:
        path = root / one.path
        if one.sha256 or one.files != 1 or time.monotonic() > deadline or not os.access(path, os.R_OK):
            yield one
            continue
        if path.is_file() and path.stat().st_size == one.size_bytes:
            one.sha256 = sha256_of(path)
        yield one


def _script(capture: Capture, folder: Path, target: Path, prefix: str) -> tuple[str, list[Withheld]]:
    """The artifact with what ran, where there is no repository; or why it stays here."""
    if not capture.script:
        return "", []
    source = folder / "script" / capture.script
    content = source.read_bytes().decode("utf-8", "replace")
    name = shown(capture.script)
    rule = redact.secret_file(name)
    if rule:
        return "", [Withheld(name, rule)]
    for finding in redact.find_secrets(content, name):
        return "", [Withheld(name, finding.rule, finding.line)]
    shutil.copyfile(source, target / capture.script)
    return f"{prefix}/{name}", []
