"""The run folder: layout, framed records with checksums, leases. One movable directory with everything of a run in it.

.dovetail/runs/<token>/
  run.json                what the run is, written once
  journal/0001.dtj        a segment a writer, append-only
  lease/0001.json         which process writes the segment
  lease/0001.gone.json    how it ended, when it could not say so itself
  artifacts/              copies of files that wait to be sent
  captured/               files that the recorder makes; each is an artifact by its path
  console.log             what the trainer printed
  sent/<store>.json       what a store has acknowledged
  recorder.log, *.lock    of the recorder
"""

from mlflow_dovetail.run_folder.framing import SegmentReader, first_payload, frame, last_payload
from mlflow_dovetail.run_folder.layout import (
    Description,
    Ending,
    RunFolder,
    copy_file,
    read_json,
    root_for,
    sha256_of,
    write_whole,
)
from mlflow_dovetail.run_folder.lease import Lease, Life

__all__ = [
    "Description",
    "Ending",
    "Lease",
    "Life",
    "RunFolder",
    "SegmentReader",
    "copy_file",
    "first_payload",
    "frame",
    "last_payload",
    "read_json",
    "root_for",
    "sha256_of",
    "write_whole",
]
