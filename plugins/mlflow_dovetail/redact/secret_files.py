"""Files that by their name hold secrets, whatever is in them."""

from __future__ import annotations

import re

# Matched against the whole lower-case name of the file. The texts are for people.
_NAMES = {
    r"\.env.*|.*\.env": "environment file",
    r".*\.(?:pem|key|ppk)": "private key",
    r"id_(?:rsa|dsa|ecdsa|ed25519)(?:_\w+)?": "SSH private key",
    r".*\.(?:p12|pfx|jks|keystore|kdbx)": "key store",
    r"[._]netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.htpasswd": "password file",
    r"\.npmrc|\.pypirc|\.renviron": "package index or R login",
    r"\.boto|\.s3cfg|\.databrickscfg|kaggle\.json|rclone\.conf": "service login",
    r"credentials(?:\.(?:json|ya?ml|toml|ini|csv|cfg))?|application_default_credentials\.json": "credentials file",
    r"service[-_]?account.*\.json|client_secret.*\.json": "service account",
    r"secrets\.(?:ya?ml|toml|json|ini|env)": "secrets file",
    r"\.vault-token": "Vault token",
    r".*\.tfstate(?:\.backup)?": "Terraform state",
}
# Matched against the end of the lower-case path.
_PATHS = {
    r"\.dvc/config\.local": "DVC's local configuration",
    r"\.docker/config\.json": "Docker login",
    r"\.kube/config": "Kubernetes login",
    r"\.aws/.*": "AWS login",
    r"\.ssh/.*": "SSH folder",
    r"\.gnupg/.*": "GnuPG folder",
}
_RULES = [(re.compile(name), rule) for name, rule in _NAMES.items()]
_PATH_RULES = [(re.compile(rf"(?:.*/)?{path}"), rule) for path, rule in _PATHS.items()]


def secret_file(path: str) -> str | None:
    """Which rule keeps a file of this name from ever being uploaded.

    Code is not judged by its name (`secrets.py`, `credentials.py`): it is read, with `find_secrets`.

    Args:
        path: Relative or absolute, with `/` or `\\`; upper and lower case are the same.

    Returns:
        What the file is, for people ("environment file"); None for a file that may be uploaded once it was read.
    """
    posix = path.replace("\\", "/").lower()
    name = posix.rpartition("/")[2]
    found = (rule for form, rule in _RULES if form.fullmatch(name))
    return next(found, next((rule for form, rule in _PATH_RULES if form.fullmatch(posix)), None))
