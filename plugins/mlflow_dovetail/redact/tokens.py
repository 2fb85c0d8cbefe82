"""The published forms of secrets, which masking and finding share: tokens, private keys, headers, URLs."""

from __future__ import annotations

import re

# Each in the form that its issuer publishes. The names are for people.
TOKEN_FORMATS = {
    "GitHub token": r"gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255}",
    "GitLab token": r"gl(?:pat|dt|rt|cbt|ptt|ft|agent|imt|soat|oas|ffct|wt)-[\w.\-]{20,300}",
    "Hugging Face token": r"hf_[A-Za-z0-9]{30,100}|api_org_[A-Za-z0-9]{30,100}",
    "Anthropic key": r"sk-ant-[a-z]{2,10}\d{0,2}-[\w\-]{20,300}",
    "OpenAI or OpenRouter key": r"sk-(?:proj|svcacct|admin|None|or-v1)-[\w\-]{20,300}|sk-[A-Za-z0-9]{32,100}",
    # Its older keys are 40 hex digits: found by name only.
    "Weights & Biases key": r"wandb_v\d_\w{20,200}|local-[0-9a-f]{40}",
    # The secret that goes with it has no form: found by name only.
    "AWS access key id": r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    "Slack token": r"xox[abeoprs]-[A-Za-z0-9\-]{10,300}|xapp-\d-[A-Za-z0-9\-]{10,300}",
    "Slack webhook": r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,100}",
    "Discord webhook": r"discord(?:app)?\.com/api/webhooks/\d{10,25}/[\w\-]{40,100}",
    "Google key": r"AIza[\w\-]{35}|ya29\.[\w\-]{20,500}|GOCSPX-[\w\-]{20,60}",
    "PyPI token": r"pypi-AgE[\w\-]{40,1000}",
    "npm token": r"npm_[A-Za-z0-9]{36}",
    "Stripe key": r"(?:sk|rk)_(?:live|test)_[A-Za-z0-9]{16,200}|whsec_[A-Za-z0-9+/=]{24,100}",
    "Databricks token": r"dapi[0-9a-f]{32}(?:-\d)?",
    "DigitalOcean token": r"do[opr]_v1_[0-9a-f]{64}",
    "SendGrid key": r"SG\.[\w\-]{16,32}\.[\w\-]{32,64}",
    "Vault token": r"hv[sbr]\.[\w\-]{24,300}",
    "Docker token": r"dckr_(?:pat|oat)_[\w\-]{20,100}",
    "Groq key": r"gsk_[A-Za-z0-9]{40,100}",
    "Replicate token": r"r8_[A-Za-z0-9]{37,40}",
    "xAI key": r"xai-[A-Za-z0-9]{60,100}",
    "Atlassian token": r"ATATT3[\w\-=]{20,300}",
    # RFC 7519
    "JSON Web Token": r"eyJ[\w\-]{8,4000}\.eyJ[\w\-]{8,8000}\.[\w\-]{10,4000}",
    # A JSON object that begins with "api_".
    "Neptune token": r"eyJhcGlf[\w\-=]{40,400}",
}
TOKEN = re.compile(
    r"(?<![A-Za-z0-9_\-])(?:" + "|".join(TOKEN_FORMATS.values()) + ")|(?<=_)(?:hf_|gh[pousr]_)[A-Za-z0-9]{30,255}"
)
# The end mark is optional: a key that was cut is still a key, and a block is never searched twice.
PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-(?!----)[^-]*)*(?:-----END [A-Z0-9 ]{0,60}-----)?"
)
# The first group is what may stay: the header's name and its scheme.
AUTHORIZATION = re.compile(
    r"(?i)(\bbearer\s{1,4}(?=[\w.~+/=\-]{16})|\bauthorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:basic|digest|token)\s{1,4})"
    r"[\w.~+/=\-]{1,8000}"
)
# Groups: the scheme with its slashes, the user (with the password).
# A password may hold a /, ? or # that nobody has escaped: SQLAlchemy takes it. What is no port is one.
_UNESCAPED = r"[^\s/?#@:\"'<>]{0,300}:(?!\d{0,5}(?:[/?#\s\"'<>]|$))[^\s@\"'<>]{1,2000}"
URL_USER = re.compile(
    rf"(?<![A-Za-z0-9+.\-])([A-Za-z][A-Za-z0-9+.\-]{{0,30}}://)([^\s/?#\"'<>]{{1,2000}}|{_UNESCAPED})@"
)
URL_PASSWORD = re.compile(rf"{_UNESCAPED}@")

_RULES = {rule: re.compile(form) for rule, form in TOKEN_FORMATS.items()}


def token_rule(token: str) -> str:
    """The name of the format that a match of `TOKEN` has."""
    return next((rule for rule, form in _RULES.items() if form.match(token)), "token")
