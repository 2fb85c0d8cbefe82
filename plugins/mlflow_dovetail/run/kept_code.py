"""The code of a run, for who wants it again: from its folder where that is here, else from its store."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

import msgspec

from mlflow_dovetail import names, store
from mlflow_dovetail.errors import DovetailError, RunNotFound, StoreRefused, StoreUnavailable
from mlflow_dovetail.git_patch import CAPTURED_FILE, STATE_FILE, CannotRestore, Capture, Code, CodeState, Patch
from mlflow_dovetail.git_patch.finishing import PATCH_FILE, PUBLISHED_FILE
from mlflow_dovetail.run.code_state import finish_code, prefix_of
from mlflow_dovetail.run_folder import RunFolder, read_json, root_for, sha256_of
from mlflow_dovetail.store import RunStore


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
        self._exits = ExitStack()
        self._store: RunStore | None = None
        self._folder: RunFolder | None = None
        attempts = 1
        with ExitStack() as on_error:
            on_error.callback(self._exits.close)
            self._into = Path(self._exits.enter_context(tempfile.TemporaryDirectory(prefix="dovetail-")))
            try:
                self._store = self._exits.enter_context(store.open(tracking_uri))
                run = self._store.find_run(text)
                self.run_id, token = run.run_id, run.token
                attempts = int(run.tags.get(names.TAG_ATTEMPT, 1))
                self._folder = next((one for one in _folders() if one.token == token), None)
            except (RunNotFound, StoreUnavailable) as error:
                self._store = None
                self._folder = _only_folder(text, error)
                self.run_id = self._folder.token
            self.state = self._read_state(attempts)
            on_error.pop_all()

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
        into = self._folder.code / f"{self.state.attempt:04d}" if self._folder else None
        captured = read_json(into / CAPTURED_FILE, Capture) if into else None
        if not into or not captured:
            return None
        own = [into / Path(one.objects).parent for one in captured.repositories if one.path == code.path]
        files = [folder / (PATCH_FILE if patch is code.patch else PUBLISHED_FILE) for folder in own]
        return next((file for file in files if file.exists()), None)

    def __enter__(self) -> KeptCode:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    def _read_state(self, attempts: int) -> CodeState:
        if self._folder:
            finish_code(self._folder, is_over=False)
            attempts = max([attempts, *(int(one.name) for one in self._folder.code.glob("[0-9]*"))])
        for attempt in range(attempts, 0, -1):
            with suppress(StoreRefused):
                return self._decoded(self._file(f"{prefix_of(attempt)}/{STATE_FILE}"))
        raise CannotRestore(
            f"The run {self.run_id} has no code.",
            "It has no code/state.json: it was tracked without Dovetail, or by an earlier version.",
            "See what is known of it: dovetail show RUN.",
        )

    def _decoded(self, file: Path) -> CodeState:
        try:
            return msgspec.json.decode(file.read_bytes(), type=CodeState)
        except msgspec.DecodeError as error:
            raise CannotRestore(
                "Cannot read the run's code/state.json.",
                f"{error}.",
                "It is damaged, or of a later Dovetail: update with pip install --upgrade mlflow-dovetail.",
            ) from error

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
