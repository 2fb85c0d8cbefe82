"""Raw console bytes as the lines that a terminal would show at the end: a progress bar becomes one line.

Only the last `WINDOW_ROWS` lines may still be written over, as on a screen; what scrolls out of them is finished.
Unlike a screen, nothing that was a line is taken away again: clearing the screen, going home and the alternate screen
are passed over. Long lines are cut, not wrapped.

Source:
    ECMA-48, 5th edition; Xterm Control Sequences (https://invisible-island.net/xterm/ctlseqs/ctlseqs.html).
"""

from __future__ import annotations

import codecs
import re

WINDOW_ROWS = 50
MAX_COLUMNS = 10_000
CUT = " [line cut]"

# Bounded, so that neither an unfinished sequence nor a number in one can grow.
_CSI = r"\x1b\[(?P<parameters>[0-?]{0,64})[ -/]{0,4}(?P<final>[@-~])"
_TOKEN = re.compile(
    rf"(?P<text>[^\x00-\x08\x0a-\x1f\x7f-\x9f]+)|(?P<newline>\n)|(?P<control>[\x00-\x1a\x1c-\x1f\x7f-\x9f])"
    rf"|{_CSI}|(?P<string>\x1b[\]PX^_])|\x1b[ -/]{{0,4}}[0-~]|\x1b"
)
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]{0,64}[ -/]{0,4}|[ -/]{0,4})\Z")
# A title or an image: it ends with BEL, or with any escape. A line feed ends it too, or a torn one would eat the log.
_STRING_END = re.compile(r"[\x07\x18\x1a\x1b\n]")
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_MOVING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

# Characters of two columns (Unicode's East Asian Width W and F, by block). A noncharacter holds the second column.
_WIDE = re.compile(
    "[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6"
    "\U0001f300-\U0001f64f\U0001f680-\U0001f6ff\U0001f900-\U0001f9ff\U00020000-\U0003fffd]"
)
_SECOND_COLUMN = "\uffff"
_WIDEN = rf"\g<0>{_SECOND_COLUMN}"


class Terminal:
    """Collapses console bytes, given in pieces cut anywhere, into lines; what comes out does not depend on the cuts.

    The bytes are UTF-8; others become U+FFFD. A line feed also returns to the first column, as a terminal's driver
    does. Colours and titles are dropped, blanks at the end of a line too, tabs stay. A line is cut after
    `MAX_COLUMNS` columns and says so. Memory is bounded: `WINDOW_ROWS` lines. Not safe with threads.
    """

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._unfinished = ""
        self._in_string = False
        self._rows = [""]
        self._row = 0
        self._column = 0
        self._finished: list[str] = []

    def feed(self, data: bytes) -> str:
        """Take the next bytes; give the lines that can no longer change, each with its line feed."""
        text = self._unfinished + self._decode(data)
        self._unfinished = ""
        if not text.isascii():
            text = _WIDE.sub(_WIDEN, text)
        if not self._take_plain(text):
            self._take_tokens(text)
        finished, self._finished = self._finished, []
        return "".join(f"{line}\n" for line in finished)

    def rest(self) -> str:
        """The lines that may still change, as they stand; with all that `feed` gave before them, the whole console."""
        shown = [_show(row) for row in self._rows]
        while len(shown) > self._row + 1 and not shown[-1]:
            shown.pop()
        return "\n".join(shown)

    def _take_plain(self, text: str) -> bool:
        """Take text that only goes on at the end, which most text does, at a tenth of the price."""
        plain = _COLOUR.sub("", text).replace("\r\n", "\n")
        if self._in_string or self._row < len(self._rows) - 1 or _MOVING.search(plain):
            return False
        first, *lines = plain.split("\n")
        self._write(first)
        if lines:
            rows = [*self._rows, *(line[: MAX_COLUMNS + 1] for line in lines)]
            surplus = max(len(rows) - WINDOW_ROWS, 0)
            self._finished += map(_show, rows[:surplus])
            self._rows = rows[surplus:]
            self._row = len(self._rows) - 1
            self._column = min(len(lines[-1]), MAX_COLUMNS)
        return True

    def _take_tokens(self, text: str) -> None:
        last_escape = text.rfind("\x1b")
        end = last_escape if last_escape >= 0 and _UNFINISHED.match(text, last_escape) else len(text)
        self._unfinished = text[end:]
        position = 0
        while position < end:
            if self._in_string:
                position = self._skip_string(text, position, end)
            else:
                position = self._take_until_string(text, position, end)

    def _skip_string(self, text: str, position: int, end: int) -> int:
        found = _STRING_END.search(text, position, end)
        if not found:
            return end
        self._in_string = False
        return found.start() if found.group() in "\x1b\n" else found.end()

    def _take_until_string(self, text: str, position: int, end: int) -> int:
        for token in _TOKEN.finditer(text, position, end):
            kind = token.lastgroup
            if kind == "text":
                self._write(token.group())
            elif kind == "newline":
                self._feed_line()
            elif kind == "control":
                self._control(token.group())
            elif kind == "final":
                self._move(token["final"], token["parameters"])
            elif kind == "string":
                self._in_string = True
                return token.end()
        return end

    def _write(self, text: str) -> None:
        row, column = self._rows[self._row], self._column
        after = column + len(text)
        if column < len(row):
            text = _split(row, column)[0] + text + _split(row, after)[1]
        else:
            text = row + " " * (column - len(row)) + text
        # One column more than is shown says that there was more.
        self._rows[self._row] = text[: MAX_COLUMNS + 1]
        self._column = min(after, MAX_COLUMNS)

    def _feed_line(self) -> None:
        self._column = 0
        self._row += 1
        if self._row == len(self._rows):
            self._rows.append("")
        if self._row == WINDOW_ROWS:
            self._finished.append(_show(self._rows.pop(0)))
            self._row -= 1

    def _control(self, character: str) -> None:
        if character == "\r":
            self._column = 0
        elif character == "\b":
            self._column = max(self._column - 1, 0)

    def _move(self, final: str, parameters: str) -> None:
        first = parameters.partition(";")[0] or "0"
        if not first.isdecimal():  # a private mode, such as hiding the cursor
            return
        number = int(first)
        count = max(number, 1)
        if final in "AF":
            self._row = max(self._row - count, 0)
        elif final in "BE":
            self._row = min(self._row + count, len(self._rows) - 1)
        elif final == "C":
            self._column = min(self._column + count, MAX_COLUMNS)
        elif final == "D":
            self._column = max(self._column - count, 0)
        elif final in "G`":
            self._column = min(count - 1, MAX_COLUMNS)
        elif final in "JK":
            self._erase(final, number)
        if final in "EF":
            self._column = 0

    def _erase(self, final: str, mode: int) -> None:
        row, column = self._rows[self._row], self._column
        if mode == 0:
            self._rows[self._row] = _split(row, column)[0]
            if final == "J":
                del self._rows[self._row + 1 :]
        elif final == "K":
            self._rows[self._row] = " " * (column + 1) + _split(row, column + 1)[1] if mode == 1 else ""


def _split(row: str, column: int) -> tuple[str, str]:
    """The row before and from a column on; a wide character that stands across becomes two blanks, as on a screen."""
    left, right = row[:column], row[column:]
    if left and right.startswith(_SECOND_COLUMN):
        return left[:-1] + " ", " " + right[1:]
    return left, right


def _show(row: str) -> str:
    shown = row if len(row) <= MAX_COLUMNS else row[:MAX_COLUMNS] + CUT
    return shown.replace(_SECOND_COLUMN, "").rstrip(" ")
