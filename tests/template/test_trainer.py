"""`trainer=ddp` is one run however it is launched, and leaves no process; `trainer=gpu` says where there is no GPU."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress

import psutil
import pytest
import torch

from mlflow_dovetail import names

from .project import QUIET

# Two processes make 10 steps of an epoch that one makes in 20.
STEPS = 10
LONG = "trainer.max_epochs=1000"
STEP = "        images, labels = batch\n        loss: Tensor"
WRONG = (
    '        if self.global_rank == 1 and self.lr == 0.01:\n            raise ValueError("this rank is wrong")\n' + STEP
)
SCORE = "        score = float(best.best_model_score)\n"
# Longer than a rank that fails is waited for; a rank that fails now has done its part.
SLOW = (
    "        if not trainer.is_global_zero:\n"
    '            raise ValueError("too late to matter")\n'
    "        __import__('time').sleep(6)\n" + SCORE
)
PATIENCE = "ALONE_SECONDS = 60"
# A job of one task, as Hydra's submitit launcher starts it: Lightning would ask for a task a process.
SLURM = {"SLURM_NTASKS": "1", "SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
# What a rank does is given as an argument: a process that imports the program again must not begin again.
RANKS = """
import os, resource, sys, time
import torch, torch.distributed as dist
from digits_classifier import ranks
ranks.ALONE_SECONDS = 3

def say(*words):  # at once, on a line of its own: two processes write here
    os.write(1, ("\\n" + " ".join(map(str, words)) + "\\n").encode())

def work(how):
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    if how == f"{rank} fails early":
        raise ValueError(f"{rank} cannot begin")
    with ranks.started(2, work, how):
        if how == f"{rank} fails alone":
            raise ValueError(f"{rank} is not in the group")
        if how == f"{rank} dies before its worker" and not os.fork():
            os.closerange(0, 3)
            time.sleep(5)
            os._exit(0)
        dist.init_process_group("gloo", rank=rank, world_size=2)
        say("rank", rank, os.getpid())
        if how == f"{rank} fails":
            raise ValueError(f"{rank} is wrong")
        if how.startswith(f"{rank} dies"):
            os.kill(os.getpid(), 9)
        if how == "long":
            time.sleep(100)
        dist.barrier()

if __name__ == "__main__":
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for how in sys.argv[1:]:
        if how == "no room":  # for one more file: enough to find a port, and too few to begin a rank
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, most))
        try:
            work(how)
            say("done")
        except Exception as error:
            say(type(error).__name__, error)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
        say(sorted(set(ranks.ENVIRONMENT) & set(os.environ)), dist.is_initialized())
