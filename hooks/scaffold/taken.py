"""Which import names are somebody else's."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

FOLDERS = frozenset({"tests", "test", "configs", "data", "outputs", "multirun", "vendor", "docs"})
# Import names that differ from the distribution's name in the lock, and what other templates' users have at hand.
IMPORTED = frozenset(
    {
        *("attr", "bs4", "cv2", "dateutil", "dotenv", "git", "google", "hydra", "hydra_plugins", "jose", "jwt"),
        *("lightning", "markdown_it", "mlflow", "mlflow_dovetail", "msgspec", "numpy", "omegaconf", "opentelemetry"),
        *("optuna", "pandas", "pip", "pkg_resources", "pl", "pyarrow", "pygit2", "pynvml", "pytest", "psutil"),
        *("pytorch_lightning", "requests", "ruamel", "scipy", "setuptools", "skimage", "sklearn", "torch"),
        *("torchmetrics", "torchvision", "PIL".lower(), "wheel", "yaml", "dvc", "dvclive", "pathspec"),
    }
)


def locked_names(repo: Path) -> set[str]:
    """The distributions of the project's lock, spelled as imports."""
    names: set[str] = set()
    for lock in repo.glob("*cookiecutter*/requirements*.*"):
        found = re.findall(r"^([A-Za-z0-9][\w.-]*)\s*(?:\[|[=<>!~@;]|$)", lock.read_text(encoding="utf-8"), re.M)
        names |= {re.sub(r"[-.]", "_", name).lower() for name in found}
    return names


def installed_at(name: str) -> str | None:
    """Where this interpreter has `name` installed; None for an editable install, which is a project like this one."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        return None
    places = [spec.origin or "", *(spec.submodule_search_locations or ())]
    return next((p for p in places if {"site-packages", "dist-packages"} & set(Path(p).parts)), None)


def owner_of(name: str, repo: Path) -> str | None:
    """Say whose the name is, or None.

    Args:
        name: A lower-case identifier.
        repo: Cookiecutter's temporary copy of the repository.
    """
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        return "a keyword of Python"
    if name in sys.stdlib_module_names:
        return "a module of Python's standard library"
    if name in FOLDERS:
        return "a folder of the project itself"
    if name in IMPORTED | locked_names(repo):
        return "a package that the project installs"
    place = installed_at(name)
    return f"a package already installed, in {place}" if place else None
