"""Every secret is found in the place where people leave it, and what only looks like one is let through."""

from __future__ import annotations

import base64
import json
import random

import pytest
from planted_secrets import (
    AWS_SECRET_KEY,
    HEX,
    LETTERS,
    PASSWORD,
    PRIVATE_KEY_LINES,
    TOKENS,
    WANDB_OLD_KEY,
    made_of,
)

from mlflow_dovetail.redact import Finding, find_secrets, mask_text
from mlflow_dovetail.redact.tokens import TOKEN_FORMATS

NAMED = "literal value of a secret name"


def notebook(code: str) -> str:
    return json.dumps({"cells": [{"cell_type": "code", "source": code.splitlines(keepends=True)}]}, indent=1)


def rules(text: str, path: str = "") -> set[str]:
    return {finding.rule for finding in find_secrets(text, path)}


PLACES = {
    "train.py": 'import x\nclient = Client("{}")  # later\n',
    "configs/a.yaml": "x:\n  place: {}\n",
    "run.sh": "set -e\ncurl --data {} https://host/x\n",
    "a.json": '{{\n"place": ["{}"]}}',
    "": "context line\n value = '{}'",
}


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize(("rule", "token"), TOKENS)
def test_a_token_of_a_published_form_is_found_anywhere(rule, token, path):
    assert find_secrets(PLACES[path].format(token), path) == [Finding(rule, 2)]


@pytest.mark.parametrize(("rule", "token"), TOKENS)
def test_a_token_in_a_notebook_is_found(rule, token):
    assert rules(notebook(f'client = Client(api_key="{token}")\n'), "a.ipynb") == {rule}


def test_every_format_is_planted():
    assert {rule for rule, _ in TOKENS} == set(TOKEN_FORMATS)


def test_a_finding_never_holds_the_secret():
    for _, token in TOKENS:
        assert token not in repr(find_secrets(f'api_key = "{token}"'))


KEY = "\n".join(PRIVATE_KEY_LINES)
PRIVATE_KEYS = {
    "whole": (f"a\n{KEY}\n", 2),
    "in Python": ('pem = """' + KEY + '"""', 1),
    "a string a line": ("pem = (\n" + "\n".join(f'    "{line}\\n"' for line in PRIVATE_KEY_LINES) + "\n)", 2),
    "in JSON": (json.dumps({"type": "service_account", "private_key": KEY}), 1),
    "in YAML": ("key: |\n" + "\n".join("  " + line for line in PRIVATE_KEY_LINES), 2),
    "encrypted": (KEY.replace("\n", "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0A\n\n", 1), 1),
    "no end": (KEY[:-40], 1),
    "no beginning": ("\n".join(PRIVATE_KEY_LINES[2:]), 3),
    "no beginning, in Python": ("\n".join(f'"{line}\\n"' for line in PRIVATE_KEY_LINES[2:]), 3),
}


@pytest.mark.parametrize("kind", PRIVATE_KEYS)
def test_a_private_key_is_found_whole_or_cut(kind):
    text, line = PRIVATE_KEYS[kind]
    assert find_secrets(text) == [Finding("private key", line)]


STRONG = made_of(LETTERS, 32)
UUID = "-".join(made_of(HEX, length) for length in (8, 4, 4, 4, 12))
# A path, and a line with a place for the value.
QUOTED_PLACES = [
    ("a.py", 'api_key = "{}"'),
    ("a.py", "api_key = '{}'"),
    ("a.py", 'api_key: str = "{}"'),
    ("a.py", 'api_key: str | None = "{}"'),
    ("a.py", 'api_key: Optional[str] = "{}"'),
    ("a.py", 'self.api_key = b"{}"'),
    ("a.py", 'login(user, token="{}")'),
    ("a.py", 'config = {{"api_key": "{}"}}'),
    ("a.py", 'if True: api_key = "{}"'),
    ("a.py", 'config["api_key"] = "{}"'),
    ("a.py", "os.environ['MLFLOW_TRACKING_TOKEN'] = '{}'"),
    ("a.py", 'os.environ.setdefault("WANDB_API_KEY", "{}")'),
    ("a.py", 'key = os.getenv("WANDB_API_KEY", "{}")'),
    ("a.py", 'subprocess.run(["x", "--token", "{}"])'),
    ("a.py", 'parser.add_argument("--api-key", type=str, default="{}")'),
    ("a.py", 'api_key = (\n    "{}"\n)'),
    ("a.py", 'API_KEY = """{}"""'),
    ("a.py", 'headers = {{"Authorization": "Bearer {}"}}'),
    ("a.py", 'headers = {{"X-Api-Key": "{}"}}'),
    ("a.js", "const apiKey = '{}';"),
    ("a.json", '{{"client_secret": "{}"}}'),
    ("task.json", '{{"name": "HF_TOKEN", "value": "{}"}}'),
    ("a.toml", 'api_key = "{}"'),
    ("", '+    access_token = "{}"'),
]
UNQUOTED_PLACES = [
    (".env.local", "API_KEY={}"),
    ("a.yaml", "logger:\n  api_key: {}  # mine"),
    ("a.yml", "environment:\n  - WANDB_API_KEY={}"),
    ("a.ini", "[default]\naws_secret_access_key = {}"),
    ("a.properties", "service.token={}"),
    ("a.sh", "export HF_TOKEN={}"),
    ("a.sh", "WANDB_API_KEY={} python train.py"),
    ("a.sh", "tool --token {} --lr 1"),
    ("docker/Dockerfile", "ENV API_KEY {}"),
    ("gpu.dockerfile", "ARG API_KEY={}"),
    ("", "export API_KEY={}"),
]


