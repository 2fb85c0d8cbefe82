"""How long imports and commands take, each as a new process: `python tests/benchmarks/import_time.py`.

Prints a Markdown table of the median and the least of several runs, in milliseconds of wall-clock time.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

COMMANDS = {
    "bare interpreter": ["-c", "pass"],
    "import mlflow_dovetail": ["-c", "import mlflow_dovetail"],
    "import mlflow_dovetail.store": ["-c", "import mlflow_dovetail.store"],
    "import mlflow": ["-c", "import mlflow"],
    "dovetail --help": ["-m", "mlflow_dovetail", "--help"],
    "dovetail show": ["-m", "mlflow_dovetail", "show", "bench"],
}
MAKE_RUN = "from mlflow_dovetail import store; store.open(experiment='bench').create_run('0' * 32, name='bench')"


def measure_ms(arguments: list[str], folder: str, runs: int) -> list[float]:
    """Wall-clock milliseconds of each of `runs` new processes, after one that warms the file cache."""
    times = [_once_ms(arguments, folder) for _ in range(runs + 1)]
    return times[1:]


def _once_ms(arguments: list[str], folder: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    return (time.perf_counter() - begun) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-c", MAKE_RUN], cwd=folder, check=True, capture_output=True)
        print("| | median, ms | least, ms | least over bare, ms |\n|---|---|---|---|")
        bare = 0.0
        for name, arguments in COMMANDS.items():
            times = measure_ms(arguments, folder, runs)
            bare = bare or min(times)
            print(
                f"| {name} | {statistics.median(times):.0f} | {min(times):.0f} | {min(times) - bare:.0f} |", flush=True
            )


if __name__ == "__main__":
    main()
