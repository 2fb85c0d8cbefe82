"""Reading a stage's place in DVC: what it depends on, by DVC's own hashes. Nothing of DVC's or git's is written.

DVC knows a file's hash from its time and size, so this takes as long for a terabyte as for a byte.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.identity import input_id
from mlflow_dovetail.dvc_link.records import VERSION, DvcState, Item
from mlflow_dovetail.errors import DovetailError

if TYPE_CHECKING:
    from dvc.dependency import Dependency
    from dvc.output import Output
    from dvc.repo import Repo
    from dvc.stage import Stage

NOT_INSTALLED = "DVC is not installed here: pip install dvc"
_PIPELINE_FILE = "dvc.yaml"


class InputsChanged(DovetailError):
    """A stage's inputs were edited while it ran: DVC would record the edited ones as those that were used."""

    def __init__(self, stage: str, changed: Sequence[str]) -> None:
        super().__init__(
            f"The inputs of the stage {stage!r} changed while it ran.",
            f"Changed since its start: {', '.join(changed)}.",
            f"Run it again; or set {names.ENV_CHANGED_INPUTS}=warn, if the result does not depend on them.",
        )


def repository_of(folder: Path) -> Path | None:
    """The DVC repository that a folder lies in; DVC is not asked."""
    return next((one for one in (folder, *folder.parents) if (one / ".dvc" / "config").is_file()), None)


def read_state(folder: Path, environment: Mapping[str, str]) -> DvcState:
    """What the stage that runs in `folder` is made from; outside a stage, the project's data.

    Args:
        folder: The process's working directory when it started.
        environment: Of the process: DVC says there which stage it runs.

    Returns:
        With a cause where something cannot be read.
    """
    state = DvcState(
        stage=environment.get(names.ENV_DVC_STAGE, ""),
        experiment=environment.get(names.ENV_DVC_EXPERIMENT, ""),
        baseline=environment.get(names.ENV_DVC_BASELINE_REV, ""),
        version=VERSION,
    )
    try:
        with _opened(folder) as repo:
            state.remote = repo.config["core"].get("remote", "")
            if state.stage:
                _read_stage(repo, folder, state)
            else:
                state.deps = list(_data(repo))
    except Exception as error:  # noqa: BLE001 - DVC raises errors of many packages, and the run goes on
        is_missing = isinstance(error, ImportError) and not importlib.util.find_spec("dvc")
        state.cause = NOT_INSTALLED if is_missing else f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    return state


def read_end(state: DvcState, folder: Path) -> None:
    """What has become of the stage's files since: dependencies that changed, and the outputs that are there.

    Args:
        state: As `read_state` gave it; `changed` and `outs` are brought up to date.
        folder: As `read_state` had it.

    Raises:
        Exception: Whatever DVC raises.
    """
    with _opened(folder) as repo:
        stage = _find_stage(repo, folder, state.stage)
        now = {dep.path: dep.digest for dep in _dependencies(repo, stage)}
        before = {dep.path: dep.digest for dep in state.deps}
        state.changed = sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
        if _params(stage) != state.params:
            state.changed.append("params")
        state.outs = [_output(out) for out in sorted(stage.outs, key=lambda one: str(one.def_path))]


@contextmanager
def _opened(folder: Path) -> Iterator[Repo]:
    from dvc.repo import Repo

    with Repo(str(repository_of(folder) or folder)) as repo:
        yield repo


def _read_stage(repo: Repo, folder: Path, state: DvcState) -> None:
    stage = _find_stage(repo, folder, state.stage)
    state.command = stage.cmd
    state.params = _params(stage)
    state.deps = list(_dependencies(repo, stage))
    state.outs = [Item(str(out.def_path)) for out in sorted(stage.outs, key=lambda one: str(one.def_path))]
    state.input_id = input_id(
        {
            "cmd": stage.cmd,
            "deps": [{"path": dep.path, "md5": dep.digest} for dep in state.deps],
            "params": state.params,
            "outs": [{"path": out.path} for out in state.outs],
        }
    )


def _find_stage(repo: Repo, folder: Path, address: str) -> Stage:
    """The stage with this address whose command runs in `folder`; the address is relative to where dvc was called."""
    name = address.rpartition(":")[2]
    for above in (folder, *folder.parents):
        if (above / _PIPELINE_FILE).is_file():
            with suppress(KeyError, LookupError):
                stage = repo.stage.load_one(path=str(above / _PIPELINE_FILE), name=name)
                if Path(stage.wdir) == folder:
                    return stage
        if above == Path(repo.root_dir):
            break
    for stage in repo.index.stages:
        if getattr(stage, "name", None) == name and Path(stage.wdir) == folder:
            return stage
    raise LookupError(f"no stage {name!r} runs in {folder}")


