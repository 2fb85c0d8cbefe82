"""The code of a run, for who wants it again: from its folder where that is here, else from its store."""

from __future__ import annotations

import re
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import msgspec

from mlflow_dovetail import names, store
from mlflow_dovetail.errors import DovetailError, RunNotFound, StoreRefused, StoreUnavailable
from mlflow_dovetail.git_patch import CAPTURED_FILE, STATE_FILE, CannotRestore, Capture, Code, CodeState, Patch
from mlflow_dovetail.git_patch.finishing import PATCH_FILE, PUBLISHED_FILE
from mlflow_dovetail.git_patch.records import VERSION
from mlflow_dovetail.run.code_state import finish_code, prefix_of
from mlflow_dovetail.run_folder import RunFolder, read_json, root_for, sha256_of
from mlflow_dovetail.store import RunStore

_STATE = re.compile(rf"{names.ARTIFACT_CODE}/(?:attempt_(\d{{1,9}})/)?{STATE_FILE}")


class KeptCode:
    """The last captured code of one run. A context manager: files from the store are temporary.

    Args:
        text: A run id or token, the beginning of one, or a unique run name.
        tracking_uri: Of the store; `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.

    Attributes:
        run_id: MLflow's, or the token of a run that no store has.
        state: Of the code.

    Raises:
        RunNotFound: None or several runs answer to it.
        StoreUnavailable: The store does not answer, and the run's folder is not here.
        CannotRestore: The run has no code.
    """

    def __init__(self, text: str, tracking_uri: str | None = None) -> None:
        self._store: RunStore | None = None
        self._folder: RunFolder | None = None
        with ExitStack() as exits:
            self._into = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="dovetail-")))
            try:
                self._store = exits.enter_context(store.open(tracking_uri))
                run = self._store.find_run(text)
                self.run_id = run.run_id
                self._folder = next((one for one in _folders() if one.token == run.token), None)
            except (RunNotFound, StoreUnavailable) as error:
                self._store = None
                self._folder = _only_folder(text, error)
                self.run_id = self._folder.token
            self.state = self._read_state()
            self._exits = exits.pop_all()

    def patch(self, code: Code, patch: Patch) -> tuple[Path | None, str]:
        """The file of a patch, and the tree that it gives: the whole one where it is here, with its secrets.

        Raises:
            As `shared`.
        """
        whole = self.whole(code, patch)
        return (whole, code.tree) if whole else (self.shared(patch), patch.tree)

    def shared(self, patch: Patch) -> Path | None:
        """The file of a patch as it is among the artifacts; None where it changes nothing.

        Raises:
            CannotRestore: It is damaged.
            StoreRefused: The store has it not.
            StoreUnavailable: The store does not answer.
        """
        if not patch.path:
            return None
        file = self._file(patch.path)
        if sha256_of(file) != patch.sha256:
            raise CannotRestore(
                "Will not use the run's patch.",
                f"{patch.path} has not the SHA-256 that code/state.json says.",
                "It is damaged, or has been changed since: do not trust it.",
            )
        return file

    def whole(self, code: Code, patch: Patch) -> Path | None:
        """The file that never left this machine, of a patch without what is withheld elsewhere."""
        if self._folder is None:
            return None
        into = self._folder.code / f"{self.state.attempt:04d}"
        try:
            captured = read_json(into / CAPTURED_FILE, Capture)
        except PermissionError:  # somebody else's: their secrets are not for us
            return None
        repositories = captured.repositories if captured else []
        own = [into / Path(one.objects).parent for one in repositories if one.path == code.path]
        name = PATCH_FILE if patch == code.patch else PUBLISHED_FILE
        return next((folder / name for folder in own if (folder / name).exists()), None)

    def __enter__(self) -> KeptCode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _read_state(self) -> CodeState:
        if self._folder:
            with suppress(OSError):  # a folder of somebody else's
                finish_code(self._folder, is_over=False)
        for attempt in sorted(self._attempts(), reverse=True):
            with suppress(StoreRefused):
                return self._decoded(self._file(f"{prefix_of(attempt)}/{STATE_FILE}"))
        raise CannotRestore(
            f"The run {self.run_id} has no code.",
            "It has no code/state.json: it was tracked without Dovetail, or by an earlier version.",
            "See what is known of it: dovetail show RUN.",
        )

    def _attempts(self) -> set[int]:
        """Which attempts of the run have their code, here or in the store."""
        there = []
        if self._store:
            there += [one.path for one in self._store.list_artifacts(self.run_id, names.ARTIFACT_CODE)]
        if self._folder:
            root = self._folder.captured
            there += [path.relative_to(root).as_posix() for path in (root / names.ARTIFACT_CODE).rglob(STATE_FILE)]
        matches = filter(None, (_STATE.fullmatch(path) for path in there))
        return {int(match[1] or 1) for match in matches}

    def _decoded(self, file: Path) -> CodeState:
        try:
            state = msgspec.json.decode(file.read_bytes(), type=CodeState)
        except msgspec.DecodeError as error:
            raise _unreadable(f"{error}.") from error
        if state.version > VERSION:
            raise _unreadable(f"It has format {state.version}; this Dovetail knows {VERSION}.")
        return state

    def _file(self, artifact: str) -> Path:
        here = self._folder.captured / artifact if self._folder else None
        if here and here.exists():
            return here
        if self._store is None:
            raise StoreRefused(
                f"The run {self.run_id} has no artifact {artifact} here.",
                "Its store does not answer, and its folder has no such file.",
                "Try again when the store answers.",
            )
        return self._store.read_artifact(self.run_id, artifact, self._into)


def _folders() -> list[RunFolder]:
    return RunFolder.all_under(root_for(store.project_root()))


def _only_folder(text: str, error: DovetailError) -> RunFolder:
    found = [folder for folder in _folders() if folder.token.startswith(text) or folder.describe().name == text]
    if len(found) != 1:
        raise error
    return found[0]


def _unreadable(why: str) -> CannotRestore:
    return CannotRestore(
        "Cannot read the run's code/state.json.",
        why,
        "It is damaged, or of a later Dovetail: update with pip install --upgrade mlflow-dovetail.",
    )
