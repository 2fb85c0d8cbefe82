#!/usr/bin/env python3
"""The commands of this repository, on any system, with nothing but Python 3.10, pip and git.

python3 make.py demo            bake a project, train it with `dvc repro`, show its run
python3 make.py test            lint, types and all tests; `python3 make.py test -k store` passes the rest to pytest
python3 make.py lock            resolve the generated project's requirements.lock anew

On Windows: `py make.py demo`, `py make.py test`. `make demo` and `make test` call the same.

Environments lie outside this folder (cookiecutter copies the whole of it at each bake): in the user's cache, or where
DOVETAIL_ENVIRONMENTS says. They are made once and again when what they are made from changes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PROJECT = ROOT / "template" / "{{cookiecutter.__project_slug}}"
LOCK = PROJECT / "requirements.lock"


def main() -> int:
    """Parse, check the machine, run one command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{demo,test,lock}")
    demo_parser = commands.add_parser("demo", help="bake a project, train it, show its run")
    demo_parser.add_argument("--into", type=Path, default=Path.home() / "dovetail-demo", help="default: %(default)s")
    commands.add_parser("test", help="lint, types and all tests", add_help=False)
    commands.add_parser("lock", help="resolve requirements.lock anew")
    arguments, rest = parser.parse_known_args()
    if rest and arguments.command != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    check_machine()
    try:
        if arguments.command == "demo":
            demo(arguments.into)
        elif arguments.command == "test":
            test(rest)
        else:
            lock()
    except subprocess.CalledProcessError as error:
        print(f"\nFailed: {shown(error.cmd)} exited with {error.returncode}; its message is above.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def check_machine() -> None:
    """Refuse what cannot work, before anything is made."""
    if sys.version_info < (3, 10):
        sys.exit(f"This is Python {sys.version.split()[0]}; Dovetail needs 3.10 or newer. Run it with another python3.")
    if shutil.which("git") is None:
        sys.exit("git is not on the PATH, and DVC needs it. Install git, then run this again.")


def demo(into: Path) -> None:
    """Everything a newcomer would do by hand, and nothing else."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # the demo's runs stay in the demo
    bin_dir = environment("demo", ["cookiecutter>=2.6"])
    parent = into.expanduser().resolve() / time.strftime("%Y-%m-%d-%H%M%S")
    say(f"Baking a project into {parent}")
    parent.mkdir(parents=True)
    run([bin_dir / "cookiecutter", ROOT, "--no-input", "project_name=Digits Demo", "--output-dir", parent])
    project = parent / "digits-demo"
    say("Installing what it needs: pip install -r requirements.txt (minutes the first time)")
    run([bin_dir / "python", "-m", "pip", "install", "--disable-pip-version-check", "-r", "requirements.txt"], project)
    path = os.pathsep.join([str(bin_dir), os.environ.get("PATH", "")])
    say("Training: dvc repro")
    run([bin_dir / "dvc", "repro"], project, PATH=path)
    say("Metrics: dvc metrics show metrics.json evaluation.json")
    run([bin_dir / "dvc", "metrics", "show", "metrics.json", "evaluation.json"], project, PATH=path)
    run_id = json.loads((project / "mlflow_run.json").read_text(encoding="utf-8"))["run_id"]
    say(f"The run: dovetail show {run_id}")
    run([bin_dir / "dovetail", "show", run_id], project)
    activate = f'"{bin_dir / "activate"}"' if os.name == "nt" else f'. "{bin_dir / "activate"}"'
    variable = "set" if os.name == "nt" else "export"
    say("To see it in the browser, and to go on as the project's README says:")
    print(f'\n  cd "{project}"\n  {activate}\n  {variable} MLFLOW_DISABLE_TELEMETRY=true\n  mlflow ui --workers 1\n')
    page = f"http://127.0.0.1:5000/#/experiments/1/runs/{run_id}"
    print(f"and open {page}?workflowType=machine_learning")
    print(f"Its predictions: {page}/artifacts/predictions/val/index.html?workflowType=machine_learning", flush=True)


def test(pytest_arguments: list[str]) -> None:
    """What CI runs."""
    bin_dir = environment("test", ["-r", LOCK, "-e", f"{ROOT}[dev]"])
    path = os.pathsep.join([str(bin_dir), os.environ.get("PATH", "")])
    if not pytest_arguments:
        say("Lint: ruff")
        run([bin_dir / "ruff", "check", "."], ROOT)
        run([bin_dir / "ruff", "format", "--check", "."], ROOT)
        say("Types: mypy")
        run([bin_dir / "mypy", "--cache-dir", environments() / "mypy"], ROOT)
    say("Tests: pytest")
    # A process more than there are cores, as many tests wait for another program; one thread each.
    processes = str((os.cpu_count() or 1) + 1)
    arguments = pytest_arguments or ["--numprocesses", processes, "--dist", "loadfile", "--no-loadscope-reorder"]
    run([bin_dir / "python", "-m", "pytest", *arguments], ROOT, PATH=path, OMP_NUM_THREADS="1")


def lock() -> None:
    """Resolve the direct dependencies of a baked project and of the plugin, for all systems and Pythons at once."""
    bin_dir = environment("lock", ["cookiecutter>=2.6", "uv"])
    header = [line for line in LOCK.read_text(encoding="utf-8").splitlines(keepends=True) if line.startswith("#")]
    with tempfile.TemporaryDirectory() as directory:
        run([bin_dir / "cookiecutter", ROOT, "--no-input", "project_name=Lock", "--output-dir", directory])
        settings, plugin, output = (Path(directory) / name for name in ("uv.toml", "plugin.in", "requirements.lock"))
        settings.write_text(TORCH_WITHOUT_CUDA, encoding="utf-8")
        plugin.write_text(f"mlflow-dovetail[all] @ {ROOT.as_uri()}\n{PINNED}", encoding="utf-8")
        flags = ["--universal", "--python-version", "3.10", "--no-annotate", "--no-header", "--config-file", settings]
        sources = [f"{directory}/lock/pyproject.toml", "--extra", "dev", plugin]
        run([bin_dir / "uv", "pip", "compile", *flags, "--no-emit-package", "mlflow-dovetail", "-o", output, *sources])
        LOCK.write_text("".join(header) + output.read_text(encoding="utf-8"), encoding="utf-8", newline="\n")
    say(f"Written: {LOCK.relative_to(ROOT)}")


# The newest torch is not always there as a CPU wheel; move it by hand, and run the tests on a GPU then.
PINNED = "torch==2.13.0\n"

# torch's own requirements without the CUDA packages, which are Linux's alone and gigabytes: pip adds them where the
# wheel asks for them.
TORCH_WITHOUT_CUDA = """
[[dependency-metadata]]
name = "torch"
requires-dist = ["filelock", "fsspec", "jinja2", "networkx", "setuptools<82", "sympy", "typing-extensions"]
"""


def environment(name: str, requirements: list[str | Path]) -> Path:
    """The folder of programs of a virtual environment that holds `requirements`; made when missing or out of date."""
    folder = environments() / name
    bin_dir = folder / ("Scripts" if os.name == "nt" else "bin")
    stamp = folder / "made-from"
    made_from = fingerprint(requirements)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == made_from:
        return bin_dir
    say(f"Setting up the environment in {folder} (minutes the first time)")
    run([sys.executable, "-m", "venv", "--clear", folder])
    run([bin_dir / "python", "-m", "pip", "install", "--disable-pip-version-check", *requirements])
    stamp.write_text(made_from, encoding="utf-8")
    return bin_dir


def environments() -> Path:
    """Where this checkout's environments lie."""
    if "DOVETAIL_ENVIRONMENTS" in os.environ:
        return Path(os.environ["DOVETAIL_ENVIRONMENTS"]).resolve()
    cache = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dovetail" / hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


def fingerprint(requirements: list[str | Path]) -> str:
    """What an environment is made from: this Python, the requirements, and the files that they name."""
    files = [LOCK, ROOT / "pyproject.toml"]
    parts = [sys.version, *map(str, requirements), *(file.read_text(encoding="utf-8") for file in files)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run(command: list[str | Path], cwd: Path | None = None, **variables: str) -> None:
    """Run a program with its output on ours."""
    subprocess.run([str(part) for part in command], cwd=cwd, env={**os.environ, **variables}, check=True)


def say(text: str) -> None:
    """One line of progress."""
    print(f"\n==> {text}", flush=True)


def shown(command: list[str]) -> str:
    """A command as a person would type it."""
    return " ".join(f'"{part}"' if " " in part else part for part in command)


if __name__ == "__main__":
    sys.exit(main())
