"""Which names stand for a secret, and where a name stands before its value."""

from __future__ import annotations

import re
from functools import lru_cache

ASSIGNMENT = re.compile(r"(?<![\w.\-+~])([+~\-.]{0,4}\w[\w.\-]{0,200})[\"']?\s{0,8}[=:]\s{0,8}")
FLAG = re.compile(r"(?<![\w\-])(--?[A-Za-z][\w.\-]{0,200})\s{1,4}(?=[^\s\-])")
# A number under another name is a hyper-parameter (`model.num_latent_token: 64`).
PASSWORD = re.compile(r"(?i)passw|passcode|pwd|secret|\bpin$")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SECRET_WORDS = _words(
    "password passwd passphrase passcode pwd secret secrets credential credentials apikey apitoken authtoken "
    "accesstoken accesskey secretkey privatekey bearer"
)
_SECRET_ALONE = _words("auth authorization sig pat jwt pass cookie")
# "password_file" and "secret_name" say where a secret is, not what it is.
_ABOUT_A_SECRET = _words(
    "file path dir directory folder name length len size count type field column policy enabled required env var "
    "prompt ttl"
)
# A token of a text, not a token of an account.
_TEXT_TOKEN_WORDS = _words(
    "cls sep pad eos bos unk mask image audio video special start end stop begin num n max min per next prev new "
    "first last class register decoder encoder prompt query distillation dist separator padding by each word sub"
)
# A place in a listing, or what makes a request safe to repeat.
_CURSOR_WORDS = _words("page pagination continuation cursor request change client idempotency lifecycle action public")
_CHOSEN_BY_PEOPLE = _words("password passwd passphrase passcode pass pwd pin secret")
_TOKENS_OWNERS = _words("access api auth refresh")
_KEY_OWNERS = _words(
    "api secret access private auth encryption signing account master ssh service deploy shared storage client "
    "webhook license wandb openai anthropic hf huggingface comet neptune aws azure gcp google mlflow stripe"
)
_PASS_OWNERS = _words("db user smtp mysql pg ftp redis ssh mail login http proxy sudo")
_AUTH_OWNERS = _words("basic http proxy")
_SIGNATURE_OWNERS = _words("amz goog")  # a presigned URL's; MLflow's model signature is no secret
_OWNERS = {
    "tokens": _TOKENS_OWNERS,
    "key": _KEY_OWNERS,
    "pass": _PASS_OWNERS,
    "auth": _AUTH_OWNERS,
    "signature": _SIGNATURE_OWNERS,
}


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a value under this name is to be masked, judged by the words of its last dotted part.

    Args:
        name: A key, an option (`--api-key`) or an override's path (`+logger.api_key`); `camelCase` counts as words.
    """
    *parents, last = re.split(r"[./@:]+", name.strip("\"'").rstrip("."))
    words = [word.lower() for word in _WORD.findall(last)]
    if not words:
        return False
    if any(parent.lower() in ("secrets", "credentials") for parent in parents):
        return True
    return _are_secret(words)


@lru_cache(maxsize=4096)
def secret_kind(name: str) -> str:
    """What a literal under this name is in code: a password, a generated key, or no secret at all.

    Stricter than `is_secret_name`: a cursor (`next_page_token`) is worth masking, and not worth an alarm.

    Returns:
        "password", "key" or "".
    """
    words = [word.lower() for word in _WORD.findall(re.split(r"[./@:]+", name.rstrip("."))[-1])]
    if not is_secret_name(name) or (words[-1] == "token" and not _CURSOR_WORDS.isdisjoint(words)):
        return ""
    return "password" if words[-1] in _CHOSEN_BY_PEOPLE or words[-1].endswith("password") else "key"


def _are_secret(words: list[str]) -> bool:
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if _SECRET_WORDS.intersection(words) or any(word.endswith("password") for word in words):  # PGPASSWORD
        return last not in _ABOUT_A_SECRET
    if last == "token":
        return before not in _TEXT_TOKEN_WORDS
    if not before and last in _SECRET_ALONE:
        return True
    return before in _OWNERS.get(last, frozenset())
