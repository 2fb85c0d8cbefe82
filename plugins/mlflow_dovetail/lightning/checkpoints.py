"""Which of Lightning's checkpoints are the best and the last, under names that stay."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlflow_dovetail.run import Run

if TYPE_CHECKING:
    from pytorch_lightning.callbacks import ModelCheckpoint


class Checkpoints:
    """Keeps `best.ckpt` and `last.ckpt` of a run as they change. The user's files are only read.

    Args:
        keeps_all: Keep every checkpoint that Lightning keeps, too, under its own name.
    """

    def __init__(self, *, keeps_all: bool) -> None:
        self._keeps_all = keeps_all
        self._kept: dict[str, tuple[str, int]] = {}
        self._monitored: set[str] = set()
        self._has_last = False

    def keep(self, callback: ModelCheckpoint, run: Run) -> None:
        """Keep what `callback` has saved since the last time."""
        if callback.monitor is not None and callback.monitor not in self._monitored:
            self._monitored.add(callback.monitor)
            run.monitor(callback.monitor, callback.mode)
        for name, source in self._names(callback).items():
            if source and Path(source).exists():
                self._keep_changed(name, Path(source), run)

    def _names(self, callback: ModelCheckpoint) -> dict[str, str]:
        newest = callback.last_model_path
        if callback.monitor is None:
            # Beside a monitor Lightning's `last` is from the epoch of the last improvement; without, from the last.
            self._has_last = True
            wanted = {"last.ckpt": newest or callback.best_model_path}
        else:
            wanted = {"best.ckpt": callback.best_model_path, **({} if self._has_last else {"last.ckpt": newest})}
        if self._keeps_all:
            wanted |= {Path(path).name: path for path in callback.best_k_models}
        return wanted

    def _keep_changed(self, name: str, source: Path, run: Run) -> None:
        # Sharded checkpoints are folders.
        files = [path for path in sorted(source.rglob("*")) if path.is_file()] if source.is_dir() else [source]
        for file in files:
            path = name if file == source else f"{name}/{file.relative_to(source).as_posix()}"
            state = (str(file), file.stat().st_mtime_ns)
            if self._kept.get(path) != state:
                self._kept[path] = state
                run.log_checkpoint(file, path)
