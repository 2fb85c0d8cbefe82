"""Whether a literal is a secret, or only stands where one would: a placeholder, a name, a sentence, a reference."""

from __future__ import annotations

import re

_SHORTEST_PASSWORD = 8
_SHORTEST_PASSWORD_WITH_DIGITS = 6
_SHORTEST_RANDOM = 12


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_REFERENCE = re.compile(
    r"^[$<`!*&|]|\$[({]|\$[A-Za-z_]{2}|[.\-]\$\w|\{[^{}]*\}|<[^<>]*>|\[[^\[\]]*\]|\([^()]*\)|%\(|%[sdr](?![0-9A-Fa-f])"
    r"|`|://|(?i:environ|getenv|\benv[.:/]|secrets\.)"
)
_REGEX_OR_ESCAPES = re.compile(r"^\^|\\[dwsSWDbB.]|\\u[0-9A-Fa-f]{4}|\(\?|\[\^|\.\*|\.\+|\]\+|\$$")
# Runs that no generator makes; AWS documents its keys with EXAMPLE at the end, jwt.io its tokens with "1234567890".
_MADE_UP = re.compile(
    r"(.)\1{5}|[xX]{4}|^[xX]+$|\.\.\.|…|\*\*|12345|54321|112233|abc123|abcdef[gG]|ABCDEFG|EXAMPLE|eyJzdWIiOiIxMjM0NTY3ODkw"
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]|$)")
_PATH = re.compile(
    r"^[/~.]|^[A-Za-z]:[\\/]|\.(?:json|pem|key|crt|txt|ya?ml|toml|cfg|ini|py|env|md|html?|xml|csv|js|sh)$"
)
_SEPARATOR = re.compile(r"[_\-.:/ ]{1,2}")
_NAME_PART = re.compile(r"[A-Za-z]+\d{0,4}|[A-Za-z0-9]{0,4}")
_ABOUT_SECRETS = re.compile(r"(?i)pass|pwd|secret|token|credential|key")
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
_LONG_LETTERS = re.compile(r"[A-Za-z]{20,}")
_LONG_RUN = re.compile(r"[A-Za-z0-9+/]{20,}")


def is_made_up(value: str) -> bool:
    """Whether a value was typed rather than generated: `ghp_xxxxxxxx`, `sk-your-key`, and what issuers document."""
    # A random key may hold any short word by chance: only one between separators counts.
    words = {part.rstrip("0123456789") for part in re.split(r"[\W_]+", value.lower())}
    return bool(_MADE_UP.search(value)) or not words.isdisjoint(_PLACEHOLDER_WORDS)


def is_placeholder(value: str) -> bool:
    """Whether a value stands for a secret without being one: `<token>`, `${PW}`, `changeme`, `your-api-key`."""
    if is_made_up(value) or _REFERENCE.search(value) or _REGEX_OR_ESCAPES.search(value) or _DATE.match(value):
        return True
    if not _is_identifier(value):
        return False
    words = {word.lower() for word in _WORD.findall(value)}
    return bool(_ABOUT_SECRETS.search(value) or words & _PLACEHOLDER_WORDS or words <= _PLAIN_WORDS)


def is_password(value: str) -> bool:
    """Whether a value can be a password that a person chose: one word, not too short, no path, no placeholder."""
    if re.search(r"[\s,]", value) or _PATH.search(value) or is_placeholder(value):
        return False
    with_digits = bool(re.search(r"\d", value) and re.search(r"[A-Za-z]", value))
    return len(value) >= (_SHORTEST_PASSWORD_WITH_DIGITS if with_digits else _SHORTEST_PASSWORD)


def is_random(value: str) -> bool:
    """Whether a value looks like what a generator makes: digits among letters, in no form that names have."""
    if is_placeholder(value):
        return False
    if re.fullmatch(r"[A-Za-z0-9+/]{40}", value) and _kinds(value) == 3:
        return True  # an AWS secret key may begin with a slash
    if len(value) < _SHORTEST_RANDOM or re.search(r"[\s,;()\[\]{}]|=(?!=*$)", value) or _PATH.search(value):
        return False
    with_digits = bool(re.search(r"\d", value) or _LONG_LETTERS.fullmatch(value))
    return with_digits and _kinds(value) >= 2 and not _is_identifier(value)


def is_long_random(value: str) -> bool:
    """Whether a word of code without quotes can only be a generated key: 20 characters unbroken, with digits."""
    return is_random(value) and any(len(re.findall(r"\d", run)) > 1 for run in _LONG_RUN.findall(value))


def _is_identifier(value: str) -> bool:
    """Whether a value is made as code makes names: words with perhaps a number, joined by separators."""
    return all(_NAME_PART.fullmatch(part) and _is_words(part) for part in _SEPARATOR.split(value))


def _is_words(part: str) -> bool:
    # In camel case, words have some letters each; in a random key the case changes at every other.
    return len(part) < _SHORTEST_RANDOM or len(part) >= 3 * len(_WORD.findall(part))


def _kinds(value: str) -> int:
    return sum(bool(re.search(kind, value)) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
