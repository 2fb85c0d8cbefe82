"""Whether a literal is a secret, or only stands where one would: a placeholder, a name, a sentence, a reference."""

from __future__ import annotations

import re

_SHORTEST_PASSWORD = 8
_SHORTEST_PASSWORD_WITH_DIGITS = 6
_SHORTEST_RANDOM = 12


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REFERENCE = re.compile(
    r"[$<`!*&|]|.*(?:\$[({]|\$[A-Za-z_]{2}|\{[^{}]*\}|<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)|%\(|%[sdr](?![0-9A-Fa-f])|`|://"
    r"|(?i:environ|getenv|\benv[.:/]|secrets\.))"
)
_REGEX = re.compile(r"\^|.*(?:\\[dwsSWDbB.]|\(\?|\[\^|\.\*|\.\+|\]\+|\$$)")
# Runs that no generator makes; AWS documents its keys with EXAMPLE at the end, jwt.io its tokens with "1234567890".
_MADE_UP = re.compile(
    r".*(?:(.)\1{5}|[xX]{4}|^[xX]+$|\.\.\.|…|\*\*|12345|54321|abc123|abcdef[gG]|ABCDEFG|EXAMPLE|eyJzdWIiOiIxMjM0NTY3ODkw)"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]|$)")
_PATH = re.compile(
    r"[/~.]|[A-Za-z]:[\\/]|.*\.(?:json|pem|key|crt|txt|ya?ml|toml|cfg|ini|py|env|md|html?|xml|csv|js|sh)$"
)
# How code names things: words with perhaps a number, joined by a separator.
_PART = r"(?:[A-Za-z]+\d{0,4}|[A-Za-z0-9]{1,4})"
_IDENTIFIER = re.compile(rf"_{{0,2}}{_PART}(?:[_\-.:/ ]{{1,2}}{_PART})*")
_ABOUT_SECRETS = re.compile(r"(?i).*(?:passw|pwd|secret|token|credential|key)")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_PLACEHOLDER_WORDS = _words(
    "your my example examples sample dummy fake mock mocked placeholder changeme change replace insert todo fixme "
    "redacted masked hidden test testing tests tester foo bar baz qux invalid wrong bad unused here"
)
_PLAIN_WORDS = _PLACEHOLDER_WORDS | _words(
    "pass pw api auth bearer access private public client user username name login admin root guest none null nil "
    "true false empty string str text value values default type input field form old new current confirm required "
    "optional super some any the a an is this that of for to no not set me it id hash sha md5 base basic oauth jwt "
    "hunter letmein qwerty postgres mysql redis minio minioadmin scott tiger abc xyz database db"
)
_CHUNK = re.compile(r"[A-Za-z0-9+/]{20,}")


def is_placeholder(value: str) -> bool:
    """Whether a value stands for a secret without being one: `<token>`, `${PW}`, `changeme`, `your-api-key`."""
    if _REFERENCE.match(value) or _MADE_UP.match(value) or _REGEX.match(value) or _DATE.match(value):
        return True
    if _IDENTIFIER.fullmatch(value):
        words = {word.lower() for word in _WORD.findall(value)}
        return bool(_ABOUT_SECRETS.match(value) or words & _PLACEHOLDER_WORDS or words <= _PLAIN_WORDS)
    # A random key may hold any short word: only one between separators counts.
    return not _PLACEHOLDER_WORDS.isdisjoint(re.split(r"[\W\d_]+", value.lower()))


def is_password(value: str) -> bool:
    """Whether a value can be a password that a person chose: one word, not too short, no path, no placeholder."""
    if re.search(r"[\s,]", value) or _PATH.match(value) or is_placeholder(value):
        return False
    with_digits = bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))
    return len(value) >= (_SHORTEST_PASSWORD_WITH_DIGITS if with_digits else _SHORTEST_PASSWORD)


def is_random(value: str) -> bool:
    """Whether a value looks like what a generator makes: digits among letters, in no form that names have."""
    if is_placeholder(value):
        return False
    if re.fullmatch(r"[A-Za-z0-9+/]{40}", value) and _kinds(value) == 3:
        return True  # an AWS secret key may begin with a slash
    if len(value) < _SHORTEST_RANDOM or re.search(r"[\s,;()\[\]{}]|=(?!=*$)", value) or _PATH.match(value):
        return False
    return _kinds(value) >= 2 and bool(re.search(r"\d", value)) and not _IDENTIFIER.fullmatch(value)


def is_long_random(value: str) -> bool:
    """Whether a value, as of an identifier without quotes, can only be a generated key: 20 characters unbroken."""
    return is_random(value) and any(len(re.findall(r"\d", chunk)) > 1 for chunk in _CHUNK.findall(value))


def _kinds(value: str) -> int:
    return sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
