"""What a run logs as files: kept as they are when they are logged, uploaded by the recorder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_dovetail import names
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.journal import entries
from mlflow_dovetail.run import values
from mlflow_dovetail.run.kept_files import KeptFiles

if TYPE_CHECKING:
    from mlflow_dovetail.run.client import JournalClient


class FileLogging:
    """The part of a `Run` that logs files."""

    _files: KeptFiles

    if TYPE_CHECKING:

        @property
        def run_id(self) -> str: ...

        @property
        def client(self) -> JournalClient: ...

        def _append(self, entry: entries.Entry) -> None: ...

        def _trouble(self, cause: str, advice: str) -> None: ...

    def kept_files(self) -> dict[str, Path]:
        """The last content of each file that was logged here and is still kept here, by its path as an artifact."""
        return self._files.last()

    def log_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Keep a file, or a folder with all that is in it, as it is now.

        Args:
            local_path: It may be changed or deleted as soon as this returns.
            artifact_path: The folder among the run's artifacts.
        """
        path = Path(local_path)
        if path.is_dir():
            self.log_artifacts(path, f"{artifact_path}/{path.name}" if artifact_path else path.name)
        elif path.is_file():
            self._keep(path, f"{artifact_path}/{path.name}" if artifact_path else path.name)
        else:
            raise values.no_such_file(path)

    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Keep what is in a folder. Links that lead out of it are not followed, and counted."""
        root = Path(local_dir).resolve()
        if not root.is_dir():
            raise values.no_such_file(root)
        for path in sorted(root.rglob("*")):
            name = path.relative_to(root).as_posix()
            if path.is_symlink() and path.exists() and not path.resolve().is_relative_to(root):
                self._trouble("links that lead out of a logged folder are not followed", f"{path} is one.")
            elif path.is_file():
                with suppress(DovetailError):  # a temporary file of somebody's, and gone
                    self._keep(path, f"{artifact_path}/{name}" if artifact_path else name)

    def log_text(self, text: str, path: str) -> None:
        """Keep a text as the artifact `path`."""
        try:
            self._append(self._files.keep_content(text.encode("utf-8", "surrogatepass"), path))
        except OSError as error:
            self._trouble(f"an artifact could not be kept: {error.strerror or error}", f"{path} is missing.")

    def log_image(self, image: Any, name: str, step: int | None = None) -> None:
        """Keep an image, by step where one is given, as MLflow's UI shows them.

        Args:
            image: NumPy, (height, width) or (height, width, 1, 3 or 4), uint8 or floats in 0-1; or a PIL image.
            name: With a step, the name of the series; else of the file, `.png` when it has no ending.
            step: Of the training.
        """
        if step is not None:
            self.client.log_image(self.run_id, image, key=name, step=step, synchronous=True)
        else:
            file = name if Path(name).suffix else f"{name}.png"
            self.client.log_image(self.run_id, image, f"{names.ARTIFACT_IMAGES}/{file}")

    def log_figure(self, figure: Any, name: str, step: int | None = None) -> None:
        """Keep a matplotlib or plotly figure; `name` gets the step, and an ending when it has none."""
        self.client.log_figure(self.run_id, figure, values.figure_path(figure, name, step))

    def log_checkpoint(self, path: Path, name: str) -> None:
        """Keep a checkpoint as `checkpoints/<name>`, whose file the recorder copies, in no time here."""
        self._keep(path, f"{names.ARTIFACT_CHECKPOINTS}/{name}", pinned=True)

    def _keep(self, source: Path, path: str, *, pinned: bool = False) -> None:
        try:
            self._append(self._files.keep(source, path, pinned=pinned))
        except OSError as error:
            if not source.exists():
                raise values.no_such_file(source) from error
            self._trouble(f"an artifact could not be kept: {error.strerror or error}", f"{source} is missing.")
