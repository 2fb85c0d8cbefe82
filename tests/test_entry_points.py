"""Entry points as MLflow finds them: real distributions on a path, real processes, a real store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_dovetail import context, entry_points, names
from mlflow_dovetail.entry_points import RunContextProvider
from mlflow_dovetail.errors import DovetailError

PLUGINS = Path(__file__).resolve().parent.parent / "plugins"
OWN = "mlflow_dovetail.entry_points:RunContextProvider"

RUN = """
import json
import mlflow
mlflow.set_tracking_uri("sqlite:///store.db")
with mlflow.start_run() as run:
    mlflow.log_metric("a", 1.0)
found = mlflow.get_run(run.info.run_id)
print(json.dumps({"tags": found.data.tags, "status": found.info.status, "metrics": found.data.metrics}))
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("GIT_", "DVC_", "DOVETAIL_", "MLFLOW_", "SLURM_"))]:
        monkeypatch.delenv(name)
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = T\n\temail = t@example.org\n[safe]\n\tdirectory = *\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, made once: the migration takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    code = "import mlflow; mlflow.MlflowClient('sqlite:///store.db').create_experiment('lightning')"
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return folder / "store.db"


@pytest.fixture
def repo(tmp_path: Path, store: Path) -> Path:
    root = tmp_path / "repo"
    root.mkdir()
    shutil.copy(store, root)
    (root / ".gitignore").write_text("store.db\n")
    commands = [
        "git init -q -b main",
        "git add .",
        "git commit -q -m first",
        "git remote add origin https://u:p@h/x.git",
    ]
    for command in commands:
        subprocess.run(command.split(), cwd=root, check=True)
    return root


def install(site: Path, name: str, target: str) -> None:
    """A distribution as an installer leaves it, with one entry point of MLflow's group."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mlflow.run_context_provider]\n{name} = {target}\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    install(tmp_path / "site", "dovetail", OWN)
    return tmp_path / "site"


@pytest.fixture
def python(site: Path, repo: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        script = tmp_path / "script.py"
        script.write_text(code)
        path = os.pathsep.join([str(site), str(PLUGINS)])
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=repo,
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def last_line(done: subprocess.CompletedProcess[str]) -> dict[str, object]:
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_project_declares_the_entry_point() -> None:
    assert f'dovetail = "{OWN}"' in (PLUGINS.parent / "pyproject.toml").read_text()


def test_a_plain_script_carries_the_tags(python: Callable[..., subprocess.CompletedProcess[str]], repo: Path) -> None:
    found = last_line(python(RUN, "--token", "hunter2", "db.password=hunter2", "x" * 100_000, DVC_STAGE="train"))
    tags = found["tags"]
    assert isinstance(tags, dict)
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=repo, text=True).strip()
    expected = {
        "dovetail.schema": "1",
        "dovetail.git.commit": commit,
        "dovetail.git.branch": "main",
        "dovetail.git.dirty": "false",
        "dovetail.git.remote": "https://h/x.git",
        "dovetail.dvc.stage": "train",
        "dovetail.status.context": "ok",
    }
    assert {key: tags.get(key) for key in expected} == expected
    assert "script.py --token *** db.password=*** xxx" in tags["dovetail.command"]
    assert len(tags["dovetail.command"]) == names.MAX_TAG_LENGTH
    assert {"dovetail.host", "dovetail.os", "dovetail.python"} <= set(tags)
    assert "hunter2" not in json.dumps({key: value for key, value in tags.items() if key.startswith("dovetail.")})


LIGHTNING = """
import json, warnings
warnings.simplefilter("ignore")
import mlflow
from pytorch_lightning.loggers import MLFlowLogger
logger = MLFlowLogger("lightning", tracking_uri="sqlite:///store.db", run_name="r")
run = mlflow.MlflowClient("sqlite:///store.db").get_run(logger.run_id)
print(json.dumps(run.data.tags))
"""


def test_lightnings_own_logger_carries_the_tags(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    pytest.importorskip("pytorch_lightning")
    tags = last_line(python(LIGHTNING))
    assert tags["dovetail.status.context"] == "ok"
    assert tags["dovetail.git.dirty"] == "false"


def test_disabled_means_no_tag(python: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    found = last_line(python(RUN, DOVETAIL_DISABLED="1"))
    assert not [tag for tag in found["tags"] if "dovetail" in tag]  # type: ignore[attr-defined]


NESTED = """
import json
import mlflow
mlflow.set_tracking_uri("sqlite:///store.db")
with mlflow.start_run() as job:
    with mlflow.start_run(nested=True) as inner:
        model = mlflow.initialize_logged_model("m")
