"""Predict with a trained model.

The model is a checkpoint, a run (its id or token, the beginning of one, or its name), or a registered model. The examples
are a CSV with the columns of data/raw/digits.csv, labels or not, an image of a light digit on a dark ground, or a directory
of these. The result is a CSV with a row an example: the file, the row in it, the digit, and how sure the model is (0-1).

  python -m {{ cookiecutter.package_name }}.predict model.ckpt data/raw/digits.csv -o outputs/predictions.csv
  python -m {{ cookiecutter.package_name }}.predict 3f2a91c4 photos/ --device cuda
  python -m {{ cookiecutter.package_name }}.predict models:/digits@champion photos/seven.png
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import torch
from mlflow_dovetail import store
from mlflow_dovetail.errors import DovetailError, StoreRefused
from torch import nn
from tqdm import tqdm

from {{ cookiecutter.package_name }}.data import DataError, example_files, read_examples
from {{ cookiecutter.package_name }}.model import CLASSES, DigitClassifier

BATCH = 1024
COLUMNS = ("file", "row", "prediction", "probability")
Row = tuple[str, int, int, str]


class PredictError(ValueError):
    """There is no such model or device, or it is not a model of this project."""


def main() -> None:
    """Load the model, then predict in batches: the memory does not grow with the examples."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a checkpoint, a run, or models:/<name>@<alias> or models:/<name>/<version>")
    parser.add_argument("examples", type=Path, help="a CSV, an image, or a directory")
    parser.add_argument("-o", "--output", type=Path, help="the CSV to write; standard output when left out, or -")
    parser.add_argument("--device", default="auto", help="auto (the default: a GPU where there is one), cpu, cuda, ...")
    parser.add_argument("--tracking-uri", help="where runs are looked for; as for every other program when left out")
    arguments = parser.parse_args()
    if arguments.output == Path("-"):
        arguments.output = None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as after Ctrl-C, no half of a file stays
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    count = 0
    try:
        files = without_result(example_files(arguments.examples), arguments.output)
        device = choose_device(arguments.device)
        model = load_model(arguments.model, arguments.tracking_uri).to(device)
        with writing(arguments.output) as output:
            writer = csv.writer(output, lineterminator="\n")
            writer.writerow(COLUMNS)
            for count, row in enumerate(predict(model, files, arguments.examples, device), start=1):  # noqa: B007 - the last counts
                writer.writerow(row)
            output.flush()
    except (PredictError, DataError, DovetailError) as error:
        sys.exit(f"{outcome(count, arguments.output)} {error}")
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    except OSError as error:
        advice = "Look at the file's permissions and the room on the disk."
        sys.exit(f"{outcome(count, arguments.output)} {error}. {advice}")
    if arguments.output:
        print(f"{arguments.output}: {count} predictions")


def choose_device(name: str) -> torch.device:
    """The device of that name; the first GPU, else the CPU, for `auto`."""
    found = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    if name == "auto":
        return found
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise PredictError(f"Cannot compute on '{name}'. {why}. Use --device auto, which is {found} here.") from error
    return device


def load_model(name: str, tracking_uri: str | None = None) -> nn.Module:
    """The model that `name` means, on the CPU, ready to predict.

    Raises:
        PredictError: There is none, or it is not a model of this project.
        DovetailError: No run answers to the name, or the store does not answer.
    """
    if name.startswith("models:/"):
        return _registered(name, tracking_uri)
    if Path(name).is_file():
        return _checkpoint(Path(name), name)
    if name.endswith(".ckpt") or os.sep in name:
        raise PredictError(f"There is no checkpoint {name}. The file does not exist. Run `dvc repro`, or name a run.")
    with store.open(tracking_uri) as runs, tempfile.TemporaryDirectory() as folder:
        run = runs.find_run(name)
        try:
            file = runs.read_artifact(run.run_id, "checkpoints/best.ckpt", Path(folder))
        except StoreRefused as error:
            raise PredictError(
                f"The run {run.name} ({run.run_id}, {run.status}) has no model. It kept no checkpoint, as a sweep's "
                "parent or a run that ended early. Name another run: `dovetail runs HEAD` lists this commit's."
            ) from error
        return _checkpoint(file, f"the run {run.name} ({run.run_id})")


