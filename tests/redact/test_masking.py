"""Tables of (before, after): what must be masked, and what must stay readable."""

from __future__ import annotations

import shlex

import pytest

from mlflow_dovetail.redact import (
    MASK,
    is_secret_name,
    mask_command,
    mask_mapping,
    mask_text,
    strip_url_credentials,
)

LETTERS = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY" * 8

# Made up in the published forms, and put together here so that no scanner takes this file for a leak.
TOKENS = {
    "github classic": "ghp_" + LETTERS[:36],
    "github app": "ghs_" + LETTERS[:36],
    "github fine-grained": "github_pat_" + LETTERS[:22] + "_" + LETTERS[:59],
    "gitlab": "glpat-" + LETTERS[:20],
    "gitlab deploy": "gldt-" + LETTERS[:20],
    "hugging face": "hf_" + LETTERS[:34],
    "openai": "sk-" + LETTERS[:20] + "T3BlbkFJ" + LETTERS[:20],
    "openai project": "sk-proj-" + LETTERS[:48] + "_-" + LETTERS[:20],
    "anthropic": "sk-ant-" + "api03-" + LETTERS[:93] + "AA",
    "openrouter": "sk-or-v1-" + "0123456789abcdef" * 4,
    "wandb": "wandb_v1_" + LETTERS[:60],
    "aws": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws session": "ASIA" + "IOSFODNN7EXAMPLE",
    "slack": "xoxb-" + "123456789012-1234567890123-" + LETTERS[:24],
    "slack hook": "hooks.slack.com/services/" + "T00000000/B00000000/" + LETTERS[:24],
    "google": "AIza" + LETTERS[:35],
    "google oauth": "ya29." + LETTERS[:60],
    "pypi": "pypi-" + "AgEIcHlwaS5vcmc" + LETTERS[:100],
    "npm": "npm_" + LETTERS[:36],
    "stripe": "sk_" + "live_" + LETTERS[:24],
    "jwt": "eyJ" + LETTERS[:20] + ".eyJ" + LETTERS[:40] + "." + LETTERS[:43],
    "databricks": "dapi" + "0123456789abcdef" * 2,
    "sendgrid": "SG." + LETTERS[:22] + "." + LETTERS[:43],
    "vault": "hvs." + LETTERS[:24],
    "docker": "dckr_pat_" + LETTERS[:27],
    "neptune": "eyJhcGlf" + LETTERS[:80] + "==",
}


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("around", ["{}", "x {} y", "'{}'", "see {}, then", "model={}", "a={};b", "({})", "url: {}"])
def test_a_token_of_a_published_form_is_masked(kind: str, around: str) -> None:
    masked = mask_text(around.format(TOKENS[kind]))
    assert TOKENS[kind] not in masked
    assert TOKENS[kind][-12:] not in masked
    assert masked == around.format(MASK)


def test_a_private_key_is_masked_whole_and_what_follows_stays() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIEow+/=\n-----END RSA PRIVATE KEY-----"
    assert mask_text(f"before\n{key}\nafter") == f"before\n{MASK}\nafter"
    assert "MIIEow" not in mask_text(key[:-20])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("password=hunter2", "password=***"),
        ("+logger.api_key=abc", "+logger.api_key=***"),
        ("++db.password='x y' a=1", "++db.password='***' a=1"),
        ("--token abc --lr 1", "--token *** --lr 1"),
        ("--api-key=abc", "--api-key=***"),
        ('{"password": "hun\\"ter", "n": 1}', '{"password": "***", "n": 1}'),
        ("servers[0].token=abc", "servers[0].token=***"),
        ("db@pkg.password=abc", "db@pkg.password=***"),
        ("WANDB_API_KEY=" + "0123456789" * 4, "WANDB_API_KEY=***"),
        ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "aws_secret_access_key = ***"),
        ("hfToken: abc", "hfToken: ***"),
        ("postgresql://joe:p@ss@host/db", "postgresql://***@host/db"),
        ("https://abc@host/x?token=abc&page=2", "https://***@host/x?token=***&page=2"),
        ("https://h/x?X-Amz-Signature=abc&sig=def", "https://h/x?X-Amz-Signature=***&sig=***"),
        ("Authorization: Basic Zm9vOmJhcg==", "Authorization: *** ***"),
        ("curl -H 'authorization: Bearer abcdefghijklmnopqrst'", "curl -H 'authorization: *** ***'"),
        ("password: 'never closed", "password: '***'"),
        ("secrets.first=abc", "secrets.first=***"),
    ],
)
def test_a_value_under_a_secret_name_is_masked(before: str, after: str) -> None:
    assert mask_text(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "use_cls_token=true tokenizer=bert-base num_tokens=512 max_tokens: 5 pad_token=[PAD] tokens_per_second=9",
        "sort_key=name primary_key=id key=3 public_key=a group-key=b monitor=val/acc keyboard=de",
        "outs: - md5: d41d8cd98f00b204e9800998ecf8427e.dir size: 3 path: data",
        "commit 3f1e5b0c9f0f3f1e5b0c9f0f3f1e5b0c9f0f3f1e",
        "password_file=/run/secrets/db secret_name=db token=${oc.env:HF_TOKEN} password=??? use_auth=true auth=false",
        "python -m pkg.train model=cnn trainer.max_epochs=3 data.root=/data --config-name params",
        "ssh://git@host/x.git git@github.com:me/x.git https://host:8080/a@b s3://bucket/a sqlite:////tmp/a.db",
        "sk-learn-digits-classifier-with-a-long-name task-sk-1234 passes=3 forward_pass=2 model_signature=x author=me",
        "a bearer of good news: the secretary wrote compass=north",
    ],
)
def test_a_false_alarm_would_hide_what_people_need(text: str) -> None:
    assert mask_text(text) == text


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train.py", "--token", "a b'c", "x=1"], "train.py --token *** x=1"),
        (["t", "db.password=a;b c&d", "lr=1"], "t db.password=*** lr=1"),
        (["t", "--password", "--verbose"], "t --password --verbose"),
        (["t", "--use-cls-token", "true", "--max-tokens", "5"], "t --use-cls-token true --max-tokens 5"),
        (["curl", "-u", "joe:pw", "https://joe:pw@h/x"], "curl -u joe:*** https://***@h/x"),
        (["t", "--url=https://joe:pw@h/?token=s&a=1"], "t '--url=https://***@h/?token=***&a=1'"),
        (["t", "postgresql://u:p/w#1@h/x"], "t postgresql://***@h/x"),
        (["t", "say hello", TOKENS["github classic"]], "t 'say hello' ***"),
        ([], ""),
    ],
)
def test_a_command_line_is_masked_argument_by_argument(argv: list[str], line: str) -> None:
    assert mask_command(argv) == line


