"""What progress bars write becomes what a screen would show at the end, however the bytes are cut."""

from __future__ import annotations

import fcntl
import os
import random
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from mlflow_dovetail.run.terminal import CUT, MAX_COLUMNS, WINDOW_ROWS, Terminal


def show(data: bytes, size: int | None = None) -> str:
    """The whole console, fed in pieces of `size` bytes, or in one."""
    terminal = Terminal()
    pieces = [data[at : at + size] for at in range(0, len(data), size)] if size else [data]
    return "".join([*(terminal.feed(piece) for piece in pieces), terminal.rest()])


SCREENS = [
    ("plain", "a\nb\n", "a\nb\n"),
    ("no last line feed", "a\nb", "a\nb"),
    ("CR LF", "a\r\nb\r\n", "a\nb\n"),
    ("a carriage return alone moves nothing", "abc\r", "abc"),
    ("overwritten from the left", "loading 10%\rdone", "doneing 10%"),
    ("a shorter text after blanks", "loading\r       \rok\n", "ok\n"),
    ("backspace", "abc\b\bX\n", "aXc\n"),
    ("backspace stops at the left", "a\b\b\bX", "X"),
    ("tab", "a\tb\n", "a\tb\n"),
    ("blanks at the end", "a  \nb", "a\nb"),
    ("blanks at the beginning, empty lines", "  a\n\n\n  b", "  a\n\n\n  b"),
    ("colours", "\x1b[1;31mred\x1b[0m \x1b[38:5:7mgrey\x1b[m\n", "red grey\n"),
    ("erase to the end of the line", "abcdef\r\x1b[Kxy", "xy"),
    ("erase from the middle", "abcdef\x1b[3D\x1b[0K", "abc"),
    ("erase to the beginning", "abcdef\x1b[3D\x1b[1Kx", "   xef"),
    ("erase the line, the column stays", "abc\x1b[2Kd", "   d"),
    ("up", "a\nb\nc\x1b[2AX\n", "aX\nb\nc"),
    ("up without a number, and down", "a\nb\x1b[A\rX\x1b[B\rY", "X\nY"),
    ("up stops at the top, down at the last line", "a\nb\x1b[99A\rX\x1b[99B\rY", "X\nY"),
    ("next and previous line, and column", "aaa\nbbb\x1b[FX\x1b[EY\x1b[3GZ", "Xaa\nYbZ"),
    ("forward leaves blanks", "a\x1b[3Cb", "a   b"),
    ("erase below", "a\nb\nc\x1b[2A\r\x1b[Jx\ny", "x\ny"),
    ("clearing the screen takes nothing away", "a\nb\n\x1b[2J\x1b[Hc\n", "a\nb\nc\n"),
    ("title, ended by BEL", "a\x1b]0;my title\x07b", "ab"),
    ("link, ended by ST", "\x1b]8;;http://x\x1b\\text\x1b]8;;\x1b\\!", "text!"),
    ("a torn title ends with its line", "\x1b]0;torn\nb", "\nb"),
    ("device control string", "a\x1bPq#0;1\x1b\\b", "ab"),
    ("private modes", "\x1b[?25la\x1b[?25h\x1b[?2026$p", "a"),
    ("character sets and keypad", "\x1b(Ba\x1b=b\x1bMc", "abc"),
    ("bell and NUL", "a\x07\0b", "ab"),
    ("unfinished escape", "a\x1b[3", "a"),
    ("unknown escape", "a\x1b\x1b[1mb", "ab"),
    ("wide characters", "日本語\n", "日本語\n"),
    ("a wide character overwritten by two", "日本\rab", "ab本"),
    ("half a wide character overwritten", "日本\ra", "a 本"),
    ("half a wide character erased", "日本\x1b[3D\x1b[K", ""),
    ("not UTF-8", b"a\xff\xfeb\n", "a\ufffd\ufffdb\n"),
]


@pytest.mark.parametrize(("data", "screen"), [row[1:] for row in SCREENS], ids=[row[0] for row in SCREENS])
@pytest.mark.parametrize("size", [None, 1, 2, 3])
def test_screen(data: str | bytes, screen: str, size: int | None) -> None:
    assert show(data.encode() if isinstance(data, str) else data, size) == screen


def test_only_the_window_still_moves() -> None:
    terminal = Terminal()
    lines = [f"line {number}" for number in range(WINDOW_ROWS + 9)]
    finished = terminal.feed("\n".join(lines).encode())
    assert finished.splitlines() == lines[:9]
    assert terminal.rest().splitlines() == lines[9:]
    assert terminal.feed(b"\x1b[999A\rtop!") == ""
    assert terminal.rest().splitlines() == ["top! 9", *lines[10:]]


@pytest.mark.parametrize("head", [b"", b"\x1b[1Cx\r"], ids=["plain", "with a movement"])
@pytest.mark.parametrize("size", [None, 999])
def test_a_long_line_is_cut_and_says_so(head: bytes, size: int | None) -> None:
    exact, longer = b"x" * MAX_COLUMNS, b"y" * 3 * MAX_COLUMNS
    shown = show(head + exact + b"\n" + longer + b"\nend", size)
    assert shown.split("\n") == [exact.decode(), "y" * MAX_COLUMNS + CUT, "end"]


