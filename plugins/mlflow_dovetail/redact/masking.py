"""Masking: every secret of a text, an argument list or a config is replaced by `MASK`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from mlflow_dovetail.redact.secret_names import ASSIGNMENT, FLAG, PASSWORD, is_secret_name
from mlflow_dovetail.redact.tokens import AUTHORIZATION, PRIVATE_KEY, TOKEN, URL_PASSWORD, URL_USER

MASK = "***"

_VALUE = re.compile(
    r"\"(?:[^\"\\\n]|\\.){0,9000}\"|'(?:[^'\\\n]|\\.){0,9000}'|[\"'][^\n]*"
    r"|\$\{[^}\s]{0,500}\}|(?![{\[])[^\s\"'&,;]+"
)
_NO_SECRET_VALUE = re.compile(r"(?i)true|false|none|null|yes|no|\?\?\?|\*\*\*|\$\w+|\$\{[^},]*\}|")


def mask_text(text: str) -> str:
    """Mask every secret in free text: tokens, private keys, passwords in URLs, and values under secret names.

    Returns:
        The text with each secret replaced by `MASK`; time is linear in its length.
    """
    text = PRIVATE_KEY.sub(MASK, text)
    text = AUTHORIZATION.sub(rf"\1{MASK}", text)
    text = URL_USER.sub(_mask_url_user, text)
    text = TOKEN.sub(MASK, text)
    return _mask_named_values(FLAG, _mask_named_values(ASSIGNMENT, text))


def mask_command(argv: Sequence[str]) -> str:
    """One line that a POSIX shell reads back as the same arguments, secrets masked.

    Unlike `mask_text`, it knows where an argument ends, so that a secret with blanks or quotes is masked whole.
    """
    # shlex would put the asterisks in quotes: a stand-in goes through it.
    stand_in = "%MASKED%"
    masked = [argument.replace(MASK, stand_in) for argument in _mask_arguments(argv)]
    return shlex.join(masked).replace(stand_in, MASK)


def mask_mapping(mapping: Mapping[str, object]) -> dict[str, object]:
    """A copy with secrets masked, by key name and by value, at every depth; containers become dicts and lists."""
    return {key: _mask_entry(str(key), value) for key, value in mapping.items()}


def strip_url_credentials(url: str) -> str:
    """A remote's URL without what may be secret: user and password, query and fragment.

    An ssh user without a password stays (`ssh://git@host/x`), and so does the scp form (`git@host:x`).

    Source:
        git-fetch(1), "GIT URLS".
    """
    scheme, found, rest = url.partition("://")
    if not found:
        return TOKEN.sub(MASK, url)
    if "ssh" not in scheme and (secret := URL_PASSWORD.match(rest)):
        rest = rest[secret.end() :]
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if "ssh" in scheme and user:
        user = user.partition(":")[0]
        authority = f"{user}{at}{host}"
    else:
        authority = host
    return TOKEN.sub(MASK, f"{scheme}://{authority}{slash}{path}")


def _mask_url_user(match: re.Match[str]) -> str:
    scheme, user = match.groups()
    if "ssh" in scheme and ":" not in user:
        return match.group()
    return f"{scheme}{MASK}@"


def _mask_named_values(names: re.Pattern[str], text: str) -> str:
    done, out = 0, []
    name = names.search(text)
    while name:
        end = name.end()
        value = _VALUE.match(text, end) if is_secret_name(name.group(1)) else None
        if value:
            out += [text[done:end], _mask_value(value.group())]
            done = end = value.end()
        name = names.search(text, end)
    return "".join([*out, text[done:]])


def _mask_value(value: str) -> str:
    quote = value[0] if value[:1] in ("'", '"') else ""
    return value if _NO_SECRET_VALUE.fullmatch(value.strip("'\"")) else f"{quote}{MASK}{quote}"


def _mask_arguments(argv: Sequence[str]) -> list[str]:
    return [_mask_argument(argument, argv[index - 1] if index else "") for index, argument in enumerate(argv)]


def _mask_argument(argument: str, before: str) -> str:
    if before.startswith("-") and "=" not in before and not argument.startswith("-") and is_secret_name(before):
        return _mask_value(argument)
    if before in ("-u", "--user") and ":" in argument:
        return f"{argument.partition(':')[0]}:{MASK}"
    name, equals, value = argument.partition("=")
    if equals and not re.search(r"[\s?&/]", name) and is_secret_name(name):
        return f"{name}={_mask_value(value)}"
    return mask_text(argument)


def _mask_entry(name: str, value: object) -> object:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return MASK if PASSWORD.search(name) else value
    if not is_secret_name(name):
        return _mask_plain(value)
    return _mask_leaves(value)


def _mask_plain(value: object) -> object:
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, Mapping):
        return mask_mapping(value)
    if isinstance(value, (list, tuple)):
        if all(isinstance(item, str) for item in value):
            return _mask_arguments(value)
        return [_mask_plain(item) for item in value]
    return value


def _mask_leaves(value: object) -> object:
    if isinstance(value, str):
        return _mask_value(value)
    if isinstance(value, Mapping):
        return {key: _mask_leaves(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask_leaves(item) for item in value]
    return value if value is None or isinstance(value, bool) else MASK
