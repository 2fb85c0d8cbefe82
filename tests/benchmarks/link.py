"""From a revision to its runs and from a run to its revisions: `python tests/benchmarks/link.py`.

Generated histories in one pack: every commit and every DVC experiment is a run of its own, with a new link file and a
new dvc.lock of four stages, in a tree of 200 other files; the experiments are refs, loose as DVC leaves them, 20 on a
commit. The run that is looked for is in the middle. `first` is without anything kept, `again` with what the first has
kept, another run is one that was not asked for before; each in a new process that has its imports done. Beside them,
`git log` of the two files alone, and `git for-each-ref`, without which nobody knows that no ref has moved. Medians of
rounds, in milliseconds.

Then what a run in a stage costs: what is read of it at its start, beyond imports, with 20 dependencies of two sizes
that DVC has hashed before; and `dvc repro` of a stage that is a bare program, one that is a run of MLflow's, and one
that is a linked run, in turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
SIZES = ((100, 10), (1_000, 100), (10_000, 1_000))
GOALS_MS = {"revision": 20.0, "first": 1000.0, "again": 50.0}
LOG = ("log", "--all", "--format=%H", "--raw", "--", "mlflow_run.json", "dvc.lock")
STAGES = ("compose", "prepare", "train", "evaluate")
PREPARE = """
import sys, time
from pathlib import Path
from mlflow_dovetail.dvc_link.history import RunFacts, links_at, revs_of
from dvc.utils.serialize import parse_yaml
parse_yaml("a: 1", "")
started = time.perf_counter()
"""
ASK = """
(found,) = revs_of(Path.cwd(), RunFacts(sys.argv[1], sys.argv[2], "FINISHED", sys.argv[3]))
assert found.verdict == "exact", found
"""
LOOK = """
(found,) = links_at(Path.cwd(), "HEAD")
assert found.link and found.token == found.lock_token, found
"""
FINISH = "print((time.perf_counter() - started) * 1000)"
HEADER = (
    "commits", "experiments", "`git log`, ms", "`git for-each-ref`, ms", "revision → run, ms",
    "run → revisions: first, ms", "again, ms", "another run, ms", "first, ratio to `git log`", "goals held",
)  # fmt: skip

CAPTURE = """
import os, sys, time
from pathlib import Path
import dvc.repo, dvc.stage, dvc_data.hashfile.build
from mlflow_dovetail.dvc_link import read_state
started = time.perf_counter()
state = read_state(Path.cwd(), {**os.environ, "DVC_STAGE": "train"})
taken = time.perf_counter() - started
assert len(state.deps) == 20 and all(dep.digest and dep.in_cache for dep in state.deps) and not state.cause, state
print(taken * 1000)
"""
SIZES_BYTES = (10_000, 50_000_000)
PROGRAMS = {
    "bare": "{work}",
    "MLflow": "import mlflow\nmlflow.set_tracking_uri('sqlite:///mlflow.db')\nwith mlflow.start_run():\n    {work}",
    "Dovetail": "import mlflow_dovetail as dt\nwith dt.start_run() as run:\n    {work}\n    run.write_link()",
}
WORK = "import time, pathlib; time.sleep({seconds}); pathlib.Path('model.txt').write_text('a')"


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def link_of(number: int) -> str:
    ids = {"run_id": md5(f"run {number}"), "store": "sqlite:///mlflow.db", "token": token_of(number)}
    return json.dumps(ids, indent=2, sort_keys=True) + "\n"


def token_of(number: int) -> str:
    return md5(f"token {number}")


def lock_of(number: int) -> str:
    lines = ["schema: '2.0'", "stages:"]
    for stage in STAGES:
        lines += [f"  {stage}:", f"    cmd: python -m project.{stage}", "    deps:"]
        for name in ("data/prepared", *(f"project/file{one}.py" for one in range(6))):
            lines += _item(name, md5(f"{stage} {name} {number}"))
        lines += ["    params:", "      params.yaml:", f"        model.lr: {number / 7}", "    outs:"]
        lines += _item(f"{stage}.out", md5(f"{stage} {number}"))
        lines += _item("mlflow_run.json", md5(link_of(number))) if stage == "train" else []
    return "\n".join(lines) + "\n"


def _item(path: str, digest: str) -> list[str]:
    return [f"    - path: {path}", "      hash: md5", f"      md5: '{digest}'", "      size: 1797"]


def history(commits: int, experiments: int) -> Iterator[str]:
    """For `git fast-import`; marks are numbers from 1."""
    for number in range(1, commits + experiments + 1):
        is_experiment = number > commits
        base = base_of(number, commits) if is_experiment else number - 1
        yield f"commit {'refs/import/' + str(number) if is_experiment else 'refs/heads/main'}\nmark :{number}\n"
        yield f"committer Bench <bench@example.org> {1_600_000_000 + number * 60} +0000\ndata 1\nx\n"
        yield f"from :{base}\n" if base else "".join(map(_file, (f"src/{one}/a.py" for one in range(200))))
        yield _file("mlflow_run.json", link_of(number)) + _file("dvc.lock", lock_of(number))


def base_of(experiment: int, commits: int) -> int:
    return max(commits - (experiment - commits - 1) // 20, 1)


def _file(path: str, text: str = "x = 1\n") -> str:
    return f"M 100644 inline {path}\ndata {len(text)}\n{text}\n"


def make(root: Path, commits: int, experiments: int) -> None:
    root.mkdir()
    git(root, "init", "--quiet", "--initial-branch=main")
    marks = root / ".git" / "marks"
    feed = "".join(history(commits, experiments)).encode()
    git(root, "fast-import", "--quiet", f"--export-marks={marks}", feed=feed)
    oids = dict(line.split() for line in marks.read_text().splitlines())
    moves = []
    for number in range(commits + 1, commits + experiments + 1):
        base = oids[f":{base_of(number, commits)}"]
        moves += [f"create refs/exps/{base[:2]}/{base[2:]}/exp-{number} {oids[f':{number}']}"]
        moves += [f"delete refs/import/{number}"]
    git(root, "update-ref", "--stdin", feed="\n".join([*moves, ""]).encode())
    git(root, "reset", "--quiet", "--hard", "main")


def git(root: Path, *arguments: str, feed: bytes = b"") -> None:
    subprocess.run(["git", *arguments], cwd=root, input=feed, check=True, stdout=subprocess.DEVNULL)


def time_ms(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def measure(root: Path, commits: int, rounds: int) -> dict[str, float]:
    rows = []
    for _ in range(rounds):
        shutil.rmtree(root / ".dovetail", ignore_errors=True)
        row = {"log": time_ms(lambda: git(root, *LOG)), "refs": time_ms(lambda: git(root, "for-each-ref"))}
        for name, number in (("first", commits // 2), ("again", commits // 2), ("another", commits // 3)):
            row[name] = in_new_process(root, ASK, token_of(number), md5(f"run {number}"), md5(link_of(number)))
        rows.append(row | {"revision": in_new_process(root, LOOK)})
    return {name: median(row[name] for row in rows) for name in rows[0]}


def in_new_process(root: Path, ask: str, *arguments: str, code: str = "") -> float:
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    command = [sys.executable, "-c", code or PREPARE + ask + FINISH, *arguments]
    return float(subprocess.check_output(command, cwd=root, text=True, env=environment))


def new_project(root: Path, deps: int, size_bytes: int) -> None:
    (root / "data").mkdir(parents=True)
    git(root, "init", "--quiet")
    dvc(root, "init", "--quiet")
    for number in range(deps):
        (root / f"data/{number}.bin").write_bytes(os.urandom(size_bytes))
    dvc(root, "add", "--quiet", *(f"data/{number}.bin" for number in range(deps)))


def write_stage(root: Path, deps: int, program: str) -> None:
    (root / "train.py").write_text(program)
    files = [f"data/{number}.bin" for number in range(deps)]
    metrics = [{"mlflow_run.json": {"cache": False}}] if "write_link" in program else []
    stage = {"cmd": f"{sys.executable} train.py", "deps": files, "outs": ["model.txt"], "metrics": metrics}
    (root / "dvc.yaml").write_text(json.dumps({"stages": {"train": stage}}))  # JSON is YAML


def dvc(root: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(PLUGINS), "MLFLOW_DISABLE_TELEMETRY": "true"}
    subprocess.run(["dvc", *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL, env=environment)


def print_captures(folder: Path, rounds: int) -> None:
    print_row(["20 dependencies, in all", "read at the start, ms", "goal 300 ms held"])
    print_row(["---"] * 3)
    for size_bytes in SIZES_BYTES:
        root = folder / f"capture-{size_bytes}"
        new_project(root, 20, size_bytes)
        write_stage(root, 20, "")
        found = median(in_new_process(root, "", code=CAPTURE) for _ in range(rounds))
        print_row([f"{20 * size_bytes / 1e6:,.1f} MB", f"{found:.0f}", "yes" if found <= 300 else "NO"])
        shutil.rmtree(root)


def print_stages(folder: Path, rounds: int, seconds: float) -> None:
    root = folder / f"stages-{seconds:g}"
    new_project(root, 20, SIZES_BYTES[0])
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(rounds + 1):  # the first makes the database
        for name, program in PROGRAMS.items():
            write_stage(root, 20, program.format(work=WORK.format(seconds=seconds)))
            found = time_ms(lambda: dvc(root, "repro", "--force"))
            if turn:
                taken[name].append(found)
    bare = median(taken["bare"])
    print_row([f"`dvc repro`, a stage of {seconds:g} s", "s", "ratio"])
    print_row(["---"] * 3)
    for name, each in taken.items():
        print_row([name, f"{median(each) / 1000:.2f}", f"{median(each) / bare:.2f}"])


def describe(commits: int, experiments: int, found: dict[str, float]) -> list[str]:
    held = "yes" if all(found[name] <= goal for name, goal in GOALS_MS.items()) else "NO"
    figures = [f"{found[name]:.0f}" for name in ("log", "refs", "revision", "first", "again", "another")]
    return [f"{commits:,}", f"{experiments:,}", *figures, f"{found['first'] / found['log']:.1f}", held]


def print_row(cells: list[str]) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", metavar="COMMITS,EXPERIMENTS", default=[f"{a},{b}" for a, b in SIZES])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", nargs="+", type=float, default=[0, 60], help="of the stages' work")
    options = parser.parse_args()
    load = " ".join(f"{one:.1f}" for one in os.getloadavg())
    tool = subprocess.check_output(["git", "--version"], text=True).split()[2]
    python = platform.python_version()
    print(f"{os.cpu_count()} cores, load {load}, Python {python}, git {tool}, dvc {version('dvc')}\n")
    print_row(list(HEADER))
    print_row(["---" for _ in HEADER])
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            commits, experiments = map(int, size.split(","))
            root = Path(folder) / size
            make(root, commits, experiments)
            print_row(describe(commits, experiments, measure(root, commits, options.rounds)))
        print()
        print_captures(Path(folder), options.rounds)
        for seconds in options.seconds:
            print()
            print_stages(Path(folder), options.rounds if seconds < 10 else 1, seconds)


if __name__ == "__main__":
    main()
