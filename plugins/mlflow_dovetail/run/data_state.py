"""The data of a run: which stage, which inputs, and the file by which every revision with its result knows the run."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import msgspec

from mlflow_dovetail import dvc_link, names
from mlflow_dovetail.dvc_link import DvcState, InputsChanged, Item, Link
from mlflow_dovetail.journal import clock_ms, entries
from mlflow_dovetail.redact import strip_url_credentials
from mlflow_dovetail.run.code_state import is_young, working_folder
from mlflow_dovetail.run.opening import Opening
from mlflow_dovetail.run_folder import read_json, write_whole
from mlflow_dovetail.store import project_root

log = logging.getLogger("mlflow_dovetail")

# The end of a stage waits as long as it must: without its inputs its result names no run.
_LONGEST_SECONDS = 60.0


class DataCapture:
    """Identifies the inputs of a run that opens here, when it opens and when its link file is written.

    Args:
        opening: Of the run.
    """

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._folder = working_folder()
        self._environment = dict(os.environ)
        self._thread = threading.Thread(target=self._capture, name="dovetail-data", daemon=True)
        self._is_main = False
        self.state: DvcState | None = None
        """Of a run that is in a DVC repository; None until it is known."""

    def start(self) -> None:
        """Begin to read."""
        if dvc_link.repository_of(self._folder) is None:
            return
        try:
            self._thread.start()
        except RuntimeError:  # no room for a thread
            self._capture()

    def wait(self, seconds: float = _LONGEST_SECONDS) -> None:
        """Wait until the inputs are known, so long at most."""
        if self._thread.is_alive():
            self._thread.join(seconds)

    def check(self) -> None:
        """Identify the inputs again, and the outputs.

        Raises:
            InputsChanged: They are not what they were at the start, and `DOVETAIL_CHANGED_INPUTS` is not "warn".
        """
        self.wait()
        state = self.state
        if state is None or not state.stage or state.cause or not self._is_main:
            return
        try:
            dvc_link.read_end(state, self._folder)
        except Exception as error:  # noqa: BLE001 - DVC raises errors of many packages
            self._trouble(error)
            return
        self._keep(state)
        if not state.changed:
            return
        changed = InputsChanged(state.stage, state.changed)
        if self._environment.get(names.ENV_CHANGED_INPUTS, "").strip().lower() != "warn":
            raise changed
        log.warning("%s", changed)

    def write_link(self, directory: Path, run_id: str) -> tuple[Path, str]:
        """Write `mlflow_run.json`. The address of a database in the project is relative to it, as the file is cloned.

        Returns:
            Its path, and its token: the md5 that dvc.lock will have.

        Raises:
            InputsChanged: As `check`; nothing has been written.
            OSError: It cannot be written.
        """
        self.check()
        is_stage = self.state is not None and self._is_main
        root = f"sqlite:///{project_root().as_posix()}/"
        store = strip_url_credentials(self._opening.tracking_uri).replace(root, "sqlite:///")
        link = Link(run_id, self._opening.folder.token, store, self.state.input_id if self.state and is_stage else "")
        content = dvc_link.encode_link(link)
        path = directory / names.RUN_LINK_FILE
        write_whole(path, content)
        return path, dvc_link.link_token(content)

    def link_path(self) -> Path | None:
        """Where the stage that runs here wants its link file; None where it wants none."""
        self.wait()
        outs = self.state.outs if self.state and self.state.stage else ()
        return next((self._folder / one.path for one in outs if Path(one.path).name == names.RUN_LINK_FILE), None)

    def _capture(self) -> None:
        try:
            state = dvc_link.read_state(self._folder, self._environment)
            known, stored = self._known_stage(), self._opening.stored
            is_resumed = self._opening.writer.kind == "resume"
            begins = known is None and (stored is None or is_young(stored))
            self._is_main = is_resumed or begins or known == state.stage
            self.state = state
            if known == state.stage and not is_resumed:
                return  # `dovetail exec` has kept it
            if self._is_main or state.stage:
                self._keep(state)
            if state.stage:
                self._log_data(state)
        except Exception as error:  # noqa: BLE001 - whatever is wrong, the training goes on
            self._trouble(error)

    def _log_data(self, state: DvcState) -> None:
        """What DVC keeps of a stage's dependencies, as datasets of the run."""
        root = dvc_link.repository_of(self._folder) or self._folder
        tags = self._opening.stored.tags if self._opening.stored else {}
        for item in state.deps:
            if item.in_cache is None or self._opening.writer.is_closed:  # what git keeps
                continue
            data = dvc_link.dataset_input(
                item,
                stage=state.stage,
                folder=self._folder.relative_to(root).as_posix(),
                url=tags.get(names.TAG_GIT_REMOTE, ""),
                remote=state.remote,
                context=state.stage.rpartition(":")[2],
            )
            self._opening.writer.append(
                entries.Input(clock_ms(), data.name, data.digest, data.source, data.context, data.source_type)
            )

    def _known_stage(self) -> str | None:
        """The stage that the run's state is of, "" for none; None where it has no state."""
        here = read_json(self._opening.folder.captured / names.ARTIFACT_DVC, DvcState)
        if here is not None:
            return here.stage
        tags = self._opening.stored.tags if self._opening.stored else {}
        return tags.get(names.TAG_DVC_STAGE, "") if names.TAG_DVC_DEPENDENCIES in tags else None

    def _keep(self, state: DvcState) -> None:
        main = Path(names.ARTIFACT_DVC)
        artifact = main if self._is_main else main.with_name(f"{re.sub('[^A-Za-z0-9@._-]+', '_', state.stage)}.json")
        target = self._opening.folder.captured / artifact
        target.parent.mkdir(parents=True, exist_ok=True)
        write_whole(target, msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n")
        if self._is_main:
            self._opening.folder.say("dvc", _tags(state))

    def _trouble(self, error: Exception) -> None:
        if not self._opening.writer.is_closed:
            with suppress(OSError):
                self._opening.writer.trouble(
                    f"the inputs could not be identified: {type(error).__name__}: {error}", "The run goes on without."
                )


def _tags(state: DvcState) -> dict[str, str]:
    told = {names.TAG_DVC_DEPENDENCIES: _digests(state.deps)}
    if state.input_id:
        told[names.TAG_DVC_INPUT_ID] = state.input_id
    if any(out.digest for out in state.outs):
        told[names.TAG_DVC_OUTPUTS] = _digests(out for out in state.outs if Path(out.path).name != names.RUN_LINK_FILE)
    if state.changed:
        told[names.TAG_DVC_CHANGED] = ", ".join(state.changed)[: names.MAX_TAG_LENGTH]
    told[f"{names.TAG_STATUS_PREFIX}dvc_link"] = (
        f"degraded: {state.cause}"[: names.MAX_TAG_LENGTH] if state.cause else "ok"
    )
    return told


def _digests(items: Iterable[Item]) -> str:
    """Path to hash, as JSON; the last ones are missing where a tag has no room for them."""
    found: dict[str, str] = {}
    for item in items:
        found[item.path] = item.digest
        if len(json.dumps(found)) > names.MAX_TAG_LENGTH:
            del found[item.path]
            break
    return json.dumps(found, sort_keys=True)