@pytest.mark.parametrize(("path", "place"), QUOTED_PLACES + UNQUOTED_PLACES)
@pytest.mark.parametrize("value", [STRONG, WANDB_OLD_KEY, AWS_SECRET_KEY, UUID], ids=["letters", "hex", "aws", "uuid"])
def test_a_literal_key_under_a_secret_name_is_found(path, place, value):
    assert find_secrets(place.format(value), path)


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("a.py", 'password = "{}"'),
        ("a.py", "connect(host, password='{}')"),
        ("a.py", 'os.environ["MLFLOW_TRACKING_PASSWORD"] = "{}"'),
        ("a.json", '{{"db_password": "{}"}}'),
        ("a.yaml", "db:\n  password: {}"),
        ("a.sh", "export MLFLOW_TRACKING_PASSWORD={}"),
        ("a.cfg", "password={}"),
        ("a.py", 'engine = "postgresql://joe:{}@db.corp.internal/runs"'),
        ("a.yaml", "store: mysql+pymysql://joe:{}@db/runs"),
    ],
)
@pytest.mark.parametrize("value", [PASSWORD, "hunter" + "2x", "Tr0ub4dor" + "&3", "8391" + "7264", "pä" + "sswört7"])
def test_a_password_of_a_person_is_found(path, place, value):
    assert find_secrets(place.format(value), path)


@pytest.mark.parametrize("value", [STRONG, WANDB_OLD_KEY, AWS_SECRET_KEY])
@pytest.mark.parametrize("place", ["# WANDB_API_KEY={} python train.py", "aws_secret_access_key = {}", "    token: {}"])
def test_a_generated_key_needs_no_quotes_anywhere(place, value):
    assert find_secrets(place.format(value), "README.md") == [Finding(NAMED, 1)]


@pytest.mark.parametrize(
    ("place", "alphabet", "length"),
    [
        ('login("hf_{}")', LETTERS[:52], 34),
        ('x = "sk-proj-{}"', LETTERS + "_-", 156),
        ('api_key = "{}"', HEX, 40),
        ('api_key = "{}"', LETTERS, 20),
        ('api_key = "{}"', LETTERS, 32),
        ('api_key = "{}"', LETTERS + "_-", 43),
        ('aws_secret_access_key = "{}"', LETTERS + "+/", 40),
    ],
)
def test_hardly_a_key_looks_like_a_placeholder_by_chance(place, alphabet, length):
    generator = random.Random(3)
    keys = [made_of(alphabet, length, generator) for _ in range(1000)]
    missed = [key for key in keys if not find_secrets(place.format(key))]
    assert len(missed) <= 10, missed


@pytest.mark.parametrize(
    "code",
    [
        'os.environ["WANDB_API_KEY"] = "{}"\n',
        "%env WANDB_API_KEY={}\n",
        "!export WANDB_API_KEY={}\n",
        "!wandb login {}\n",
        "import wandb\nwandb.login(key='{}')\n",
    ],
)
def test_a_key_in_a_notebook_is_found(code):
    assert find_secrets(notebook(code.format(WANDB_OLD_KEY)), "a.ipynb")


def test_a_header_with_a_password_is_found():
    value = base64.b64encode(f"joe:{PASSWORD}".encode()).decode()
    assert rules(f'headers = {{"Authorization": "Basic {value}"}}') == {"authorization header"}
    assert rules(f"curl -H 'Authorization: token {WANDB_OLD_KEY}' https://host", "a.sh") == {"authorization header"}


