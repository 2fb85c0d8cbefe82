"""Makes `released/v<n>`: a run folder as this version writes it. Never again for a version that has been released."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

from journals import Writing

from mlflow_dovetail.journal import entries
from mlflow_dovetail.run_folder import Description, Ending, RunFolder

TOKEN = "00112233445566778899aabbccddeeff"


def write(folder: RunFolder) -> None:
    first = Writing(folder)
    first.params({"lr": "0.1", "model": "cnn"})
    first.tags({"who": "me", "t@g": "mapped"})
    first.input("digits")
    first.monitor("val/loss", "min")
    for step in range(10):
        first.writer.metrics({"val/loss": 1.0 / (step + 1), "acc@1": step / 10}, step)
    first.writer.metrics({"odd": float("nan")}, 3)
    first.writer.metrics({"odd": float("inf")}, 4)
    first.file("notes/old.txt", b"first")
    first.writer.trouble("an example of a cause")
    first.writer.append(entries.End(first.writer.metrics({"last": 1.0}, 9), "KILLED", "SIGTERM"))
    first.writer.close()
    second = Writing(folder, "resume", 2)
    second.params({"lr": "0.2"})
    second.file("notes/old.txt", b"second")
    for step in range(8, 12):
        second.writer.metrics({"val/loss": 0.01 * step}, step)
    second.end("FINISHED")
    third = Writing(folder, "append", 2)
    third.writer.metrics({"test/acc": 0.75}, 0)
    folder.write_ending(3, Ending("FAILED", "vanished", 1_790_000_000_000))
    with folder.segment(3).open("ab") as file:
        file.write(b"\xd7DT\x01torn")
    (folder.captured / "console.log").write_bytes(b"epoch 1\n")


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as directory:
        about = Description(
            1, TOKEN, "sqlite:///mlflow.db", 1_780_000_000_000, "digits", None, None, "kept", {"a": "b"}, "0.1.0"
        )
        folder = RunFolder.make(Path(directory), about)
        write(folder)
        folder.reserve.unlink()
        shutil.copytree(folder.path, target)
    for lease in target.glob("lease/000?.json"):  # of no machine that there is
        text = {**json.loads(lease.read_text()), "host": "trainer", "boot_id": "1" * 32, "pid": 4242, "start": "123456"}
        lease.write_text(json.dumps(text))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
