"""`python -m <package>.predict` takes every kind of model and of example, and refuses the rest in plain words."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import mlflow.pytorch
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

# One process asks many programs: what costs is the import of torch and Lightning.
ASKING = """
import contextlib, io, json, resource, sys
from digits_classifier import evaluate, predict
for line in sys.stdin:
    program, *sys.argv[1:] = json.loads(line)
    out, err = io.StringIO(), io.StringIO()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = {"predict": predict, "evaluate": evaluate}[program].main()
        except SystemExit as end:
            code = end.code
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([code, out.getvalue(), grown]), flush=True)
"""
RAW = "data/raw/digits.csv"
# A network of another kind, and the same kept as a pickle.
FOREIGN = nn.Sequential(nn.Linear(5, 2))


class Code:
    """What a hostile checkpoint holds: unpickled, it would run."""

    def __reduce__(self):
        return print, ("this must never run",)


@pytest.fixture(scope="module")
def ask(trained) -> Any:
    """`ask("model.ckpt", RAW)`: the exit code or the refusal, what was printed, and the kilobytes it took."""
    project = trained.project
    process = subprocess.Popen(
        [sys.executable, "-c", ASKING],
        cwd=project.path,
        env=project.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout

    def asked(*arguments: str | Path, program: str = "predict") -> list[Any]:
        process.stdin.write(json.dumps([program, *map(str, arguments)]) + "\n")
        process.stdin.flush()
        answer: list[Any] = json.loads(process.stdout.readline())
        return answer

    yield asked
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def registered(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output directory of a run that registered its model as `reader` and kept no predictions.

    Two other models are registered that are no digit readers.
    """
    project, folder = trained.project, tmp_path_factory.mktemp("registered")
    overrides = ("debug=default", "logger.register=reader", "callbacks.predictions=false")
    project.train(*overrides, f"hydra.run.dir={folder}")
    client = project.client
    client.set_registered_model_alias("reader", "champion", "1")
    for name, run_id, format in (
        ("foreign", project.run_id, "pt2"),
        ("pickled", project.run_id, "pickle"),
    ):
        about = {"pip_requirements": ["torch"], "input_example": np.zeros((2, 5), np.float32)}
        with warnings.catch_warnings():  # MLflow's, about its own type hints
            warnings.simplefilter("ignore")
            mlflow.pytorch.save_model(FOREIGN, folder / name, serialization_format=format, **about)
        client.create_registered_model(name)
        client.create_model_version(name, source=str(folder / name), run_id=run_id)
    return folder