def test_lines_are_counted_and_each_rule_told_once_a_line():
    token = TOKENS[0][1]
    text = f'a\r\nx = "{token}", "{token}"\n\n\npassword = "{PASSWORD}"\nurl = "https://joe:{PASSWORD}@host.internal"'
    assert find_secrets(text) == [Finding("GitHub token", 2), Finding(NAMED, 5), Finding("password in a URL", 6)]


INNOCENT = [
    'api_key = os.environ["OPENAI_API_KEY"]',
    'api_key = os.getenv("OPENAI_API_KEY", "")',
    "password = config.password; token = get_token(user)",
    "password: str = field(repr=False)",
    'password = "changeme"; secret = "secret"; token = "none"',
    'api_key = "your-api-key"; token = "<token>"; secret = "xxxxxxxxxxxxxxxx"; password = "********"',
    'api_key="YOUR_API_KEY_HERE_123"; token="my-token-1"; password="password"; password="Password1"',
    'api_key = "TODO"; password = "..."; secret = "dummy-secret-0001"; token = "test_token_1234567"',
    'type="password" name="password" id="password-field"',
    'PASSWORD = "MLFLOW_TRACKING_PASSWORD"; TOKEN_ENV = "HF_TOKEN"',
    'token = f"{user}-{secret}"; password = "${PW}"; password = "%(password)s"; password = "$DB_PASSWORD_1"',
    'password = "{{ vault.password }}"; api_key = "${oc.env:WANDB_API_KEY}"; key = "{api_key:0.10}"',
    'password_prompt = "Type the password, please: "; secret = "the password must have 8 characters"',
    r'password = r"^[A-Za-z0-9]{8,}$"; token = r"\w+@\d+"; secret = "[^0-9]+abcdef"',
    r'password = r"\w+-\d+-abcdef"; secret = "\ud83c\udf6a-cookie"; password = "^hunter-2x"',
    'password = "letmein-admin"; secret = "what nobody 7 knows"; password = "conf/db2.yaml"',
    'token = "layer_norm_2_output"; api_key = "stage-2-of-the-pipeline-3"',
    "api_key=conv2d1x1_bn3x3b_relu6c_pool2x",
    'use_cls_token = True; num_tokens = 512; sort_key = "name_of_2_columns"; pad_token = "[PAD]"',
    'eos_token="<|endoftext|>"; bos_token="<s>"; next_page_token = "eyJpbmRleCI6IDExfQ=="',
    'tokenizer = "bert-base-uncased"; token_type = "Bearer"; token = "keyword.control.2"',
    'credentials = "path/to/credentials2024.json"; secret = "/run/secrets/db_1"; token = "C:/tokens/a1b2c3d4e5f6"',
    '"password_last_used": "2024-01-02T03:04:05Z"',
    'ENUM = {"PASSWORD_EXPIRED_2": "PASSWORD_EXPIRED_2"}; names = ("api_key", "secret_access_key_2")',
    "sqlite:///a.db postgresql://user:password@host/db https://joe:${PW}@host http://{user}:{password}@host",
    "mysql://user:<pw>@host amqp://guest:guest@localhost redis://:***@host https://%s:%s@host git@github.com:me/x.git",
    "https://ada:p4ssw0rd@git.example.invalid/a.whl mysql://ada:p4ssw0rd@db.example.com:3306/a http://a:p4ssw0rd@test",
    'TOKEN = "00112233445566778899aabbccddeeff"',
    "ftp://anonymous:@host https://user:pass@example.com ssh://git@host/x.git https://host:8080/@scope/name",
    'headers = {"Authorization": f"Bearer {token}", "X-Api-Key": key}; "Authorization: Bearer <token>"',
    '"Authorization: Bearer YOUR_ACCESS_TOKEN"; "Authorization: Basic $(echo -n a | base64)"',
    'if line == "-----BEGIN ' + 'PRIVATE KEY-----": read_until("-----END ' + 'PRIVATE KEY-----")',
    "-----BEGIN " + "PRIVATE KEY-----\n...\n-----END " + "PRIVATE KEY-----",
    "-----BEGIN PUBLIC KEY-----\n" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A" + "\n-----END PUBLIC KEY-----",
    "ghp_" + "x" * 36 + " AKIA" + "IOSFODNN7EXAMPLE" + " sk-" + "1234567890" * 4 + " hf_" + "a" * 34,
    "disk = 'risk-" + "q7w8e9r0" * 5 + "'; ami = 'XAKIA" + "Q7W8E9R0" * 2 + "'",
    "commit 3f1e5b0c9f0f3f1e5b0c9f0f3f1e5b0c9f0f3f1e",
    "rev = '3f1e5b0c9f0f3f1e5b0c9f0f3f1e5b0c9f0f3f1e'; sha256 = 'e3b0c44298fc1c149afbf4c8996fb924'",
    "api_key=litellm_settings_api_key_of_the_second_user_2, token=request.headers.get_2nd_token_value_123",
    "wandb login --relogin; wandb.login(key=os.environ['WANDB_API_KEY'])",
]
INNOCENT_CONFIGS = [
    ("dvc.lock.yaml", "outs:\n- path: data\n  md5: 2f0c0a3e8e9b4e6f9d1c7b5a3f2e1d0c.dir\n  size: 3"),
    ("a.yaml", "password: ${oc.env:PW}\ntoken: null\nsecret: ???\nuse_auth_token: true\napi_key: !secret wandb_1"),
    ("a.yaml", "password:\n  type: string9\ntoken:\n- abcdefgh12345678xyz"),
    ("a.yaml", "password: see the page of 2024 in the wiki\nsecret: a1b2c3d4e5f6 is how they look"),
    ("a.yaml", "api_key: os.environ/E2B_API_KEY\ntoken: ${{ secrets.GITHUB_TOKEN }}"),
    ("a.yaml", "tokenizer: gpt2\nnum_latent_token: 64\npassword_file: /run/secrets/db1"),
    ("a.sh", 'export HF_TOKEN="$1"\nexport API_KEY=$(cat key)\nTOKEN=$TOKEN ./run\ncurl --token "$TOKEN2"'),
    ("a.ini", "password =\nverbose2x = true"),
    ("a.ini", "password =\nport = 12345678\n; token = <your token>"),
    (".env.example", "API_KEY=\nPASSWORD=changeme\nHF_TOKEN=hf_xxx"),
    ("Dockerfile", "ARG TOKEN\nENV TOKEN=${TOKEN}\nRUN --mount=type=secret,id=token cat /run/secrets/token1"),
    ("a.json", '{"token": 12345678, "password": null, "secrets": [], "publicKeyToken": "b77a5c561934e089"}'),
]


