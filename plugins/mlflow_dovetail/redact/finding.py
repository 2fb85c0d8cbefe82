"""Finding secrets in source files, with few false alarms: a literal value is asked for, not only a name."""

from __future__ import annotations

import base64
import binascii
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_dovetail.redact.literals import is_made_up, is_password, is_random
from mlflow_dovetail.redact.named_values import named_values
from mlflow_dovetail.redact.tokens import AUTHORIZATION, PRIVATE_KEY, TOKEN, URL_USER, token_rule

RULE_PRIVATE_KEY = "private key"
RULE_URL = "password in a URL"
RULE_AUTHORIZATION = "authorization header"
RULE_WANDB = "Weights & Biases key"
RULE_NAMED = "literal value of a secret name"

_ALLOWED = re.compile(r"(?i)pragma: ?(?:allow|white)list[ -]secret|gitleaks:allow")
_ALLOWED_NEXT = re.compile(r"(?i)pragma: ?(?:allow|white)list[ -]nextline[ -]secret")


def _gap(line_end: str) -> str:
    return rf"(?:{line_end}|[\s\"'+,()#>|\\]){{0,200}}"


# What may stand between a key's lines: line ends, also escaped ones, quotes, comment marks.
_GAP, _MIRRORED_GAP = _gap(r"\\[nr]"), _gap(r"[nr]\\")
_PRIVATE_KEY_HEAD = re.compile(
    rf"-----BEGIN [A-Z0-9 ]{{0,40}}PRIVATE KEY(?: BLOCK)?-----{_GAP}"
    rf"(?:[A-Z][A-Za-z\-]{{2,20}}:[^\n\\]{{0,100}}(?:\n|\\[nr]){_GAP}){{0,4}}[A-Za-z0-9+/=]{{24}}"
)
_PRIVATE_KEY_END = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
# Mirrored, to be read backwards from the end mark; OpenPGP has a checksum on a line of its own before it.
_MIRRORED_TAIL = re.compile(rf"{_MIRRORED_GAP}(?:[\w+/]{{4}}=\s{{1,2}})?[A-Za-z0-9+/=]{{24}}")
_LONGEST_TAIL = 300
# RFC 2606
_EXAMPLE_HOST = re.compile(r"(?:[\w\-]{1,60}\.){0,6}(?:invalid|example|test|example\.(?:com|net|org))(?![\w.\-])")
# Its older keys have no prefix, and the login no name before them.
_WANDB_LOGIN = re.compile(r"wandb(?:\.| )login\b[^\n]{0,100}?(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")


@dataclass(frozen=True)
class Finding:
    """A secret in a text: which rule found it and where, never what it is.

    Args:
        rule: For people, such as "GitHub token".
        line: From 1.
    """

    rule: str
    line: int


def find_secrets(text: str, path: str = "") -> list[Finding]:
    """Every secret in a source file, a config or a notebook, by its form or as a literal under a secret name.

    Placeholders, references (`${PW}`, `os.environ["PW"]`), and lines with the mark `pragma: allowlist secret` or
    `gitleaks:allow` are left alone, and so is the line after `pragma: allowlist nextline secret`.

    Args:
        text: The file's text; bytes that are not UTF-8 may be surrogates or replaced.
        path: Tells configs and shell scripts, where a value needs no quotes, from code.

    Returns:
        In order of lines, one for each line and rule; time is linear in the text's length.

    Source:
        The READMEs of detect-secrets ("Inline Allowlisting") and gitleaks ("gitleaks:allow").
    """
    lines = _Lines(text)
    found: dict[int, set[str]] = {}
    for rule, offset in _by_form(text):
        found.setdefault(lines.number(offset), set()).add(rule)
    for offset in named_values(text, path):
        # What has a form needs no name.
        found.setdefault(lines.number(offset), {RULE_NAMED})
    wanted = [line for line in sorted(found) if not lines.is_allowed(line)]
    return [Finding(rule, line) for line in wanted for rule in sorted(found[line])]


class _Lines:
    """Line numbers of a text, counted when the first is asked for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._starts: list[int] = []

    def number(self, offset: int) -> int:
        if not self._starts:
            self._starts = [0, *(match.end() for match in re.finditer("\n", self._text))]
        return bisect_right(self._starts, offset)

    def is_allowed(self, number: int) -> bool:
        return bool(_ALLOWED.search(self._line(number)) or _ALLOWED_NEXT.search(self._line(number - 1)))

    def _line(self, number: int) -> str:
        if number < 1:
            return ""
        end = self._starts[number] if number < len(self._starts) else len(self._text)
        return self._text[self._starts[number - 1] : end]


def _by_form(text: str) -> Iterator[tuple[str, int]]:
    for token in TOKEN.finditer(text):
        if not is_made_up(token.group()):
            yield token_rule(token.group()), token.start()
    yield from ((RULE_PRIVATE_KEY, offset) for offset in _private_keys(text))
    for header in _headers(text):
        if _is_credential(header.group()[len(header.group(1)) :]):
            yield RULE_AUTHORIZATION, header.start()
    for url in URL_USER.finditer(text):
        if _has_password(url.group(2)) and not _EXAMPLE_HOST.match(text, url.end()):
            yield RULE_URL, url.start()
    yield from ((RULE_WANDB, login.start()) for login in _WANDB_LOGIN.finditer(text))


def _private_keys(text: str) -> Iterator[int]:
    whole = set()
    for key in PRIVATE_KEY.finditer(text):
        whole.add(key.end())
        if _PRIVATE_KEY_HEAD.match(text, key.start()):
            yield key.start()
    for end in _PRIVATE_KEY_END.finditer(text):
        # A hunk of a patch may begin in the middle of a key.
        before = text[max(0, end.start() - _LONGEST_TAIL) : end.start()]
        if end.end() not in whole and _MIRRORED_TAIL.match(before[::-1]):
            yield end.start()


def _headers(text: str) -> Iterator[re.Match[str]]:
    # Searching a pattern without regard to case is slow, and most files have no such word.
    if any(word in text for word in ("earer", "EARER", "uthorization", "UTHORIZATION")):
        yield from AUTHORIZATION.finditer(text)


def _is_credential(value: str) -> bool:
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return is_random(value)
    return bool(colon and user and is_password(password))


def _has_password(userinfo: str) -> bool:
    user, _, password = userinfo.partition(":")
    return password != user and is_password(password)
