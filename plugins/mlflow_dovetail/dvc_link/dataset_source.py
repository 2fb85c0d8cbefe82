"""MLflow's dataset source for data that DVC has: `mlflow.data.get_source(run.inputs.dataset_inputs[0]).load()`.

MLflow imports this module inside `import mlflow`, through `entry_points`, which keeps a fault of it from breaking that.
Everybody else imports `source`, which says why.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlflow.data.dataset_source import DatasetSource

from mlflow_dovetail import names
from mlflow_dovetail.dvc_link.address import DataAddress, is_data_uri


class DvcDatasetSource(DatasetSource):
    """Data by their content, wherever they lie now: work tree, DVC's cache, a DVC remote, or a commit.

    Args:
        path: Of the file or folder, relative to the DVC repository.
        digest: DVC's md5, with `.dir` for a folder; may be missing when there are a path and a rev.
        rev: A commit that has the data.
        url: Of the git repository; credentials are taken out.
        remote: The name of the DVC remote to ask before the default one.

    Raises:
        DovetailError: There is neither a digest nor a path with a rev.

    Source:
        MLflow's plugin documentation, "Dataset source".
    """

    def __init__(self, path: str = "", digest: str = "", rev: str = "", url: str = "", remote: str = "") -> None:
        self._address = DataAddress(path, digest, rev, url, remote)

    @property
    def path(self) -> str:
        return self._address.path

    @property
    def digest(self) -> str:
        return self._address.digest

    @property
    def rev(self) -> str:
        return self._address.rev

    @property
    def url(self) -> str:
        return self._address.url

    @property
    def remote(self) -> str:
        return self._address.remote

    def load(self, dst_path: str | Path | None = None) -> str:
        """Copy the data, byte for byte, and compare the copy with the digest before it is handed out.

        Looked for in this order: the work tree of the DVC repository around the working directory, its cache, its
        remotes, the commit `rev` in it, and a clone of `url`. Nothing there is changed and nothing is added, not even
        to DVC's cache; of DVC's own bookkeeping, the table of known hashes may grow. A clone lies in a temporary
        folder until the process ends. Safe to call from several threads.

        Args:
            dst_path: The folder to copy into, which is made when missing. A file or folder that is in the way is left
                alone. By default a new temporary folder, which is the caller's to delete.

        Returns:
            The path of the file or folder, named as in the repository. It is a copy, the caller's to change.

        Raises:
            DovetailError: The data are nowhere with this content, `dst_path` has something else of this name, or DVC
                is not installed.
        """
        from mlflow_dovetail.dvc_link.loading import load

        return str(load(self._address, dst_path))

    def to_uri(self) -> str:
        """`dvc://PATH?md5=…&rev=…&url=…&remote=…`, which MLflow takes as a dataset's source."""
        return self._address.to_uri()

    def to_dict(self) -> dict[str, Any]:
        return {"uri": self.to_uri()}

    @classmethod
    def from_dict(cls, source_dict: dict[Any, Any]) -> DvcDatasetSource:
        return cls.from_uri(str(source_dict.get("uri", "")))

    @classmethod
    def from_uri(cls, uri: str) -> DvcDatasetSource:
        """The source that `dvc://…` or `md5:HASH` means.

        Raises:
            DovetailError: It says too little.
        """
        address = DataAddress.from_uri(uri)
        return cls(address.path, address.digest, address.rev, address.url, address.remote)

    @staticmethod
    def _get_source_type() -> str:
        return names.DATASET_SOURCE_DVC

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401 - MLflow gives whatever it was given
        return isinstance(raw_source, str) and is_data_uri(raw_source)

    @classmethod
    def _resolve(cls, raw_source: Any) -> DvcDatasetSource:  # noqa: ANN401
        return cls.from_uri(raw_source)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DvcDatasetSource) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __repr__(self) -> str:
        return f"DvcDatasetSource({self.to_uri()!r})"
