"""What is secret: in a text, an argument list, a config, a source file, and by a file's name.

Two rules find a secret: its form (a published token format, a URL with a password) and its name (`--api-key x`,
`db.password=x`). A name is judged by its words, so that `use_cls_token`, `max_tokens` and `sort_key` stay readable,
and so do git hashes and DVC's md5s, which no form matches.

Masking hides too much rather than too little, since a masked word costs nothing. Finding asks for a literal value too:
a file in which it finds something is left out whole, so that a false alarm costs a file. Both are nets, not proofs: a
password in a place that has neither form nor name is not found. Every pattern is linear in the text: repetitions are
bounded, or begin only where the run of characters begins.
"""

from mlflow_dovetail.redact.finding import Finding, find_secrets
from mlflow_dovetail.redact.masking import MASK, mask_command, mask_mapping, mask_text, strip_url_credentials
from mlflow_dovetail.redact.secret_files import secret_file
from mlflow_dovetail.redact.secret_names import is_secret_name

__all__ = [
    "MASK",
    "Finding",
    "find_secrets",
    "is_secret_name",
    "mask_command",
    "mask_mapping",
    "mask_text",
    "secret_file",
    "strip_url_credentials",
]
