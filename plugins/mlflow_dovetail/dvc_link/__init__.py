"""Which data, which revision, which run: a run's place in DVC, and the way from revisions to runs and back."""

from mlflow_dovetail.dvc_link.address import dataset_input
from mlflow_dovetail.dvc_link.history import LinkAt, RunFacts, judge, links_at, revs_of
from mlflow_dovetail.dvc_link.identity import decode_link, encode_link, input_id, link_token
from mlflow_dovetail.dvc_link.reading import InputsChanged, digest_at, read_end, read_state, repository_of
from mlflow_dovetail.dvc_link.records import DvcState, Item, Link, RevOfRun

__all__ = [
    "DvcState",
    "InputsChanged",
    "Item",
    "Link",
    "LinkAt",
    "RevOfRun",
    "RunFacts",
    "dataset_input",
    "decode_link",
    "digest_at",
    "encode_link",
    "input_id",
    "judge",
    "link_token",
    "links_at",
    "read_end",
    "read_state",
    "repository_of",
    "revs_of",
]
