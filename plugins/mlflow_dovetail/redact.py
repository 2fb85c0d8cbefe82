"""What is secret in a text, an argument list, a config.

Two rules find a secret: its form (a published token format, a URL with a password) and its name (`--api-key x`,
`db.password=x`). A name is judged by its words, so that `use_cls_token`, `max_tokens` and `sort_key` stay readable,
and so do git hashes and DVC's md5s, which no form matches.

Every pattern is linear in the text: repetitions are bounded, or begin only where the run of characters begins.
Masking is a net, not a proof: a password in a place that has neither form nor name is not found.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from functools import lru_cache

MASK = "***"

# Published formats, each with the page of its issuer that names the prefix.
_TOKEN_FORMATS = (
    r"gh[pousr]_[A-Za-z0-9]{36,255}",  # GitHub
    r"github_pat_[A-Za-z0-9_]{22,255}",
    r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|imt|soat|oas|ffct|wt)-[\w.\-]{20,300}",  # GitLab
    r"hf_[A-Za-z0-9]{30,100}|api_org_[A-Za-z0-9]{30,100}",  # Hugging Face
    r"sk-ant-[a-z]{2,10}\d{0,2}-[\w\-]{20,300}",  # Anthropic
    r"sk-(?:proj|svcacct|admin|None|or-v1)-[\w\-]{20,300}|sk-[A-Za-z0-9]{32,100}",  # OpenAI, OpenRouter
    r"wandb_v\d_\w{20,200}|local-[0-9a-f]{40}",  # Weights & Biases; its older keys are 40 hex digits: by name only
    r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",  # AWS key id; its secret has no form: by name only
    r"xox[abeoprs]-[A-Za-z0-9\-]{10,300}|xapp-\d-[A-Za-z0-9\-]{10,300}",  # Slack
    r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,100}",
    r"discord(?:app)?\.com/api/webhooks/\d{10,25}/[\w\-]{40,100}",
    r"AIza[\w\-]{35}|ya29\.[\w\-]{20,500}|GOCSPX-[\w\-]{20,60}",  # Google
    r"pypi-AgE[\w\-]{40,1000}",  # PyPI
    r"npm_[A-Za-z0-9]{36}",  # npm
    r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,200}|whsec_[A-Za-z0-9+/=]{24,100}",  # Stripe
    r"dapi[0-9a-f]{32}(?:-\d)?",  # Databricks
    r"do[opr]_v1_[0-9a-f]{64}",  # DigitalOcean
    r"SG\.[\w\-]{16,32}\.[\w\-]{32,64}",  # SendGrid
    r"hv[sbr]\.[\w\-]{24,300}",  # Vault
    r"dckr_(?:pat|oat)_[\w\-]{20,100}",  # Docker
    r"gsk_[A-Za-z0-9]{40,100}|r8_[A-Za-z0-9]{37,40}|xai-[A-Za-z0-9]{60,100}",  # Groq, Replicate, xAI
    r"ATATT3[\w\-=]{20,300}",  # Atlassian
    r"eyJ[\w\-]{8,4000}\.eyJ[\w\-]{8,8000}\.[\w\-]{10,4000}",  # JSON Web Token, RFC 7519
    r"eyJhcGlf[\w\-=]{40,400}",  # Neptune: a JSON object that begins with "api_"
)
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9_\-])(?:" + "|".join(_TOKEN_FORMATS) + ")|(?<=_)(?:hf_|gh[pousr]_)[A-Za-z0-9]{30,255}"
)
# The end mark is optional: a key that was cut is still a key, and a block is never searched twice.
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-(?!----)[^-]*)*(?:-----END [A-Z0-9 ]{0,60}-----)?"
)
_AUTHORIZATION = re.compile(
    r"(?i)(\bbearer\s{1,4}(?=[\w.~+/=\-]{16})|\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:basic|digest|token)\s{1,4})"
    r"[\w.~+/=\-]{1,8000}"
)
_URL_USER = re.compile(r"(?<![A-Za-z0-9+.\-])([A-Za-z][A-Za-z0-9+.\-]{0,30}://)([^\s/?#\"'<>]{1,2000})@")
_ASSIGNMENT = re.compile(r"(?<![\w.\-+~])([+~\-.]{0,4}\w[\w.\-]{0,200})[\"']?\s{0,8}[=:]\s{0,8}")
_FLAG = re.compile(r"(?<![\w\-])(--?[A-Za-z][\w.\-]{0,200})\s{1,4}(?=[^\s\-])")
_VALUE = re.compile(
    r"\"(?:[^\"\\\n]|\\.){0,9000}\"|'(?:[^'\\\n]|\\.){0,9000}'|[\"'][^\n]*"
    r"|\$\{[^}\s]{0,500}\}|(?![{\[])[^\s\"'&,;]+"
)
_NO_SECRET_VALUE = re.compile(r"(?i)true|false|none|null|yes|no|\?\?\?|\*\*\*|\$\w+|\$\{[^},]*\}|")

# A number under another name is a hyper-parameter (`model.num_latent_token: 64`).
_PASSWORD = re.compile(r"(?i)passw|passcode|pwd|secret|\bpin$")
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


def _are_secret(words: list[str]) -> bool:
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if _SECRET_WORDS.intersection(words) or any(word.endswith("password") for word in words):  # PGPASSWORD
        return last not in _ABOUT_A_SECRET
    if last == "token":
        return before not in _TEXT_TOKEN_WORDS
    if not before and last in _SECRET_ALONE:
        return True
    return before in _OWNERS.get(last, frozenset())


def mask_text(text: str) -> str:
    """Mask every secret in free text: tokens, private keys, passwords in URLs, and values under secret names.

    Returns:
        The text with each secret replaced by `MASK`; time is linear in its length.
    """
    text = _PRIVATE_KEY.sub(MASK, text)
    text = _AUTHORIZATION.sub(rf"\1{MASK}", text)
    text = _URL_USER.sub(_mask_url_user, text)
    text = _TOKEN.sub(MASK, text)
    return _mask_named_values(_FLAG, _mask_named_values(_ASSIGNMENT, text))


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
        return _TOKEN.sub(MASK, url)
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    user, at, host = authority.rpartition("@")
    if "ssh" in scheme and user:
        user = user.partition(":")[0]
        authority = f"{user}{at}{host}"
    else:
        authority = host
    return _TOKEN.sub(MASK, f"{scheme}://{authority}{slash}{path}")


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
        return MASK if _PASSWORD.search(name) else value
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