def test_memory_is_bounded() -> None:
    terminal = Terminal()
    pieces = (b"x" * 1000, b"\x1b[", b"1" * 1000, b"\x1b]0;", b"t" * 1000, b"\n", b"y\n", b"\x1b", b"\x1b[99999999C")
    for piece in (*pieces, b"\r" + b"z" * 3_000_000):
        for _ in range(2000 if len(piece) <= 1000 else 2):
            assert len(terminal.feed(piece)) <= MAX_COLUMNS + len(CUT) + 1
        held = [terminal._unfinished, *terminal._rows, *terminal._finished]
        assert sum(map(len, held)) <= (WINDOW_ROWS + 1) * (MAX_COLUMNS + 1)


PIECES = (
    "text", "\n", "\r", "\r\n", "\b", "\t", " ", "日本", "é", "█▏", "🙂", "\x1b", "\x1b[A", "\x1b[2A", "\x1b[B",
    "\x1b[K", "\x1b[1K", "\x1b[2K", "\x1b[J", "\x1b[31m", "\x1b[", "\x1b[12", "\x1b]0;t", "\x07", "\x1b\\", "\x1b(",
    "[A", "m", ";", "\x1b[?25l", "\x1b[5C", "\x1b[3D", "\x1b[4G", "\x9b", "\x18", "\uffff", "x" * 3000, "\n" * 20,
    "\x1b[" + "1" * 70, "2" * 70 + "A",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_cuts_change_nothing(seed: int) -> None:
    chance = random.Random(seed)
    data = "".join(chance.choices(PIECES, k=300)).encode() + chance.randbytes(200)
    cuts = sorted(chance.sample(range(len(data)), 40))
    terminal = Terminal()
    pieces = [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert "".join([*map(terminal.feed, pieces), terminal.rest()]) == show(data)


def test_plain_text_is_fast() -> None:
    data = b"Epoch 3 step 1234: loss=0.12345 acc=0.98765 lr=0.0010 it/s=123.4\n" * 100_000
    begin = time.process_time()
    assert show(data, 65536).encode() == data
    assert len(data) / (time.process_time() - begin) > 5e6


def run_on_a_terminal(code: str, folder: Path) -> bytes:
    """All bytes that a Python program writes to a real terminal of 100 columns."""
    master, slave = os.openpty()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TQDM_")}
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={**kept, "TERM": "xterm-256color"},
    )
    os.close(slave)
    data = b""
    while piece := _read(master):
        data += piece
    os.close(master)
    assert child.wait(timeout=60) == 0, data.decode()
    return data


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux says EIO when the last writer has closed
        return b""


TQDM = """
from tqdm import tqdm
import sys
print("before")
outer = tqdm(range(3), desc="epochs", position=0, mininterval=0)
for epoch in outer:
    inner = tqdm(range(20), desc=f"steps {epoch}", position=1, leave=False, mininterval=0)
    for step in inner:
        if step == 7:
            tqdm.write(f"note {epoch}")
    inner.close()
outer.close()
print("after")
for _ in tqdm(range(5), desc="訓練", mininterval=0): pass
print("end", file=sys.stderr)
"""


def test_tqdm_with_nested_bars(tmp_path: Path) -> None:
    data = run_on_a_terminal(TQDM, tmp_path)
    assert data.count(b"\r") > 60
    lines = show(data).splitlines()
    assert [line.split("|")[0] for line in lines if line] == [
        "before", "note 0", "note 1", "note 2", "epochs: 100%", "after", "訓練: 100%", "end",
    ]  # fmt: skip
    assert "3/3" in lines[4]
    assert show(data, 7) == show(data)


RICH = """
from rich.progress import Progress
import time
print("before")
with Progress(refresh_per_second=1000) as progress:
    first = progress.add_task("[red]download", total=50)
    second = progress.add_task("[green]train", total=50)
    for step in range(50):
        progress.update(first, advance=1)
        progress.update(second, advance=0.5)
        progress.refresh()
        if step == 20:
            print("note")
print("after")
"""


def test_rich_progress(tmp_path: Path) -> None:
    data = run_on_a_terminal(RICH, tmp_path)
    assert data.count(b"\x1b[2K") > 50
    lines = [line.split() for line in show(data).splitlines() if line]
    assert [line[0] for line in lines] == ["before", "note", "download", "train", "after"]
    assert "100%" in lines[2]
    assert "50%" in lines[3]
    assert show(data, 7) == show(data)


LIGHTNING = """
import warnings; warnings.simplefilter("ignore")
import torch, pytorch_lightning as pl
from torch.utils.data import DataLoader, TensorDataset

class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, index):
        loss = self.layer(batch[0]).square().mean()
        self.log("loss", loss, prog_bar=True)
        return loss
    def validation_step(self, batch, index):
        self.log("val_loss", self.layer(batch[0]).square().mean(), prog_bar=True)
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)

loader = DataLoader(TensorDataset(torch.ones(80, 2)), batch_size=4)
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
                     enable_model_summary=False, callbacks=[pl.callbacks.TQDMProgressBar(refresh_rate=1)])
trainer.fit(Line(), loader, loader)
print("after")
"""


def test_lightnings_bar(tmp_path: Path) -> None:
    data = run_on_a_terminal(LIGHTNING, tmp_path)
    assert data.count(b"Epoch") > 20
    lines = show(data).splitlines()
    bars = [line for line in lines if "Epoch" in line]
    # Lightning logs that it stops on the line of the bar, and draws the bar again when it closes it.
    assert len(bars) == 2
    assert all(bar.startswith("Epoch 2: 100%") and "val_loss=" in bar for bar in bars)
    assert "`max_epochs=3` reached." in bars[0]
    assert not any("Validation" in line for line in lines)
    assert "after" in lines[-1]
    assert show(data, 7) == show(data)
