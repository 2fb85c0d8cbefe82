"""From the names that users give to those that MLflow takes."""

from __future__ import annotations

import hashlib
import re

from mlflow_dovetail import names

# mlflow.utils.validation (3.17): letters, digits, and these; Windows servers refuse the colon, so it is no promise.
_REFUSED = re.compile(r"[^\w\-. :/]")
_REFUSED_IN_PATH = re.compile(r"[#?\x00-\x1f\x7f\"*<>|:]")


def metric_name(given: str) -> str:
    """A name for a metric, param or tag; the given one where MLflow takes it."""
    return _fit(_REFUSED.sub("_", given), given)


def artifact_path(given: str) -> str:
    """A path among a run's artifacts: no `#` and `?`, which cut an address short, no way out of the folder."""
    return _fit(_REFUSED_IN_PATH.sub("_", given.replace("\\", "/")), given)


def apart(stored: str, given: str) -> str:
    """A name for `given` where `stored` is taken by another one."""
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{stored[: names.MAX_KEY_LENGTH - 9]}-{digest}"


def _fit(stored: str, given: str) -> str:
    # MLflow wants a name to be its own normal path: no empty, "." or ".." part, no slash at an end, no ".." to begin.
    parts = [part for part in stored.split("/") if part not in ("", ".")]
    stored = "/".join("_" if part == ".." else part for part in parts) or "_"
    stored = f"_{stored[2:]}" if stored.startswith("..") else stored
    return stored if len(stored) <= names.MAX_KEY_LENGTH else apart(stored, given)