@pytest.fixture(scope="module")
def examples(trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the first digits: a CSV without labels, and two images, one of them larger."""
    folder = tmp_path_factory.mktemp("examples")
    header, *rows = (trained.project.path / RAW).read_text().splitlines()
    unlabelled = [line.rpartition(",")[0] for line in (header, *rows[:3])]
    (folder / "b.csv").write_text("\n".join(unlabelled) + "\n")
    (folder / "more").mkdir()
    for name, row, side in (("a.png", rows[0], 8), ("more/c.PNG", rows[1], 64)):
        pixels = np.array(row.split(",")[:64], dtype=np.float32).reshape(8, 8) * (255 / 16)
        image = Image.fromarray(pixels.round().astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
        image.convert("RGB").save(folder / name)
    (folder / "notes.txt").write_text("not an example")
    return folder


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def test_a_checkpoint_a_run_and_a_unique_name_give_the_same(trained, ask, tmp_path):
    project, output = trained.project, tmp_path / "new" / "predictions.csv"
    assert ask("model.ckpt", RAW, "-o", output)[:2] == [None, f"{output}: 1797 predictions\n"]
    written = output.read_text()
    table = rows_of(written)
    labels = [line.rpartition(",")[2] for line in (project.path / RAW).read_text().splitlines()[1:]]
    right = sum(row["prediction"] == label for row, label in zip(table, labels, strict=True))
    assert right > 0.95 * len(labels)
    assert [int(row["row"]) for row in table] == list(range(1797))
    assert {row["file"] for row in table} == {"digits.csv"}
    assert all(0.1 <= float(row["probability"]) <= 1 for row in table)
    run = project.store.get_run(project.run_id)
    for model in (run.run_id, run.token, run.run_id[:12], run.name):
        assert ask(model, RAW)[:2] == [None, written]
    assert list(output.parent.iterdir()) == [output]


def test_a_registered_model_is_what_was_registered(ask, registered):
    same = ask(registered / "model.ckpt", RAW)[1]
    assert len(rows_of(same)) == 1797
    for name in ("models:/reader@champion", "models:/reader/1"):
        assert ask(name, RAW)[:2] == [None, same]


def test_a_directory_has_csvs_and_images_in_order(ask, examples):
    code, printed, _ = ask("model.ckpt", examples, "-o", "-")
    assert code is None
    table = rows_of(printed)
    assert [(row["file"], row["row"]) for row in table] == [
        ("a.png", "0"), ("b.csv", "0"), ("b.csv", "1"), ("b.csv", "2"), ("more/c.PNG", "0"),
    ]  # fmt: skip
    # An image is the same digit as the row that it was drawn from, also when it is larger.
    assert [row["prediction"] for row in table] == ["0", "0", "1", "2", "1"]
    # The last time's result beside the examples is none of them, nor is a folder with such a name.
    output = examples / "z.csv"
    (examples / "folder.csv").mkdir()
    for _ in range(2):
        assert ask("model.ckpt", examples, "-o", output)[1] == f"{output}: 5 predictions\n"
    assert "there are no other examples" in ask("model.ckpt", output, "-o", output)[0]
    output.unlink()
    (examples / "folder.csv").rmdir()


@pytest.mark.parametrize("whole", [True, False], ids=["the folder", "the file"])
def test_an_example_is_never_the_output(ask, examples, whole):
    for name in ("b.csv", "a.png"):
        output = examples / name
        before = output.read_bytes()
        refusal, printed, _ = ask("model.ckpt", examples if whole else output, "-o", output)
        assert refusal.startswith(f"Nothing was predicted. The output {output} is one of the examples")
        assert (printed, output.read_bytes()) == ("", before)


def test_what_is_no_file_of_its_own_is_written_to_and_stays(ask, examples, tmp_path):
    pipe, link, target = tmp_path / "pipe", tmp_path / "link.csv", tmp_path / "target.csv"
    os.mkfifo(pipe)
    link.symlink_to(target.name)
    end = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        for output in (pipe, link, link):  # the link's target is made, then replaced
            assert ask("model.ckpt", examples, "-o", output)[1] == f"{output}: 5 predictions\n"
        written = os.read(end, 1 << 16).decode()
    finally:
        os.close(end)
    assert target.read_text() == written
    assert len(rows_of(written)) == 5
    assert pipe.is_fifo()
    assert link.readlink() == Path(target.name)
    assert {path.name for path in tmp_path.iterdir()} == {"pipe", "link.csv", "target.csv"}


def test_an_image_is_the_same_digit_with_16_bits_and_turned(ask, examples, tmp_path):
    with Image.open(examples / "a.png") as image:
        grey = image.convert("L").resize((64, 64), Image.Resampling.NEAREST)
    turned = Image.Exif()
    turned[0x0112] = 6  # to be shown turned to the right, as a phone says that was held upright
    grey.save(tmp_path / "8.png")
    grey.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=turned)
    for name in ("16.png", "16.tif"):
        Image.fromarray(np.asarray(grey).astype(np.uint16) * 257).save(tmp_path / name)
    table = rows_of(ask("model.ckpt", tmp_path)[1])
    assert [row["file"] for row in table] == ["16.png", "16.tif", "8.png", "turned.png"]
    assert len({(row["prediction"], row["probability"]) for row in table}) == 1, table
    assert table[0]["prediction"] == "0"


def test_what_is_printed_before_a_failure_is_said(trained, ask, tmp_path):
    (tmp_path / "a.csv").write_bytes((trained.project.path / RAW).read_bytes())
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    refusal, printed, _ = ask("model.ckpt", tmp_path)
    count = len(rows_of(printed))
    assert count > 0
    assert refusal.startswith(
        f"Only the first {count} predictions were written. {tmp_path / 'b.csv'} has another shape"
    )
    # In a file they would have been lost.
    assert ask("model.ckpt", tmp_path, "-o", tmp_path / "c.out")[0].startswith("Nothing was predicted. ")
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "b.csv"}


def test_a_blank_last_line_is_no_row(trained, ask, tmp_path):
    """Alone in its block of 1,024 lines it is all that there is to read."""
    lines = (trained.project.path / RAW).read_text().splitlines(keepends=True)
    (tmp_path / "blank.csv").write_text("".join(lines[: 1 + 1024]) + "\n")
    code, printed, _ = ask("model.ckpt", tmp_path / "blank.csv")
    assert (code, len(rows_of(printed))) == (None, 1024)


def damaged(folder: Path, header: str, row: str) -> dict[str, Path]:
    """Files that are no examples, by name."""
    texts = {
        "columns.csv": "a,b\n1,2\n",
        "empty.csv": "",
        "bright.csv": f"{header}\n{row}\n{row.replace('0', '99', 1)}\n",
        "words.csv": f"{header}\n{'x,' * 64}1\n",
        "short.csv": f"{header}\n{row.rpartition(',')[0]}\n",
        "text.png": "not an image",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in texts}


def test_what_is_no_example_is_refused(trained, ask, tmp_path):
    header, row, *_ = (trained.project.path / RAW).read_text().splitlines()
    files = damaged(tmp_path, header, row)
    (tmp_path / "nothing").mkdir()
    Image.fromarray(np.ones((8, 8), np.float32)).save(tmp_path / "floats.tif")
    cases = {
        files["columns.csv"]: "another shape: 2 columns, the first 'a'",
        files["empty.csv"]: "another shape",
        files["bright.csv"]: "lines 2 to 3: not 65 columns with pixels in 0-16",
        files["words.csv"]: "no table of whole numbers",
        files["short.csv"]: "lines 2 to 2: not 65 columns",
        files["text.png"]: "is no image that can be read",
        tmp_path / "floats.tif": "32 bits a pixel",
        tmp_path / "nothing": "neither a CSV nor an image",
        tmp_path / "absent.csv": "There is no such file",
    }
    output = tmp_path / "out.csv"
    output.write_text("the last time's")
    for path, words in cases.items():
        refusal, printed, _ = ask("model.ckpt", path, "-o", output)
        assert str(refusal).startswith("Nothing was predicted. "), (path, refusal)
        assert words in refusal, (path, refusal)
        assert printed == ""
    assert output.read_text() == "the last time's"
    assert not list(tmp_path.glob(".*"))
    folder = tmp_path / "nothing"
    assert f"The output {folder} is a directory." in ask("model.ckpt", RAW, "-o", folder)[0]


def test_what_is_no_model_of_this_project_is_refused(trained, ask, registered, tmp_path):
    saved = torch.load(trained.project.path / "model.ckpt", weights_only=True)
    torch.save({**saved, "state_dict": FOREIGN.state_dict()}, tmp_path / "other.ckpt")
    torch.save({"weights": FOREIGN.state_dict()}, tmp_path / "plain.ckpt")
    torch.save(torch.zeros(3), tmp_path / "tensor.ckpt")
    torch.save({**saved, "hyper_parameters": {"model": 5}}, tmp_path / "number.ckpt")
    torch.save({**saved, "loops": Code()}, tmp_path / "code.ckpt")
    (tmp_path / "half.ckpt").write_bytes((trained.project.path / "model.ckpt").read_bytes()[:5000])
    with trained.project.store as runs:
        empty = store_of(runs).create_run("f" * 32, name="parent of a sweep")
        runs.set_status(empty.run_id, "FAILED")
    cases = {
        tmp_path / "other.ckpt": "is not a model of this project",
        tmp_path / "plain.ckpt": "is not a model of this project",
        tmp_path / "tensor.ckpt": "is not a model of this project. IndexError",
        tmp_path / "number.ckpt": "is not a model of this project. AttributeError",
        tmp_path / "code.ckpt": "is damaged, or holds code",
        tmp_path / "half.ckpt": "is damaged, or holds code",
        "absent.ckpt": "There is no checkpoint absent.ckpt",
        "nobody": "No run answers to 'nobody'",
        empty.run_id: "has no model. It kept no checkpoint",
        "models:/reader@nobody": "Cannot find the registered model models:/reader@nobody",
        "models:/reader/7": "Cannot find the registered model models:/reader/7",
        "models:/nothing@champion": "Cannot find the registered model models:/nothing@champion",
        "models:/reader": "neither a version nor an alias",
        "models:/foreign/1": "is not a model of this project",
        "models:/pickled/1": "is not a model of this project",
    }
    for model, words in cases.items():
        refusal, printed, _ = ask(model, RAW)
        assert str(refusal).startswith("Nothing was predicted. "), (model, refusal)
        assert words in refusal, (model, refusal)
        assert "must never run" not in printed + refusal
    assert "Use --device auto, which is" in ask("model.ckpt", RAW, "--device", "warp")[0]


def store_of(runs):
    """The same store, bound to the project's experiment."""
    from mlflow_dovetail import store

    return store.open(runs.uri, "digits-classifier")


def test_the_memory_does_not_grow_with_the_examples(trained, ask, tmp_path):
    """As one table of 64-bit integers these are 93 megabytes, and their lines 25 more."""
    header, *rows = (trained.project.path / RAW).read_text().splitlines(keepends=True)
    with (tmp_path / "many.csv").open("w") as file:
        file.write(header)
        for _ in range(100):
            file.writelines(rows)
    ask("model.ckpt", RAW, "-o", tmp_path / "few.out")
    code, printed, grown = ask("model.ckpt", tmp_path / "many.csv", "-o", tmp_path / "many.out")
    assert (code, printed.split(": ")[1]) == (None, f"{100 * 1797} predictions\n")
    assert grown < 40_000, f"{grown} kB"


@pytest.fixture
def endless(trained, tmp_path: Path) -> Callable[[], subprocess.Popen[bytes]]:
    """A prediction whose examples come from a pipe that is fed for ever, its output on a terminal."""
    project = trained.project
    os.mkfifo(tmp_path / "endless.csv")
    header, *rows = (project.path / RAW).read_text().splitlines(keepends=True)
    feed = "import sys, time\nwith open(sys.argv[1], 'w') as file:\n    file.write(sys.argv[2])\n"
    feed += "    while True:\n        file.write(sys.argv[3] * 200); file.flush(); time.sleep(0.02)\n"
    command = project.module("predict", "model.ckpt", str(tmp_path), "-o", str(tmp_path / "out" / "p.csv"))
    control, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    feeder = subprocess.Popen(
        [sys.executable, "-c", feed, str(tmp_path / "endless.csv"), header, rows[0]], stderr=subprocess.DEVNULL
    )
    process = subprocess.Popen(command, cwd=project.path, env=project.environment, stderr=terminal)
    os.close(terminal)
    yield process, control
    for one in (process, feeder):
        one.kill()
        one.wait()
    os.close(control)


def test_long_work_shows_how_far_it_is_and_leaves_no_half_of_a_file(endless, tmp_path):
    process, terminal = endless
    seen, deadline = b"", time.monotonic() + 60
    while b"examples [" not in seen and time.monotonic() < deadline:
        ready, _, _ = select.select([terminal], [], [], 1)
        seen += os.read(terminal, 1 << 12) if ready else b""
    assert b"examples [" in seen
    assert [path.suffix for path in (tmp_path / "out").iterdir()] == [".part"]
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert list((tmp_path / "out").iterdir()) == []


def test_a_reader_that_has_seen_enough_is_no_error(trained):
    project = trained.project
    command = " ".join(project.module("predict", "model.ckpt", RAW))
    assert project.run("bash", "-o", "pipefail", "-c", f"{command} | head -2").output.startswith("file,row,")


def test_evaluate_keeps_predictions_where_the_training_did(trained, ask, registered):
    project = trained.project
    assert ask("--run-dir", registered, program="evaluate")[0] is None
    with project.store as runs:
        run = runs.get_run(json.loads((registered / "mlflow_run.json").read_text())["run_id"])
        assert "test/acc" in run.metrics
        assert not [file for file in runs.list_artifacts(run.run_id) if file.path.startswith("predictions/")]
        assert [file for file in runs.list_artifacts(project.run_id) if file.path.startswith("predictions/test/")]