parents = [mlflow.get_run(run.info.run_id).data.tags.get("mlflow.parentRunId") for run in (job, inner)]
print(json.dumps({"parents": parents, "job": job.info.run_id, "model": dict(model.tags)}))
"""


def test_a_job_is_the_child_of_its_sweep_and_a_nested_run_keeps_its_own_parent(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    found = last_line(python(NESTED, DOVETAIL_PARENT_RUN="a" * 32))
    assert found["parents"] == ["a" * 32, found["job"]]


BAD = {
    "raises at import": "raise RuntimeError('broken')",
    "is not there": "",
    "raises in tags": "class P:\n def in_context(self): return True\n def tags(self): raise OSError('broken')",
    "returns None": "class P:\n def in_context(self): return True\n def tags(self): return None",
}


def test_strangers_broken_providers_cost_only_their_own_tags(
    python: Callable[..., subprocess.CompletedProcess[str]], site: Path
) -> None:
    strangers = [kind for kind in BAD if kind != "raises at import"]
    for number, kind in enumerate(strangers):
        (site / f"stranger{number}.py").write_text(BAD[kind])
        install(site, f"stranger{number}", f"stranger{number}:P")
    done = python(RUN)
    found = last_line(done)
    assert found["status"] == "FINISHED"
    assert found["tags"]["dovetail.status.context"] == "ok"  # type: ignore[index]
    assert done.stderr.count("WARNING mlflow.tracking.context.registry") == len(strangers) - 1
    assert "Failure attempting to register" in done.stderr


def test_an_import_that_raises_would_break_mlflow_so_ours_must_not(
    python: Callable[..., subprocess.CompletedProcess[str]], site: Path
) -> None:
    """Shows that the next test can fail: MLflow survives an ImportError and nothing else."""
    (site / "stranger.py").write_text(BAD["raises at import"])
    install(site, "stranger", "stranger:P")
    assert python("import mlflow").returncode == 1


OWN_FAULTS = {
    "the room cannot be imported": "sys.modules[ROOM] = None",
    "the room has lost its names": "sys.modules[ROOM] = types.ModuleType(ROOM)",
    "a part raises": "room.PARTS = (lambda: 1 / 0, *room.PARTS[1:])",
    "a part returns None": "room.PARTS = (lambda: None, *room.PARTS[1:])",
    "a part is missing": "room.PARTS = room.PARTS[:-1]",
    "a tag is a number": "room.encode = lambda record: {'dovetail.host': 5}",
    "the tags are None": "room.seal = lambda tags: None",
    "the tags are a number": "room.seal = lambda tags: 5",
}
FAULTY_RUNS = """
import json, sys, types
import mlflow
import mlflow_dovetail.context as room
mlflow.set_tracking_uri("sqlite:///store.db")
ROOM, package, plain = room.__name__, sys.modules["mlflow_dovetail"], dict(vars(room))
for fault in json.loads(sys.argv[1]):
    exec(fault)
    if sys.modules[ROOM] is not room:
        del package.context
    with mlflow.start_run() as run:
        mlflow.log_metric("a", 1.0)
    sys.modules[ROOM] = package.context = room
    vars(room).update(plain)
    found = mlflow.get_run(run.info.run_id)
    print(json.dumps({"tags": found.data.tags, "status": found.info.status, "metrics": found.data.metrics}))