def _dependencies(repo: Repo, stage: Stage) -> Iterator[Item]:
    from dvc.dependency import ParamsDependency

    stage.save_deps(allow_missing=True)
    plain = (dep for dep in stage.deps if not isinstance(dep, ParamsDependency))
    for dep in sorted(plain, key=lambda one: str(one.def_path)):
        yield _item(repo, dep)


def _params(stage: Stage) -> dict[str, Any]:
    from dvc.dependency import ParamsDependency

    params = [dep for dep in stage.deps if isinstance(dep, ParamsDependency)]
    for dep in params:
        with suppress(Exception):  # a file that is not there has none
            dep.save()
    return {str(dep.def_path): dict(dep.hash_info.value) for dep in params if isinstance(dep.hash_info.value, dict)}


def _item(repo: Repo, dep: Dependency) -> Item:
    digest = dep.hash_info.value if isinstance(dep.hash_info.value, str) else ""
    item = Item(str(dep.def_path), digest, dep.meta.size if dep.meta else None, dep.meta.nfiles if dep.meta else None)
    out = _made_by(repo, dep.fs_path)
    if out is not None:
        item.tracked_by = str(out.stage.addressing)
        if out.use_cache and digest:
            item.in_cache = bool(repo.cache.local.exists(digest))
            item.on_remote = _on_remote(repo, digest)
        item.repo_rev = _imported_from(out.stage)
    return item


def _data(repo: Repo) -> Iterator[Item]:
    """What the project's `.dvc` files track, as it is in the work tree."""
    for stage in repo.index.stages:
        if not stage.is_data_source:
            continue
        for out in stage.outs:
            digest = _digest_in_work_tree(out)
            item = Item(str(Path(out.fs_path).relative_to(repo.root_dir)), digest, tracked_by=str(stage.addressing))
            if out.meta is not None and digest == out.hash_info.value:
                item.size_bytes, item.files = out.meta.size, out.meta.nfiles
            if digest:
                item.in_cache = bool(repo.cache.local.exists(digest))
                item.on_remote = _on_remote(repo, digest)
            item.repo_rev = _imported_from(stage)
            yield item


def _output(out: Output) -> Item:
    return Item(str(out.def_path), _digest_in_work_tree(out))


def _digest_in_work_tree(out: Output) -> str:
    from dvc_data.hashfile.build import build

    if not out.exists:
        return ""
    _, _, content = build(out.local_cache, out.fs_path, out.fs, out.hash_name, ignore=out.dvcignore, dry_run=True)
    return str(content.hash_info.value or "")


def _made_by(repo: Repo, path: str) -> Output | None:
    """The output, of a stage or of a `.dvc` file, that a path is or lies in."""
    from dvc.exceptions import OutputNotFoundError

    try:
        return repo.find_outs_by_path(path)[0]
    except OutputNotFoundError:
        return None


def _on_remote(repo: Repo, digest: str) -> bool | None:
    """Whether the default remote has it; one over a network is not asked while a training waits."""
    from dvc.exceptions import DvcException

    try:
        odb = repo.cloud.get_remote_odb()
    except (DvcException, ImportError):  # none is set, or its own package, such as dvc-s3, is not installed
        return None
    return bool(odb.exists(digest)) if odb.fs.protocol == "local" else None


def _imported_from(stage: Stage) -> str:
    for dep in stage.deps:
        lock = getattr(dep, "def_repo", None)
        if isinstance(lock, dict):
            return str(lock.get("rev_lock", ""))
    return ""


def digest_at(folder: Path, path: str, rev: str | None = None) -> str:
    """The hash that DVC has of a file or folder at a revision; empty where it tracks none there.

    Args:
        folder: In the project; the path is relative to it, or to the repository's root.
        rev: As git takes it; the work tree's `.dvc` files and dvc.lock when left out.

    Raises:
        DovetailError: DVC is not installed, or cannot read the revision.
    """
    root = repository_of(folder) or folder
    inside = (folder / path).resolve()
    candidates = [inside.relative_to(root).as_posix()] if inside.is_relative_to(root) else []
    try:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo
    except ImportError as error:
        raise DovetailError(f"Cannot say what {path} was.", "DVC is not installed here.", "pip install dvc") from error
    try:
        # No remote is needed, and one whose own package is not installed would be an ImportError.
        with Repo(str(root), rev=rev, config={"core": {"remote": ""}}) as repo:
            for candidate in dict.fromkeys([*candidates, path]):
                with suppress(FileNotFoundError):
                    known = repo.dvcfs.info(candidate).get("dvc_info") or {}
                    if known.get("md5"):
                        return str(known["md5"])
    except DvcException as error:
        raise DovetailError(
            f"Cannot say what {path} was at {rev or 'the work tree'}.",
            f"{(str(error).splitlines() or [''])[0]}.",
            "Look at it with `dvc list . --rev REV`.",
        ) from error
    return ""
