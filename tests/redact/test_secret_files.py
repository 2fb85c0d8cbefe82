"""Files that are never uploaded by their name, and code that only sounds like them."""

from __future__ import annotations

import pytest

from mlflow_dovetail.redact import secret_file


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("config/.env", "environment file"),
        (".env.local", "environment file"),
        ("prod.env", "environment file"),
        ("certs/server.pem", "private key"),
        ("server.KEY", "private key"),
        ("putty.ppk", "private key"),
        ("keys/id_rsa", "SSH private key"),
        ("id_dsa", "SSH private key"),
        ("id_ecdsa_sk", "SSH private key"),
        ("id_ed25519", "SSH private key"),
        (".netrc", "password file"),
        ("_netrc", "password file"),
        (".pgpass", "password file"),
        (".git-credentials", "password file"),
        (".htpasswd", "password file"),
        (".npmrc", "package index or R login"),
        (".pypirc", "package index or R login"),
        (".Renviron", "package index or R login"),
        ("a.p12", "key store"),
        ("a.pfx", "key store"),
        ("a.jks", "key store"),
        ("a.keystore", "key store"),
        ("a.kdbx", "key store"),
        ("credentials", "credentials file"),
        (".mlflow/credentials", "credentials file"),
        ("conf/Credentials.JSON", "credentials file"),
        ("credentials.yml", "credentials file"),
        ("credentials.csv", "credentials file"),
        ("application_default_credentials.json", "credentials file"),
        ("service_account.json", "service account"),
        ("gcp/service-account-prod.json", "service account"),
        ("client_secret_12.apps.json", "service account"),
        ("secrets.yaml", "secrets file"),
        (".streamlit/secrets.toml", "secrets file"),
        (".dvc/config.local", "DVC's local configuration"),
        ("project/.dvc/config.local", "DVC's local configuration"),
        ("kaggle.json", "service login"),
        (".databrickscfg", "service login"),
        (".boto", "service login"),
        (".s3cfg", "service login"),
        ("infra/terraform.tfstate", "Terraform state"),
        ("terraform.tfstate.backup", "Terraform state"),
        (".docker/config.json", "Docker login"),
        ("home/.kube/config", "Kubernetes login"),
        (".aws/config", "AWS login"),
        ("/home/joe/.ssh/known_hosts", "SSH folder"),
        (".gnupg/private-keys-v1.d/a.key_", "GnuPG folder"),
        (".vault-token", "Vault token"),
        ("C:\\work\\.AWS\\config", "AWS login"),
        ("conf\\.env", "environment file"),
    ],
)
def test_a_file_that_holds_secrets_by_its_name_is_told(path, rule):
    assert secret_file(path) == rule


@pytest.mark.parametrize(
    "path",
    [
        "credentials.py",
        "credentials/__init__.py",
        "secrets.py",
        "secrets/reader.py",
        "keyboard.key.py",
        "src/environment.py",
        "env.yaml",
        "dotenv.py",
        ".dvc/config",
        "config.local",
        "docker/config.json",
        "kube/config",
        "aws/main.tf",
        "ssh/client.py",
        "id_rsa.pub",
        "id_rsa_tools.py",
        "service_account.py",
        "client_secrets.py",
        "tokenizer.json",
        "package.json",
        "monkey",
        "key",
        "pem.py",
        "my.netrc.md",
        "",
    ],
)
def test_ordinary_code_is_left_to_be_read(path):
    assert secret_file(path) is None