def test_a_command_line_without_secrets_reads_back() -> None:
    argv = ["python", "-c", "print('a b')", "päth", "x=[1,2]", ""]
    assert shlex.split(mask_command(argv)) == argv


def test_a_mapping_is_masked_by_name_and_by_value_at_every_depth() -> None:
    config = {
        "model": {"lr": 0.1, "use_cls_token": True, "name": TOKENS["hugging face"]},
        "db": {"password": 5, "port": 5432, "hosts": ("a", {"token": "abc"})},
        "credentials": {"user": "joe", "more": [1, None, False]},
        "argv": ["--api-key", "abc"],
        "api_key": "${oc.env:KEY}",
    }
    assert mask_mapping(config) == {
        "model": {"lr": 0.1, "use_cls_token": True, "name": MASK},
        "db": {"password": MASK, "port": 5432, "hosts": ["a", {"token": MASK}]},
        "credentials": {"user": MASK, "more": [MASK, None, False]},
        "argv": ["--api-key", MASK],
        "api_key": "${oc.env:KEY}",
    }
    assert config["db"] == {"password": 5, "port": 5432, "hosts": ("a", {"token": "abc"})}


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://github.com/me/x.git", "https://github.com/me/x.git"),
        ("https://joe:pw@github.com/me/x.git", "https://github.com/me/x.git"),
        ("https://x@y:p@ss@host:8443/x", "https://host:8443/x"),
        ("https://host/x.git?access_token=a#b", "https://host/x.git"),
        ("ssh://git@host:22/x.git", "ssh://git@host:22/x.git"),
        ("ssh://joe:pw@host/x.git", "ssh://joe@host/x.git"),
        ("git@github.com:me/x.git", "git@github.com:me/x.git"),
        ("../x.git", "../x.git"),
        ("postgresql://u:p/w@host/db", "postgresql://host/db"),
        ("postgresql://u:p#w?@host/db", "postgresql://host/db"),
        ("http://me:pw#1@localhost:5000", "http://localhost:5000"),
        ("http://host:5000/a@b", "http://host:5000/a@b"),
        ("sqlite:////a:b@c/m.db", "sqlite:////a:b@c/m.db"),
        ("file://C:/a@b", "file://C:/a@b"),
        ("https://host/" + TOKENS["gitlab"] + "/x", "https://host/***/x"),
    ],
)
def test_a_remote_loses_its_credentials_only(url: str, clean: str) -> None:
    assert strip_url_credentials(url) == clean


@pytest.mark.parametrize(
    "name",
    [
        "apiKey",
        "API_KEY",
        "x.y.secret",
        "hf_token",
        "--access-token",
        "basic_auth",
        "PGPASSWORD",
        "MYSQL_PWD",
        "dbPass",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


def test_a_number_is_a_hyper_parameter_and_not_a_secret():
    values = {"num_latent_token": 64, "loss": {"auth": 0.1}, "sig": 0.5, "password": 1234, "api_key": "abc"}
    expected = {"num_latent_token": 64, "loss": {"auth": 0.1}, "sig": 0.5, "password": MASK, "api_key": MASK}
    assert mask_mapping(values) == expected