@pytest.mark.parametrize("line", INNOCENT)
@pytest.mark.parametrize("path", ["a.py", ""])
def test_what_only_looks_like_a_secret_is_let_through(line, path):
    assert find_secrets(line, path) == []


@pytest.mark.parametrize(("path", "text"), INNOCENT_CONFIGS)
def test_a_config_without_a_literal_secret_is_let_through(path, text):
    assert find_secrets(text, path) == []


def test_without_quotes_a_word_of_code_is_a_name():
    assert find_secrets("password = hunter2x") == []
    assert find_secrets("password = hunter2x", "a.ini") == [Finding(NAMED, 1)]


ALLOWED = [
    ("x = '{}'  # pragma: allowlist secret", True),
    ("x = '{}'  // pragma: whitelist secret", True),
    ("x = '{}'  # gitleaks:allow", True),
    ("# pragma: allowlist nextline secret\nx = '{}'", True),
    ("# pragma: allowlist nextline secret\n\nx = '{}'", False),
    ("# pragma: allowlist secret\nx = '{}'", False),
    ("# gitleaks:allow\nx = '{}'", False),
    ("x = '{}'\n# pragma: allowlist secret", False),
    ("x = '{}'  # pragma: allowlist nextline secret", False),
]


@pytest.mark.parametrize(("text", "is_allowed"), ALLOWED)
def test_a_marked_line_is_allowed_and_no_other(text, is_allowed):
    assert (find_secrets(text.format(TOKENS[0][1])) == []) is is_allowed


@pytest.mark.parametrize("errors", ["surrogateescape", "replace"])
def test_bytes_that_are_no_text_hide_nothing(errors):
    text = b"\xff\xfe\x00 x = '" + TOKENS[0][1].encode() + b"' \xe9\n"
    assert rules(text.decode("utf-8", errors)) == {"GitHub token"}


def test_nothing_is_found_in_nothing():
    assert find_secrets("") == []
    assert find_secrets("\n" * 9, "a.yaml") == []


@pytest.mark.parametrize("seed", range(200))
def test_what_is_masked_is_not_found(seed):
    generator = random.Random(seed)
    pieces = [token for _, token in TOKENS] + [
        "x",
        "token",
        "https://",
        "joe:",
        "@",
        "Bearer",
        "password",
        "a.b",
        "-",
        "{",
        "--",
    ]
    joints = [" ", "\n", "=", ": ", ", ", '"', "'", "/", '\\"']
    text = "".join(generator.choice(pieces) + generator.choice(joints) for _ in range(60))
    by_form = {"authorization header", "password in a URL", *TOKEN_FORMATS}
    assert rules(text) & by_form
    assert not rules(mask_text(text)) & by_form
