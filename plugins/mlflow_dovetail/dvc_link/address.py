"""How data are named by their content: among a run's datasets, in a URI, and for MLflow's source."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlencode

from mlflow_dovetail import names
from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.records import DatasetInput

if TYPE_CHECKING:
    from mlflow_dovetail.dvc_link.records import Item

_SCHEME = "dvc://"
_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
_MD5_URI = re.compile(rf"md5:({_MD5.pattern})", re.IGNORECASE)
_FIELDS = {"digest": "md5", "rev": "rev", "url": "url", "remote": "remote"}
_LONGEST_DIGEST = 36  # MLflow's limit, and the length of an md5 with ".dir"
_LONGEST_NAME = 500  # MLflow's limit


@dataclass(frozen=True)
class DataAddress:
    """What data are called, and where they may be found. A digest is enough, and so are a path and a rev.

    Args:
        path: Of the file or folder, relative to the DVC repository, with slashes.
        digest: DVC's md5, with `.dir` for a folder; or, of a remote file that DVC does not keep, its etag.
        rev: A commit that has the data.
        url: Of the git repository; credentials are taken out.
        remote: The name of the DVC remote to ask before the default one.

    Raises:
        DovetailError: There is neither a digest nor a path with a rev.
    """

    path: str = ""
    digest: str = ""
    rev: str = ""
    url: str = ""
    remote: str = ""

    def __post_init__(self) -> None:
        if not self.digest and not (self.path and self.rev):
            raise DovetailError(
                f"Cannot tell which data {self.to_uri()} means.",
                "It has neither a hash, nor a path with a revision.",
                "Write dvc://PATH?md5=HASH, dvc://PATH?rev=COMMIT or md5:HASH.",
            )
        if self.url:
            from mlflow_dovetail.redact import strip_url_credentials

            object.__setattr__(self, "url", strip_url_credentials(self.url))

    @property
    def is_md5(self) -> bool:
        """Whether the digest is a hash of the content, by which the content is kept."""
        return bool(_MD5.fullmatch(self.digest))

    @property
    def is_directory(self) -> bool:
        return self.digest.endswith(".dir")

    @property
    def file_name(self) -> str:
        """The last part of the path, or the hash when there is none."""
        name = posixpath.basename(posixpath.normpath(self.path))
        return self.digest.removesuffix(".dir") if name in ("", ".", "..") else name

    def to_uri(self) -> str:
        """`dvc://PATH?md5=…&rev=…&url=…&remote=…`, with what is known only; what a URI cannot hold is quoted."""
        known = {key: value for field, key in _FIELDS.items() if (value := getattr(self, field))}
        query = urlencode(known, quote_via=quote, safe=":/@")
        return f"{_SCHEME}{quote(self.path)}{'?' if query else ''}{query}"

    @classmethod
    def from_uri(cls, uri: str) -> DataAddress:
        """The address in `dvc://…` or `md5:HASH`.

        Raises:
            DovetailError: It says too little.
        """
        if hash_only := _MD5_URI.fullmatch(uri):
            return cls(digest=hash_only[1].lower())
        path, _, query = uri.removeprefix(_SCHEME).partition("?")
        said = dict(parse_qsl(query))
        return cls(unquote(path), **{field: said.get(key, "") for field, key in _FIELDS.items()})


def is_data_uri(text: str) -> bool:
    """Whether a text is written as `DataAddress.from_uri` reads it."""
    return text.startswith(_SCHEME) or bool(_MD5_URI.fullmatch(text))


def dataset_input(
    item: Item,
    *,
    stage: str = "",
    folder: str | None = None,
    rev: str = "",
    url: str = "",
    remote: str = "",
    context: str = "",
) -> DatasetInput:
    """What MLflow is told of a dependency, so that `mlflow.data.get_source(…).load()` gives its content back.

    Args:
        item: With a digest.
        stage: The address of the stage that has it, such as `models/dvc.yaml:train`; empty for a direct run.
        folder: The stage's working directory, relative to the DVC repository; by default the folder of the stage's
            dvc.yaml, which is wrong for a stage with `wdir`: its data are then found by their hash only.
        rev: The commit where they are used, if it has them.
        url: Of the git repository.
        remote: The name of DVC's remote.
        context: What they are read for, such as "train".

    Raises:
        DovetailError: The item has no digest: nothing is there.
    """
    if folder is None:
        folder = posixpath.dirname(stage.rpartition(":")[0])
    path = item.path if "://" in item.path else posixpath.normpath(posixpath.join(folder, item.path))
    if not item.digest:
        raise DovetailError(
            f"Cannot name {path} by its content.", "It has no hash: nothing is there.", "Make it, or leave it out."
        )
    source = DataAddress(path, item.digest, rev, url, remote).to_uri()
    return DatasetInput(path[-_LONGEST_NAME:], item.digest[:_LONGEST_DIGEST], source, context, names.DATASET_SOURCE_DVC)
