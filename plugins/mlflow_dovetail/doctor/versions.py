"""The versions of what is installed, against those that Dovetail takes and those that it is tested with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import metadata

from mlflow_dovetail import __version__
from mlflow_dovetail.doctor.records import Finding, Place, Told, note, ok, problem

PYTHON_FLOOR = (3, 10)
# Distribution: what Dovetail and its projects take, and what they are tested with (the project's requirements.lock).
RANGES = {
    "dvc": (">=3.60,<4", "3.67.1"),
    "filelock": (">=3.12", "4.2.11"),
    "hydra-core": (">=1.4.0rc3,<1.5", "1.4.0rc3"),
    "hydra-joblib-launcher": (">=1.4.0rc3,<1.5", "1.4.0rc3"),
    "hydra-optuna-sweeper": (">=1.4.0rc3,<1.5", "1.4.0rc3"),
    "hydra-submitit-launcher": (">=1.4.0rc3,<1.5", "1.4.0rc3"),
    "jinja2": (">=3", "3.1.6"),
    "lightning": (">=2.5,<3,!=2.6.2,!=2.6.3", "2.6.6"),
    "mlflow": (">=3.10,<4", "3.17.2"),
    "mlflow-skinny": (">=3.10,<4", "3.17.2"),
    "msgspec": (">=0.19,<1", "0.22.0"),
    "numpy": (">=1.24", "2.5.5"),
    "nvidia-ml-py": (">=12.535.133", "13.615.71"),
    "omegaconf": (">=2.4.1rc1,<2.5", "2.4.1rc1"),
    "optuna": (">=5,<6", "5.0.0"),
    "pillow": (">=10", "13.0.0"),
    "psutil": (">=5.9", "7.2.2"),
    "pyarrow": (">=15", "25.0.1"),
    "pytorch-lightning": (">=2.5,<3,!=2.6.2,!=2.6.3", "2.6.6"),
    "scipy": (">=1.10", "1.18.1"),
    "torch": (">=2.6,<3", "2.13.0"),
    "xxhash": (">=3", "4.1.0"),
}
MALICIOUS = {("lightning", "2.6.2"), ("lightning", "2.6.3")}


def check(place: Place) -> Told:
    """Python and each distribution that is installed."""
    if sys.version_info < PYTHON_FLOOR:
        yield problem(
            f"Python {sys.version.split()[0]} is too old.",
            "Dovetail needs 3.10 or newer.",
            "Make a new environment with a newer Python.",
        )
    installed = dict(_installed())
    wrong = list(_wrong(installed))
    yield from wrong
    newer = [f"{name} {version}" for name, version in installed.items() if _is_newer(version, RANGES[name][1])]
    if newer:
        yield note(
            f"Newer than what Dovetail is tested with: {', '.join(newer)}.",
            "They are within the range that it takes.",
            "If something odd happens, install the project's requirements.lock.",
        )
    if not wrong:
        python = ".".join(map(str, sys.version_info[:3]))
        yield ok(f"Dovetail {__version__}, Python {python}; {len(installed)} packages are in the range that it takes.")


def _installed() -> Iterator[tuple[str, str]]:
    for name in RANGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue


def _wrong(installed: dict[str, str]) -> Iterator[Finding]:
    from packaging.specifiers import SpecifierSet

    for name, version in installed.items():
        taken = RANGES[name][0]
        if (name, version) in MALICIOUS:
            yield problem(
                f"{name} {version} is malicious.",
                "The advisory GHSA-w37p-236h-pfx3 tells what it does.",
                "Remove it, and change the tokens and passwords that this machine has.",
            )
        elif not SpecifierSet(taken, prereleases=True).contains(version):
            yield problem(
                f"{name} {version} does not fit.",
                f"Dovetail takes {taken}.",
                f'Run: pip install "{name}{taken}"; or install the project\'s requirements.txt.',
            )
    full, skinny = installed.get("mlflow"), installed.get("mlflow-skinny")
    if full and skinny and full != skinny:
        yield problem(
            f"mlflow is {full} and mlflow-skinny is {skinny}.",
            "They are two halves of one program, in the same folder.",
            f"Run: pip install --force-reinstall --no-deps mlflow=={full} mlflow-skinny=={full}",
        )


def _is_newer(version: str, tested: str) -> bool:
    """By its first two numbers: a later patch is nothing to tell."""
    from packaging.version import Version

    return Version(version).release[:2] > Version(tested).release[:2]
