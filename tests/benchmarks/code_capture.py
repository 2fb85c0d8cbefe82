"""What it costs to keep a run's code, and what comes back of it: `python tests/benchmarks/code_capture.py`.

Repositories of nested folders, with files of about 2 KiB, one commit in one pack, an index that git has nothing left to
look up in; clean, and with changed files, half of them tracked and half untracked. Each figure is the median of
interleaved rounds in one process with all imports done, so that a busy machine slows all of them alike: read the
ratios, which are to `git status --porcelain`. `first` is a capture in a new process, the imports included.

Dovetail captures in the trainer; `proved` adds the patch and its proof, which the recorder makes beside the training.
W&B's is the command in wandb-core's source, MLflow's are its own functions. The second table applies what each has
kept to a clean clone, and compares the tree with that of `git add --all`.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from captures import repositories
from captures.repositories import Change
from captures.ways import Way, all_ways, git_status, working_in

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
CHANGES = (Change(0), Change(10), Change(1000))
BINARY = Change(10, has_binary=True)
GOAL_RATIO, GOAL_PROVED_RATIO, GOAL_SMALL_MS, GOAL_BOUND_MS = 2.5, 4.0, 100.0, 10_000.0
SMALL, FEW = 100, 10
FIRST_CAPTURE = """
import sys, time
from pathlib import Path
started = time.perf_counter()
from mlflow_dovetail.git_patch import Limits, capture
capture([Path.cwd()], Path(sys.argv[1]), attempt=1, leave_out=(), limits=Limits())
print((time.perf_counter() - started) * 1000)
"""


@dataclass(frozen=True)
class Figures:
    """Of one repository in one state.

    Args:
        files: Tracked.
        change: Its state.
        status_ms: Median of git's.
        ways_ms: Medians by way, of each of its stages; empty when it is not installed.
        worst_ms: The longest capture with its proof.
        first_ms: Median.
        restored: By way, in words.
    """

    files: int
    change: Change
    status_ms: float
    ways_ms: dict[str, list[float]]
    worst_ms: float
    first_ms: float
    restored: dict[str, str]


def measure(root: Path, scratch: Path, files: int, change: Change, rounds: int) -> Figures:
    ways = all_ways(scratch)
    here = [way for way in ways if way.installed]
    with working_in(root):
        keepers = [git_status, *(way.keep for way in here)]
        for keep in keepers:
            keep()
        rows = [[keep() for keep in keepers] for _ in range(rounds)]
        first = median(first_capture(scratch / f"first-{number}") for number in range(min(rounds, 5)))
    columns = [list(zip(*stages, strict=True)) for stages in zip(*rows, strict=True)]
    status, *others = [[median(stage) for stage in column] for column in columns]
    restored = restore_all(root, scratch, here)
    return Figures(
        files, change, status[0], dict(zip((way.label for way in here), others, strict=True)),
        max(columns[1][-1]), first, {way.label: restored.get(way.label, not_installed(way)) for way in ways},
    )  # fmt: skip


def first_capture(into: Path) -> float:
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    return float(subprocess.check_output([sys.executable, "-c", FIRST_CAPTURE, into], text=True, env=environment))


def restore_all(root: Path, scratch: Path, ways: list[Way]) -> dict[str, str]:
    whole = repositories.whole_tree(root, scratch / "whole")
    return {
        way.label: restore(root, way, whole, scratch, scratch / f"clone-{number}") for number, way in enumerate(ways)
    }


def restore(root: Path, way: Way, whole: str, scratch: Path, clone: Path) -> str:
    """What a clean clone has after the patch: yes when that is everything."""
    note = way.note()
    try:
        tree = repositories.restored_tree(root, way.patch(), clone)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["git says nothing"]
        return f"nothing: {said[0].removeprefix('error: ')}"
    missing = repositories.what_differs(clone, tree, whole, scratch / "whole")
    told = f"no: {missing} files are missing" if missing else "yes"
    return f"{told}; it says: {note}" if note else told


def not_installed(way: Way) -> str:
    return f"not installed: {way.needs}"


def describe_machine() -> str:
    versions = [f"git {subprocess.check_output(['git', '--version'], text=True).split()[-1]}"]
    for name in ("mlflow", "gitpython"):
        try:
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"{os.cpu_count()} cores, load {load()}, Python {platform.python_version()}, {', '.join(versions)}"


def load() -> str:
    return " ".join(f"{one:.1f}" for one in os.getloadavg())


def print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def print_head(*cells: str) -> None:
    print()
    print_row(*cells)
    print_row(*("---" for _ in cells))


def show_times(found: list[Figures], labels: list[str]) -> None:
    titles = [f"{title}{unit}" for title in ("capture", "proved", *labels[1:]) for unit in (", ms", ", ratio")]
    print_head("files", "changed", "`git status`, ms", *titles, "first, ms")
    for one in found:
        stages = [*one.ways_ms[labels[0]], *(one.ways_ms.get(label, [0.0])[0] for label in labels[1:])]
        cells = [cell for ms in stages for cell in ((f"{ms:.1f}", f"{ms / one.status_ms:.1f}") if ms else ("-", "-"))]
        print_row(f"{one.files:,}", str(one.change), f"{one.status_ms:.1f}", *cells, f"{one.first_ms:.0f}")


def show_restored(found: list[Figures], labels: list[str]) -> None:
    print_head("files", "changed", *(f"{label}: restores the exact tree" for label in labels))
    for one in found:
        print_row(f"{one.files:,}", str(one.change), *(one.restored[label] for label in labels))


def show_goals(found: list[Figures], ours: str) -> None:
    """Each goal with the worst state of each size, few changes apart from many."""
    print_head("goal", "files", "changed", "worst", "limit", "held")
    for files, is_many in dict.fromkeys((one.files, one.change.files > FEW) for one in found):
        here = [one for one in found if (one.files, one.change.files > FEW) == (files, is_many)]
        where = (f"{files:,}", f"over {FEW}" if is_many else f"{FEW} or none")
        for stage, what, limit in ((0, "capture", GOAL_RATIO), (1, "proved", GOAL_PROVED_RATIO)):
            worst = max(one.ways_ms[ours][stage] / one.status_ms for one in here)
            show_goal(f"{what}, ratio to `git status`", where, worst, limit)
        if files <= SMALL:
            worst = max(one.ways_ms[ours][0] for one in here)
            show_goal("capture on a small repository, ms", where, worst, GOAL_SMALL_MS)
        show_goal("the longest, proved, ms", where, max(one.worst_ms for one in here), GOAL_BOUND_MS)


def show_goal(what: str, where: tuple[str, str], worst: float, limit: float) -> None:
    print_row(what, *where, f"{worst:,.1f}", f"{limit:,g}", "yes" if worst <= limit else "NO")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, nargs="+", default=[SMALL, 5000, 50_000])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="without the largest, in five rounds")
    options = parser.parse_args()
    if options.quick:
        options.files, options.rounds = [SMALL, 5000], 5
    return options


def main() -> None:
    options = read_options()
    sys.path.insert(0, str(PLUGINS))
    machine = describe_machine()
    found = []
    with tempfile.TemporaryDirectory(prefix="code-") as folder:
        os.environ.update(repositories.no_other_settings(Path(folder)))
        for files in options.files:
            root = Path(folder) / f"repository-{files}"
            repositories.make_repository(root, files)
            for number, change in enumerate((*CHANGES, BINARY) if files == options.files[0] else CHANGES):
                repositories.change(root, change)
                if repositories.racy(root):
                    sys.exit(f"{root} has files that are as young as its index")
                scratch = Path(folder) / f"{files}-{number}"
                scratch.mkdir()
                found.append(measure(root, scratch, files, change, options.rounds))
                repositories.undo(root)
    labels = [way.label for way in all_ways(Path())]
    print(f"{machine}; load at the end {load()}; median of {options.rounds}")
    show_times(found, labels)
    show_restored(found, labels)
    show_goals(found, labels[0])


if __name__ == "__main__":
    main()