"""


@pytest.fixture(scope="module")
def project(new_project):
    return new_project(epochs=1)


def steps(folder):
    return torch.load(folder / "model.ckpt", weights_only=True)["global_step"]


def living(processes):
    """Those of some processes that still run; the recorder of a run goes on a while, and is none of them."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it may end between two questions
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def of_training(process):
    """The other ranks of a training: its children that Python's multiprocessing has made."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "multiprocessing.spawn" in " ".join(child.cmdline()):
                found.append(child)
    return found


def wait_until(condition, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.2)


def test_a_dvc_experiment_of_two_processes_is_one_run(project):
    with project.new_runs() as made:
        project.dvc("exp", "run", "--name", "two", "-S", "trainer=ddp")
    (run,) = made
    assert (run.status, run.params["trainer.strategy"]) == ("FINISHED", "ddp")
    assert run.tags[names.TAG_DVC_EXPERIMENT] == "two"
    assert steps(project.path) == STEPS
    assert {"val/acc", "test/acc"} <= run.metrics.keys()
    assert project.run_id == run.run_id
    status = {line[-1] for line in map(str.split, project.git("status", "--porcelain").splitlines())}
    assert status <= {"dvc.lock", "evaluation.json", "metrics.json", "mlflow_run.json", "params.yaml"}
    # All validated examples, each once, whichever process had them.
    rows = json.loads(project.run("dovetail", "predictions", "show", run.run_id, "--json").output)["rows"]
    assert (len(rows), len({row["id"] for row in rows})) == (270, 270)


def test_a_sweep_of_two_processes_each_has_a_run_a_job_and_says_which_process_failed(project):
    edits = [("model.py", STEP, WRONG), ("train.py", SCORE, SLOW), ("ranks.py", PATIENCE, "ALONE_SECONDS = 3")]
    with ExitStack() as stack:
        for name, old, new in edits:
            stack.enter_context(project.edited(f"{project.package}/{name}", old, new))
        made = stack.enter_context(project.new_runs())
        command = project.module("train", QUIET, "-m", "trainer=ddp", "trainer.max_epochs=1", "model.lr=1e-3,1e-2")
        done = project.attempt(*command, **SLURM)
    assert done.code != 0
    parent, *children = made
    assert [run.status for run in made] == ["FAILED", "FINISHED", "FAILED"], done.output
    assert [child.tags.get(names.TAG_MLFLOW_PARENT) for child in children] == [parent.run_id] * 2
    assert [child.params["model.lr"] for child in children] == ["0.001", "0.01"]
    assert "RankError: rank 1 failed: ValueError: this rank is wrong" in done.output
    assert "this rank is wrong" in children[1].tags[names.TAG_END_CAUSE]
    (folder,) = project.path.glob("outputs/multirun/*/*")
    assert steps(folder / "0") == STEPS
    # The other process has no output directory of its own, neither here nor in the project.
    assert {path.name for path in folder.iterdir()} == {"0", "1", "multirun.yaml"}
    assert {path.name for path in (project.path / "outputs").iterdir()} == {"multirun"}


def test_ctrl_c_ends_both_processes(project, tmp_path):
    command = project.module("train", QUIET, "trainer=ddp", LONG, f"hydra.run.dir={tmp_path}")
    with project.new_runs() as made, (tmp_path / "output.txt").open("w") as output:
        process = subprocess.Popen(
            command, cwd=project.path, env=project.environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            wait_until(lambda: (tmp_path / "checkpoints" / "last.ckpt").exists())
            others = of_training(process)
            assert len(others) == 1
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) != 0
            wait_until(lambda: not living(others), 10)
        finally:
            process.kill()
            process.wait()
    (run,) = made
    assert run.status == "KILLED", (tmp_path / "output.txt").read_text()


def test_ranks_start_fail_and_start_again(project):
    (project.path / "try_ranks.py").write_text(RANKS, encoding="utf-8")
    ways = [
        "no room", "1 fails early", "1 fails", "1 dies", "1 dies before its worker", "0 fails", "well", "1 fails alone",
    ]  # fmt: skip
    try:
        done = project.attempt(sys.executable, "try_ranks.py", *ways)
    finally:
        (project.path / "try_ranks.py").unlink()
    told = ("done", "RankError", "ValueError 0", "OSError [", "[")
    lines = [line for line in done.output.splitlines() if line.startswith(told)]
    clean = "[] False"
    assert lines == [
        "OSError [Errno 24] Too many open files", clean,
        "RankError rank 1 failed: ValueError: 1 cannot begin", clean,
        "RankError rank 1 failed: ValueError: 1 is wrong", clean,
        "RankError rank 1 was ended by signal 9", clean,
        "RankError rank 1 was ended by signal 9", clean,
        "ValueError 0 is wrong", clean,
        "done", clean,
        # Rank 0 waits for the group where nothing reaches it: its program is ended, and says why.
        "RankError: rank 1 failed: ValueError: 1 is not in the group. Rank 0 still waits for it, and is ended.",
    ]  # fmt: skip
    assert done.code == -signal.SIGTERM


def test_a_rank_does_not_outlive_a_training_that_is_killed(project, tmp_path):
    (project.path / "try_ranks.py").write_text(RANKS, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "try_ranks.py", "long"], cwd=project.path, env=project.environment, stdout=subprocess.PIPE
    )
    try:
        begun = [process.stdout.readline() for _ in range(4)]
        assert {line[:6] for line in begun if line.strip()} == {b"rank 0", b"rank 1"}
        others = of_training(process)
        assert len(others) == 1
        process.kill()
        wait_until(lambda: not living(others), 10)
    finally:
        process.kill()
        process.communicate()
        (project.path / "try_ranks.py").unlink()


def test_a_missing_gpu_is_said_before_there_is_a_run(project):
    with project.new_runs() as made:
        done = project.attempt(*project.module("train", QUIET, "trainer=gpu"), CUDA_VISIBLE_DEVICES="")
    assert done.code != 0
    assert "'trainer.accelerator' is 'gpu'" in done.output
    assert "sees no GPU. Look at `nvidia-smi`" in done.output
    assert "Traceback" not in done.output
    assert made == []


def test_a_compiled_network_is_the_same_network(project, tmp_path):
    cache = tmp_path / "cache"
    quick = {"TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0", "ATEN_CPU_CAPABILITY": "default"}
    overrides = ["debug=default", "model=mlp", "model.dropout=0", "trainer.compile=true", f"hydra.run.dir={tmp_path}"]
    project.train(*overrides, TORCHINDUCTOR_CACHE_DIR=str(cache), **quick)
    assert [file for file in cache.rglob("*.py") if "cpp_fused" in file.read_text()], "nothing was compiled"
    weights = torch.load(tmp_path / "model.ckpt", weights_only=True)["state_dict"]
    assert "network.1.weight" in weights