"""


def test_a_fault_of_our_own_leaves_the_run_intact_and_is_told(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = python(FAULTY_RUNS, json.dumps(list(OWN_FAULTS.values())))
    assert done.returncode == 0, done.stderr
    runs = dict(zip(OWN_FAULTS, map(json.loads, done.stdout.splitlines()), strict=True))
    assert {fault: (run["status"], run["metrics"]) for fault, run in runs.items()} == dict.fromkeys(
        OWN_FAULTS, ("FINISHED", {"a": 1.0})
    )
    for fault, run in runs.items():
        status = run["tags"]["dovetail.status.context"]
        assert status.startswith("degraded: "), fault
        assert "×1" in status, fault
        assert ("dovetail.host" in run["tags"]) is fault.startswith("a part"), fault


def test_a_broken_room_leaves_import_mlflow_intact(
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = python("import sys\nsys.modules['mlflow_dovetail.context'] = None\nimport mlflow\nprint('{}')")
    assert last_line(done) == {}
    assert "Failure attempting to register" not in done.stderr


TIMED = """
import time
from mlflow_dovetail.entry_points import RunContextProvider
plain = RunContextProvider.tags
def tags(self):
    started = time.monotonic()
    return {**plain(self), "seconds": str(time.monotonic() - started)}
RunContextProvider.tags = tags
"""


def test_a_git_that_hangs_five_seconds_delays_a_run_by_little_more_than_one(
    python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    real = str(shutil.which("git"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/git").write_text("#!/bin/sh\nsleep 5\n")
    (tmp_path / "bin/git").chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    # MLflow's own git provider has no limit: it gets the real git, so that ours alone is measured.
    found = last_line(python(TIMED + RUN, PATH=path, GIT_PYTHON_GIT_EXECUTABLE=real))
    tags = found["tags"]
    assert isinstance(tags, dict)
    assert found["status"] == "FINISHED"
    assert tags["dovetail.status.context"] == "degraded: git rev-parse took over 1 s ×1"
    assert "dovetail.git.commit" not in tags
    assert 0.9 < float(tags["seconds"]) < 2.2


HEAVY = ("mlflow", "torch", "pandas", "dvc", "yaml", "hydra", "mlflow_dovetail.context")


@pytest.mark.parametrize(("module", "light"), [("mlflow_dovetail.entry_points", True), ("mlflow", False)])
def test_loading_the_entry_point_imports_nothing_heavy(
    module: str, light: bool, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """The second case shows that the first can fail."""
    done = python(f"import sys, {module}\nprint([name for name in {HEAVY!r} if name in sys.modules])")
    assert (done.stdout.strip() == "[]") is light


def test_the_number_of_parts_is_the_rooms() -> None:
    assert len(context.PARTS) == entry_points._PARTS


@pytest.mark.parametrize(("value", "inside"), [("1", False), ("true", False), ("", True), ("0", True), ("off", True)])
def test_disabled_is_read_at_each_call(value: str, inside: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(names.ENV_DISABLED, value)
    assert RunContextProvider().in_context() is inside


def test_strict_raises_with_cause_and_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(names.ENV_STRICT, "1")
    with pytest.raises(DovetailError, match=r"in no git repository.*unset DOVETAIL_STRICT"):
        RunContextProvider().tags()
    monkeypatch.setenv(names.ENV_STRICT, "0")
    assert RunContextProvider().tags()["dovetail.status.context"].startswith("degraded")


def test_strict_is_silent_when_all_is_well(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)
    monkeypatch.setenv(names.ENV_STRICT, "1")
    assert RunContextProvider().tags()["dovetail.status.context"] == "ok"


def test_causes_are_counted_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    provider = RunContextProvider()
    with caplog.at_level("INFO"):
        told = [provider.tags()[entry_points._STATUS_CONTEXT] for _ in range(3)]
    assert [status[-2:] for status in told] == ["×1", "×2", "×3"]
    assert len(caplog.records) == 1