def _checkpoint(file: Path, name: str) -> nn.Module:
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a foreign file raises anything
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}" if str(error) else type(error).__name__
        raise PredictError(
            f"{name} is no checkpoint that can be read. It is damaged, or holds code ({why[:150]}). "
            "Restore it with `dvc checkout`, or name another."
        ) from error
    try:
        model = DigitClassifier(saved["hyper_parameters"]["model"])
        model.load_state_dict(saved["state_dict"])
    except Exception as error:  # noqa: BLE001 - a foreign file raises anything
        raise PredictError(_foreign(name, error)) from error
    return model.eval()


def _registered(uri: str, tracking_uri: str | None) -> nn.Module:
    """The network as it was registered, also when its run has gone on since."""
    with store.open(tracking_uri) as runs:
        runs.find_run(uri)  # says soon and clearly what is not there
        os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
        import mlflow.pytorch

        mlflow.set_tracking_uri(runs.uri)
    try:
        model: nn.Module = mlflow.pytorch.load_model(uri)
        shape = tuple(model(torch.zeros(2, 1, 8, 8)).shape)
    except (mlflow.MlflowException, RuntimeError, AssertionError, TypeError) as error:
        raise PredictError(_foreign(uri, error)) from error
    if shape != (2, CLASSES):
        raise PredictError(_foreign(uri, ValueError(f"it answers {shape} for 2 digits, not (2, {CLASSES})")))
    return model


def _foreign(name: str, error: Exception) -> str:
    why = (str(error).strip().splitlines() or ["it gives no reason"])[0].rstrip(":.")
    return f"{name} is not a model of this project. {type(error).__name__}: {why}. Name one that its `train` has made."


def predict(model: nn.Module, files: Iterable[Path], root: Path, device: torch.device) -> Iterator[Row]:
    """A row an example, in the order of the files; a bar on a terminal shows how far it is."""
    examples = ((file, row, image) for file in files for row, image in enumerate(read_examples(file)))
    with tqdm(unit=" examples", delay=1, disable=None) as bar:
        while batch := list(islice(examples, BATCH)):
            images = torch.from_numpy(np.stack([image for *_, image in batch])).to(device)
            with torch.inference_mode():
                probabilities, digits = model(images).float().softmax(dim=1).max(dim=1)
            for (file, row, _), digit, probability in zip(batch, digits.tolist(), probabilities.tolist(), strict=True):
                name = file.relative_to(root).as_posix() if file != root else file.name
                yield name, row, digit, f"{probability:.4f}"
            bar.update(len(batch))


def without_result(files: list[Path], output: Path | None) -> list[Path]:
    """The examples without the last time's result, which this one replaces.

    Raises:
        PredictError: The output is an example or a directory, or there is nothing else to predict.
    """
    if output is None or not output.exists():
        return files
    if output.is_dir():
        raise PredictError(f"The output {output} is a directory. Name a CSV, as {output / 'predictions.csv'}.")
    others = [file for file in files if not output.samefile(file)]
    if len(others) < len(files) and not _is_result(output):
        raise PredictError(f"The output {output} is one of the examples, and would replace it. Name another file.")
    if not others:
        raise PredictError(f"{output} is the result of an earlier time, and there are no other examples. Name some.")
    return others


def _is_result(file: Path) -> bool:
    with file.open("rb") as lines:
        return lines.readline(100).strip() == ",".join(COLUMNS).encode()


def outcome(count: int, output: Path | None) -> str:
    """What is left of the predictions that were made before a failure: a file is there only when it is whole."""
    if not count or (output and not _is_special(output)):
        return "Nothing was predicted."
    return f"Only the first {count} predictions were written."


def _is_special(path: Path) -> bool:
    return path.exists() and not path.is_file()


@contextmanager
def writing(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that is there only when it is whole; a device or a pipe is written to as it stands."""
    if path is None:
        yield sys.stdout
        return
    if _is_special(path):
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    path = Path(os.path.realpath(path))  # of a link, the file that it names
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
