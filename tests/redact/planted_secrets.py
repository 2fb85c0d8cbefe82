"""Secrets in the published forms, made at run time, so that no scanner takes these tests for a leak."""

from __future__ import annotations

import random
import string

HEX = "0123456789abcdef"
LETTERS = string.ascii_letters + string.digits
URL_SAFE = LETTERS + "_-"
UPPER = string.ascii_uppercase + string.digits
_generator = random.Random(20240501)


def made_of(alphabet: str, length: int, generator: random.Random = _generator) -> str:
    return "".join(generator.choices(alphabet, k=length))


def _slack_webhook() -> str:
    return "hooks.slack.com/services/T" + "/".join([made_of(UPPER, 8), "B" + made_of(UPPER, 8), made_of(LETTERS, 24)])


def _json_web_token() -> str:
    return ".".join(["eyJ" + made_of(URL_SAFE, 30), "eyJ" + made_of(URL_SAFE, 60), made_of(URL_SAFE, 43)])


# Rule and token; a rule stands here once for each of its prefixes that people meet.
TOKENS = [
    ("GitHub token", "ghp_" + made_of(LETTERS, 36)),
    ("GitHub token", "ghs_" + made_of(LETTERS, 36)),
    ("GitHub token", "github_pat_" + made_of(LETTERS, 22) + "_" + made_of(LETTERS, 59)),
    ("GitLab token", "glpat-" + made_of(URL_SAFE, 20)),
    ("GitLab token", "gldt-" + made_of(URL_SAFE, 20)),
    ("Hugging Face token", "hf_" + made_of(string.ascii_letters, 34)),
    ("Hugging Face token", "api_org_" + made_of(string.ascii_letters, 34)),
    ("Anthropic key", "sk-ant-" + "api03-" + made_of(URL_SAFE, 93) + "AA"),
    ("OpenAI or OpenRouter key", "sk-" + made_of(LETTERS, 20) + "T3BlbkFJ" + made_of(LETTERS, 20)),
    ("OpenAI or OpenRouter key", "sk-proj-" + made_of(URL_SAFE, 74) + "T3BlbkFJ" + made_of(URL_SAFE, 74)),
    ("OpenAI or OpenRouter key", "sk-or-v1-" + made_of(HEX, 64)),
    ("Weights & Biases key", "wandb_v1_" + made_of(LETTERS, 60)),
    ("Weights & Biases key", "local-" + made_of(HEX, 40)),
    ("AWS access key id", "AKIA" + made_of(UPPER, 16)),
    ("AWS access key id", "ASIA" + made_of(UPPER, 16)),
    ("Slack token", "xoxb-" + made_of("0123456789", 12) + "-" + made_of("0123456789", 13) + "-" + made_of(LETTERS, 24)),
    ("Slack webhook", _slack_webhook()),
    ("Discord webhook", "discord.com/api/webhooks/" + made_of("0123456789", 18) + "/" + made_of(URL_SAFE, 68)),
    ("Google key", "AIza" + made_of(URL_SAFE, 35)),
    ("Google key", "ya29." + made_of(URL_SAFE, 60)),
    ("Google key", "GOCSPX-" + made_of(URL_SAFE, 28)),
    ("PyPI token", "pypi-" + "AgEIcHlwaS5vcmc" + made_of(URL_SAFE, 150)),
    ("npm token", "npm_" + made_of(LETTERS, 36)),
    ("Stripe key", "sk_" + "live_" + made_of(LETTERS, 24)),
    ("Stripe key", "whsec_" + made_of(LETTERS, 32)),
    ("Databricks token", "dapi" + made_of(HEX, 32)),
    ("DigitalOcean token", "dop_v1_" + made_of(HEX, 64)),
    ("SendGrid key", "SG." + made_of(URL_SAFE, 22) + "." + made_of(URL_SAFE, 43)),
    ("Vault token", "hvs." + made_of(LETTERS, 24)),
    ("Docker token", "dckr_pat_" + made_of(URL_SAFE, 27)),
    ("Groq key", "gsk_" + made_of(LETTERS, 52)),
    ("Replicate token", "r8_" + made_of(LETTERS, 37)),
    ("xAI key", "xai-" + made_of(LETTERS, 80)),
    ("Atlassian token", "ATATT3" + made_of(URL_SAFE, 180)),
    ("JSON Web Token", _json_web_token()),
    ("Neptune token", "eyJ" + "hcGlf" + made_of(LETTERS, 90) + "=="),
]
WANDB_OLD_KEY = made_of(HEX, 40)
AWS_SECRET_KEY = made_of(LETTERS + "+/", 39) + "7"
PASSWORD = "-".join(["correct", "horse"])
PRIVATE_KEY_LINES = [
    "-----BEGIN " + "RSA PRIVATE KEY-----",
    "MII" + made_of(LETTERS + "+/", 61),
    made_of(LETTERS + "+/", 64),
    made_of(LETTERS + "+/", 30) + "==",
    "-----END " + "RSA PRIVATE KEY-----",
]
