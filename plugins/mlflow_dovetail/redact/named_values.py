"""Finding literal values under secret names: quoted anywhere, without quotes in configs and shell scripts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlflow_dovetail.redact.literals import is_long_random, is_password, is_random
from mlflow_dovetail.redact.secret_names import ASSIGNMENT, FLAG, secret_kind

_CONFIG = re.compile(
    r"(?i)(?:.*/)?(?:.*\.(?:ya?ml|toml|ini|cfg|conf|env|properties|json|sh|bash|zsh|tfvars|dockerfile)"
    r"|\.env[^/]*|[^/]*dockerfile[^/]*)"
)
# A sign is searched first, since signs before quotes are few and names are many.
# A quote may be escaped: a notebook is JSON with code in its strings.
_SIGN_QUOTED = re.compile(r"([=:,])[\s(]{0,40}[bBrRfFuU]{0,2}(\\{1,3}[\"']|\"{3}|'{3}|[\"'])")
_SIGN_RANDOM = re.compile(r"[=:][ \t]{0,4}(?=[A-Za-z0-9+/_\-]{24})")
# The name before a sign is read backwards, so that it is tried at one place only: these patterns are mirrored.
# The first group is the name's own quote, of a key or a subscript; the second the name.
_MIRRORED_NAME = r"(?:\]?([\"'])\\{0,3})?([\w.\-]{1,100}\w-{0,2})(?![\w.\-])"
_NAME = re.compile(rf":?\s{{0,8}}{_MIRRORED_NAME}")
_ANNOTATED_NAME = re.compile(
    r"\s{0,4}(?:[\w.]{1,40}\s?\|\s?){0,3}(?:\][\w., |]{0,60}\[)?[\w.]{0,40}[A-Za-z_]\s{0,4}:\s{0,4}" + _MIRRORED_NAME
)
_LONGEST_BEFORE = 240
# Under these the name stands elsewhere: an option's default, an environment variable of a container.
_NAMED_ELSEWHERE = ("default", "value")
_OTHER_NAME = re.compile(r"[\"'](--?\w[\w\-]{1,100})[\"']|\bname[\"']?\s{0,4}[:=]\s{0,4}[\"']?(\w[\w.\-]{1,100})")
_EXPORT = re.compile(r"(?:export|setenv|%env|%set_env|ENV|ARG)[ \t]{1,4}(\w{2,100})[= ](?=[^\s=])")

_QUOTED = {
    '"': re.compile(r'((?:[^"\\\n]|\\.){1,2000})"'),
    "'": re.compile(r"((?:[^'\\\n]|\\.){1,2000})'"),
    '"""': re.compile(r'([^"\\]{1,2000})"""'),
    "'''": re.compile(r"([^'\\]{1,2000})'''"),
    "\\": re.compile(r"([^\"'\\\n]{1,2000})\\{1,3}[\"']"),
}
_UNQUOTED = re.compile(r"[^\s\"'`,;&|()<>\[\]{}*!%@$][^\s\"'`,;&|()<>]{3,2000}")
_YAML_SCALAR = re.compile(r"[^\s\"'`,;&|()<>\[\]{}*!%@$#][^\s\"'`,]{3,2000}")
_RANDOM = re.compile(r"[A-Za-z0-9+/_\-]{24,2000}={0,2}")
_LINE_ENDS = re.compile(r"[ \t,]{0,40}(?:#[^\n]*)?(?:\r?\n|\Z)")


def named_values(text: str, path: str) -> Iterator[int]:
    """Offsets on the line of each literal secret's name, in no order; one may come twice."""
    yield from _quoted(text)
    yield from _random(text)
    for names in (_EXPORT, ASSIGNMENT, FLAG) if _CONFIG.fullmatch(path) else (_EXPORT,):
        yield from _unquoted(text, names)


def _quoted(text: str) -> Iterator[int]:
    for sign in _SIGN_QUOTED.finditer(text):
        kind, is_quoted = _kind_before(text, sign.start())
        if kind and sign.group(1) == ",":
            # ("password", "x"): two words of a list, unless the second looks like a key.
            kind = "key" if is_quoted and "\n" not in sign.group() else ""
        if kind and _is_secret(kind, _quoted_value(text, sign)):
            yield sign.start()


def _kind_before(text: str, end: int) -> tuple[str, bool]:
    before = text[max(0, end - _LONGEST_BEFORE) : end]
    mirrored = before[::-1]
    for pattern in (_NAME, _ANNOTATED_NAME):
        name = pattern.match(mirrored)
        if name and (kind := secret_kind(_unmirrored(name.group(2), before))):
            return kind, bool(name.group(1))
    return "", False


def _unmirrored(mirrored: str, before: str) -> str:
    name = mirrored[::-1]
    others = _OTHER_NAME.findall(before) if name in _NAMED_ELSEWHERE else []
    return "".join(others[-1]) if others else name


def _quoted_value(text: str, sign: re.Match[str]) -> str:
    quote = sign.group(2)
    value = _QUOTED["\\" if quote[0] == "\\" else quote].match(text, sign.end())
    return value.group(1) if value else ""


def _random(text: str) -> Iterator[int]:
    for sign in _SIGN_RANDOM.finditer(text):
        value = _RANDOM.match(text, sign.end())
        if value and _kind_before(text, sign.start())[0] and is_long_random(value.group()):
            yield sign.start()


def _unquoted(text: str, names: re.Pattern[str]) -> Iterator[int]:
    name = names.search(text)
    while name:
        kind = secret_kind(name.group(1))
        value = _unquoted_value(text, name) if kind else None
        if value and _is_secret(kind, value.group()):
            yield name.start(1)
        # A value is read once, also where it goes on with the next name (`token=token=`).
        name = names.search(text, value.end() if value else name.end())


def _unquoted_value(text: str, name: re.Match[str]) -> re.Match[str] | None:
    between = text[name.end(1) : name.end()]
    if "\n" in between:
        return None
    if ":" not in between:
        return _UNQUOTED.match(text, name.end())
    value = _YAML_SCALAR.match(text, name.end())
    # After a colon, a value with blanks is a sentence.
    return value if value and _LINE_ENDS.match(text, value.end()) else None


def _is_secret(kind: str, value: str) -> bool:
    return is_password(value.strip()) if kind == "password" else is_random(value.strip())
