"""What Dovetail costs a real Lightning training: `python tests/benchmarks/log_metrics_lightning.py`.

The digits and the template's network, two metrics logged every step, a validation and a checkpoint every 1,800 steps.
Each pair is a training without a logger and one with DovetailLogger, in processes of their own, in an order that
alternates; both take the same number of steps, which the machine does in about `--seconds` without a logger. The ratio
is of the wall time of `trainer.fit`, in which the logger ends its run; beside it the medians of two more ratios, of the
time a step and of the trainer's processor time. `--noop` adds Lightning's logger that does nothing: what Lightning
itself takes to hand the metrics over.
"""

from __future__ import annotations

import sys

# This file's folder, last: logging.py in it has the name of a module of the standard library.
sys.path.append(sys.path.pop(0))

import argparse
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

from loggers import processes

Figures = dict[str, float]

CALIBRATION_STEPS, FEWEST_STEPS = 500, 200
LOSS = "bench/loss"
SAMPLE_SECONDS = 2.0
GOAL_RATIO = 1.01
COLUMNS = ("run", "threads", "steps", "no logger, s", "Dovetail, s", "ratio of each pair", "median")
MORE_COLUMNS = ("a step", "CPU", "kept")


def measure(root: Path, template: Path, arm: str, steps: int, threads: int) -> Figures:
    """One training in a new process."""
    folder = Path(tempfile.mkdtemp(prefix=f"{arm}-", dir=root))
    database = processes.copy_database(template, folder)
    environment = processes.make_environment(folder, f"sqlite:///{database}")
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment.pop(name)
        if threads:
            environment[name] = str(threads)
    arguments = [arm, str(steps), str(threads)]
    figures = processes.run_worker("fit.py", arguments, folder, environment, SAMPLE_SECONDS)
    return {**figures, "kept": processes.count_points(database, folder.name, LOSS) / steps}


def compare(
    run: Callable[[str, int], Figures], arms: list[str], seconds: float, pairs: int
) -> dict[str, list[Figures]]:
    """`pairs` trainings of each arm, of as many steps as the first one does in `seconds`."""
    calibrated = run(arms[0], CALIBRATION_STEPS)
    steps = max(FEWEST_STEPS, round(seconds * 1e6 / calibrated["loop_us"]))
    found: dict[str, list[Figures]] = {arm: [] for arm in arms}
    for pair in range(pairs):
        for arm in arms if pair % 2 == 0 else arms[::-1]:
            found[arm].append({**run(arm, steps), "steps": steps})
            load = os.getloadavg()[0]
            print(f"{pair + 1}/{pairs} {arm} {found[arm][-1]['fit_seconds']:.2f} s, load {load:.1f}", file=sys.stderr)
    return found


def take_ratios(found: dict[str, list[Figures]], arm: str, name: str) -> list[float]:
    return [ours[name] / plain[name] for ours, plain in zip(found[arm], found["none"], strict=True)]


def show(label: str, found: dict[str, list[Figures]], arm: str) -> tuple[str, ...]:
    ours, plain = found[arm], found["none"]
    ratios = take_ratios(found, arm, "fit_seconds")
    seconds = (f"{median(one['fit_seconds'] for one in arm_figures):.2f}" for arm_figures in (plain, ours))
    each = " ".join(f"{ratio:.4f}" for ratio in ratios)
    others = (f"{median(take_ratios(found, arm, name)):.4f}" for name in ("loop_us", "cpu_seconds"))
    kept = f"{median(one['kept'] for one in ours):.1%}" if arm == "dovetail" else "-"
    size = (f"{plain[0]['threads']}", f"{plain[0]['steps']:,}")
    return (label, *size, *seconds, each, f"{median(ratios):.4f}", *others, kept)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="also trainings of a tenth of --seconds")
    parser.add_argument("--default-threads", action="store_true", help="also with torch's own choice of threads")
    parser.add_argument("--noop", action="store_true", help="also Lightning's logger that does nothing")
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    return parser.parse_args()


def main() -> None:
    options = read_options()
    arms = ["none", *(["noop"] if options.noop else []), "dovetail"]
    lengths = [options.seconds, *([options.seconds / 10] if options.short else [])]
    threads = [max(1, (os.cpu_count() or 2) - 1), *([0] if options.default_threads else [])]
    rows, figures = [], []
    with tempfile.TemporaryDirectory(prefix="lightning-") as directory:
        template = processes.make_database(Path(directory) / "template.db")
        for count in threads:
            for seconds in lengths:

                def run(arm: str, steps: int, count: int = count) -> Figures:
                    return measure(Path(directory), template, arm, steps, count)

                found = compare(run, arms, seconds, options.pairs)
                figures.append({"seconds": seconds, "threads": count, **found})
                rows += [show(f"{arm}, {seconds:.0f} s", found, arm) for arm in arms[1:]]
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    columns = (*COLUMNS, *MORE_COLUMNS)
    for row in (columns, tuple("---" for _ in columns), *rows):
        print(f"| {' | '.join(row)} |")
    held = median(take_ratios(figures[0], "dovetail", "fit_seconds")) <= GOAL_RATIO
    print(f"\nWithin 1 % of no logger ({options.seconds:.0f} s, {threads[0]} thread): {'yes' if held else 'NO'}")


if __name__ == "__main__":
    main()
