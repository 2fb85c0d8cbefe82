"""The prediction tables of runs, read back from their store."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlflow_dovetail import names, store
from mlflow_dovetail.errors import DovetailError, RunNotFound
from mlflow_dovetail.records import Run as StoredRun
from mlflow_dovetail.store import RunStore

if TYPE_CHECKING:
    import pyarrow as pa

    from mlflow_dovetail.prediction_tables import Manifest

Form = Literal["pandas", "arrow", "polars"]


@dataclass(frozen=True)
class FoundTable:
    """A table of a run, without its rows and media until these are asked for.

    Attributes:
        folder: Where its files are for now.
    """

    run: StoredRun
    manifest: Manifest
    folder: Path
    _store: RunStore

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows, in the order in which they were logged; an example that was said again in a resumed run once."""
        from mlflow_dovetail.prediction_tables import read_table

        for part in self.manifest.data:
            _bring(self._store, self.run, self.folder, part.path)
        return read_table(self.folder, columns)

    def last_epoch(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Its rows of the last epoch; no other is brought here. All where it has no epochs."""
        from mlflow_dovetail.prediction_tables import files_of_last_epoch, read_last_epoch

        for part in files_of_last_epoch(self.manifest):
            _bring(self._store, self.run, self.folder, part.path)
        return read_last_epoch(self.folder, columns)

    def thumbnails(self, digests: Collection[str]) -> dict[str, bytes]:
        """Images of these digests; the packs are brought here for it."""
        from mlflow_dovetail.prediction_tables import read_media

        for pack in self.manifest.media:
            _bring(self._store, self.run, self.folder, pack.path)
        return read_media(self.folder, digests)


def load_predictions(
    run: str | Sequence[str],
    table: str = "val",
    *,
    columns: Sequence[str] | None = None,
    form: Form = "pandas",
    tracking_uri: str | None = None,
) -> Any:
    """The rows of a prediction table, of one run or of several below each other.

    Where a run was resumed and says an example of an epoch again, its later row counts. Images are not brought along: a
    column of images holds their digests.

    Args:
        run: A run id or token, the beginning of one, or a unique run name; or several of them.
        table: Its name.
        columns: Which ones; all when left out.
        form: A pandas DataFrame, an Arrow table, or a polars DataFrame.
        tracking_uri: `MLFLOW_TRACKING_URI` when left out, else `mlflow.db` in the project.

    Returns:
        One row an example and epoch, with the columns that were logged; the first column is `run_id`; a
        logged column of that name is `logged_run_id`. A class is the
        number or text that was logged; its name where it has another number in another of the runs.

    Raises:
        RunNotFound: None or several runs answer to a name.
        DovetailError: No run is named, one has no such table, or it cannot be read; the tables do not go below each
            other; the store does not answer.
    """
    import pyarrow as pa

    from mlflow_dovetail.prediction_tables import stack

    runs = [run] if isinstance(run, str) else list(run)
    if not runs:
        raise DovetailError(
            "Cannot load predictions.", "No run is named: the list of runs is empty.", "Name one run at least."
        )
    with open_tables(runs, table, tracking_uri) as found:
        parts = []
        for each in found:
            rows = each.rows(columns)
            rows = rows.rename_columns([{"run_id": "logged_run_id"}.get(name, name) for name in rows.column_names])
            ids = pa.array([each.run.run_id] * rows.num_rows, pa.string())
            parts.append((rows.add_column(0, "run_id", ids), each.manifest))
    joined = stack(parts)
    if form == "arrow":
        return joined
    if form == "polars":
        import polars

        return polars.from_arrow(joined)
    return joined.to_pandas()


@contextmanager
def open_tables(runs: Sequence[str], table: str, tracking_uri: str | None = None) -> Iterator[list[FoundTable]]:
    """The table of this name of each run, while the block lasts.

    Raises:
        RunNotFound: None or several runs answer to a name.
        DovetailError: A run has no such table.
    """
    with store.open(tracking_uri) as opened, tempfile.TemporaryDirectory(prefix="dovetail-") as into:
        yield [_find(opened, opened.find_run(run), table, Path(into) / str(number)) for number, run in enumerate(runs)]


def tables_of(opened: RunStore, run: StoredRun) -> list[str]:
    """The folders of the tables that a run has."""
    from mlflow_dovetail.prediction_tables import is_manifest

    listed = opened.list_artifacts(run.run_id, names.ARTIFACT_PREDICTIONS)
    return sorted({one.path.split("/")[1] for one in listed if is_manifest(one.path.rpartition("/")[2])})


def _find(opened: RunStore, run: StoredRun, table: str, into: Path) -> FoundTable:
    from mlflow_dovetail.prediction_tables import folder_name, is_manifest, read_manifest

    folder = into / names.ARTIFACT_PREDICTIONS / folder_name(table)
    folder.mkdir(parents=True)
    listed = opened.list_artifacts(run.run_id, f"{names.ARTIFACT_PREDICTIONS}/{folder.name}")
    manifests = [one.path for one in listed if is_manifest(one.path.rpartition("/")[2])]
    if not manifests:
        raise _no_table(opened, run, table)
    for path in manifests:
        _bring(opened, run, folder, path.rpartition("/")[2])
    return FoundTable(run, read_manifest(folder), folder, opened)


def _bring(opened: RunStore, run: StoredRun, folder: Path, path: str) -> None:
    """Have one of the table's files below `folder`, which lies as it does among the run's artifacts."""
    if not (folder / path).exists():
        opened.read_artifact(run.run_id, f"{names.ARTIFACT_PREDICTIONS}/{folder.name}/{path}", folder.parents[1])


def _no_table(opened: RunStore, run: StoredRun, table: str) -> DovetailError:
    there = tables_of(opened, run)
    if there:
        why = f"It has {', '.join(there)}."
        remedy = "Name one of these: --table NAME. Of a run that has just ended others may be on their way."
    else:
        why = "It has none, or has not ended yet."
        remedy = 'Log one: run.table("val").append({...}).'
    return RunNotFound(f"The run {run.run_id} has no prediction table {table!r}.", why, remedy)
