"""What the run-context provider adds to the creation of a run, beside what it is made of.

    python tests/benchmarks/provider.py

Each figure is the median of interleaved repetitions in the same process, so that a busy machine slows all of them
alike: read the ratios first. "first" is the first call of a fresh process with MLflow loaded, the imports included.
The last column says whether the budget of 30 ms (100 files) and 150 ms (50,000 files) was held.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
BUDGET_MS = {100: 30.0, 50_000: 150.0}
FIRST_CALL = """
import sys, time, mlflow
from mlflow_dovetail.entry_points import RunContextProvider
started = time.perf_counter()
RunContextProvider().tags()
print((time.perf_counter() - started) * 1000)
"""
HEADER = ("files", "provider ms", "first ms", "git status ms", "ratio", "create_run ms", "ratio", "budget ms", "held")


def make_repository(root: Path, files: int) -> None:
    for number in range(files):
        folder = root / f"package{number // 100}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module{number}.py").write_text(f"x = {number}\n")
    identity = ["-c", "user.name=Bench", "-c", "user.email=bench@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    time.sleep(1.1)  # git reads again what is as young as its index
    subprocess.run(["git", "update-index", "-q", "--refresh"], cwd=root, check=True)


def time_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def run_git_status() -> None:
    subprocess.run(["git", "--no-optional-locks", "status", "--porcelain"], check=True, stdout=subprocess.DEVNULL)


def measure_first_call(repeats: int) -> float:
    command = [sys.executable, "-c", FIRST_CALL]
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    return median(float(subprocess.check_output(command, text=True, env=environment)) for _ in range(repeats))


def measure(files: int, repeats: int) -> tuple[float, ...]:
    """Medians in milliseconds: provider, first call, git status, create_run, in the working directory."""
    import mlflow

    from mlflow_dovetail.entry_points import RunContextProvider

    client = mlflow.MlflowClient()
    calls: tuple[Callable[[], object], ...] = (
        RunContextProvider().tags,
        run_git_status,
        lambda: client.create_run("0"),
    )
    for call in calls:
        call()
    rows = [[time_ms(call) for call in calls] for _ in range(repeats)]
    provider, status, create = (median(column) for column in zip(*rows, strict=True))
    return provider, measure_first_call(min(repeats, 5)), status, create


def describe(files: int, provider: float, first: float, status: float, create: float) -> tuple[str, ...]:
    budget = BUDGET_MS.get(files)
    figures = (provider, first, status, provider / status, create, provider / create)
    held = "-" if budget is None else "yes" if provider <= budget else "NO"
    return (f"{files:,}", *(f"{figure:.1f}" for figure in figures), "-" if budget is None else f"{budget:.0f}", held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=list(BUDGET_MS))
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    sys.path.insert(0, str(PLUGINS))
    print("".join(f"{cell:>15}" for cell in HEADER))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        for files in options.files:
            root = Path(folder) / str(files)
            root.mkdir()
            make_repository(root, files)
            os.chdir(root)
            print("".join(f"{cell:>15}" for cell in describe(files, *measure(files, options.repeats))), flush=True)
            os.chdir(folder)


if __name__ == "__main__":
    main()
