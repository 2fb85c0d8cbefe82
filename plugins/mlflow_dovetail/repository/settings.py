"""What a repository's configuration says that its code state needs: remotes and filters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlflow_dovetail.redact import strip_url_credentials

SETTINGS_CALL = ("config", "-z", "--get-regexp", r"^(remote\..*\.url|branch\..*\.remote|filter\..*\.(clean|process))$")


@dataclass(frozen=True)
class RepositorySettings:
    """The answer to `SETTINGS_CALL`."""

    values: dict[str, str]

    @classmethod
    def parse(cls, output: bytes) -> RepositorySettings:
        """Of a setting that is there twice, the first one."""
        entries = [entry for entry in output.decode("utf-8", "surrogateescape").split("\0") if entry]
        pairs = (entry.partition("\n") for entry in reversed(entries))
        return cls({key: value for key, _, value in pairs})

    @property
    def filters(self) -> frozenset[str]:
        """Names of the filter drivers."""
        return frozenset(key.split(".", 1)[1].rpartition(".")[0] for key in self.values if key.startswith("filter."))

    def remote(self, branch: str | None) -> str | None:
        """The URL of the branch's remote, else origin's, else the first; without credentials."""
        urls = {key: value for key, value in sorted(self.values.items()) if key.startswith("remote.")}
        current = self.values.get(f"branch.{branch}.remote")
        first = next(iter(urls.values()), None)
        chosen = urls.get(f"remote.{current}.url") or urls.get("remote.origin.url") or first
        return strip_url_credentials(chosen) if chosen else None


def branch_name(symbolic_ref: bytes) -> str | None:
    """The short name of the branch that HEAD names; None when it names none."""
    return symbolic_ref.decode("utf-8", "surrogateescape").strip().removeprefix("refs/heads/") or None


def absolute_remote(url: str, root: Path) -> str:
    """A remote's address as it is found from every folder: a relative path is one of the repository."""
    is_path = "://" not in url and ":" not in url.partition("/")[0]
    return str((root / url).resolve()) if is_path else url


def advice(cause: str) -> str:
    """What git said about a repository that it does not read, with what to do."""
    if cause.startswith("not a git repository"):
        return "the working directory is in no git repository"
    if "dubious ownership" in cause:
        return f"{cause}; trust it with: git config --global --add safe.directory <that folder>"
    return cause
