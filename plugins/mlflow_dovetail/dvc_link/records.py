"""What is known of a run's data. `DvcState` is stored as JSON; paths are as dvc.lock has them."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

VERSION = 1


class Item(msgspec.Struct, omit_defaults=True):
    """A dependency or an output.

    Attributes:
        path: As dvc.yaml has it: relative to the stage's working directory.
        digest: DVC's hash: an md5, with `.dir` for a folder; an etag of a remote file. Empty while nothing is there.
        size_bytes: Of all its files; None where unknown.
        files: How many they are in a folder; None for a file.
        in_cache: Whether DVC's cache has the content; None for what git keeps.
        on_remote: Whether the default remote has it: whether a colleague can pull it. None where nobody could be asked.
        tracked_by: The `.dvc` file or stage that makes it; empty for what git keeps.
        repo_rev: Of a `dvc import`: the commit that it came from.
    """

    path: str
    digest: str = ""
    size_bytes: int | None = None
    files: int | None = None
    in_cache: bool | None = None
    on_remote: bool | None = None
    tracked_by: str = ""
    repo_rev: str = ""


class DvcState(msgspec.Struct, omit_defaults=True):
    """The artifact `dvc/state.json`.

    Attributes:
        stage: Its address, such as `train`, `models/dvc.yaml:train`, `train@cnn`; empty for a direct run.
        command: Of the stage.
        params: By file, as dvc.lock has them.
        deps: What the stage reads; of a direct run, the data of the project's `.dvc` files.
        outs: What it writes.
        input_id: SHA-256 of command, dependencies, params and names of outputs; see `identity.input_id`.
        experiment: DVC's name of it.
        baseline: The commit that the experiment began from.
        remote: The name of DVC's default remote.
        changed: Dependencies whose content changed while the run went on.
        cause: Why something is missing; empty when all could be read.
        version: Of the format.
    """

    stage: str = ""
    command: str | list[str] = ""
    params: dict[str, Any] = {}
    deps: list[Item] = []
    outs: list[Item] = []
    input_id: str = ""
    experiment: str = ""
    baseline: str = ""
    remote: str = ""
    changed: list[str] = []
    cause: str = ""
    version: int = 0


class Link(msgspec.Struct):
    """The file `mlflow_run.json`: by it DVC, and every revision that has it, know the run.

    Attributes:
        run_id: MLflow's.
        token: Dovetail's, by which every store has the run.
        store: Its tracking URI, relative to the project for a database in it, without credentials.
        input_id: What the run was made from; empty outside a stage.
    """

    run_id: str
    token: str
    store: str
    input_id: str = ""


Verdict = Literal["exact", "stale", "tampered", "orphan", "uncommitted", "failed", "dangling", "reused"]


class RevOfRun(msgspec.Struct, frozen=True):
    """A revision that has a run's result.

    Attributes:
        rev: The commit; "workspace" for the work tree.
        names: Branches, tags and experiments that point at it.
        verdict: One of `Verdict`.
        details: What differs, such as the paths that are stale.
        link: The path of the link file in it.
    """

    rev: str
    names: tuple[str, ...]
    verdict: Verdict
    details: tuple[str, ...] = ()
    link: str = ""
