"""Prediction tables: every example with its input, its label and what the model said, kept as it is logged."""

from mlflow_dovetail.prediction_tables.columns import Class, Image, Json, Number, Probabilities, Text
from mlflow_dovetail.prediction_tables.compaction import compact
from mlflow_dovetail.prediction_tables.comparing import Comparison, compare
from mlflow_dovetail.prediction_tables.comparison_page import render_comparison
from mlflow_dovetail.prediction_tables.comparison_text import as_json, as_text
from mlflow_dovetail.prediction_tables.images_named import NamedImages
from mlflow_dovetail.prediction_tables.policies import All, First, PerClass, Policy, RandomCount, RandomShare, Worst
from mlflow_dovetail.prediction_tables.reading import files_of_last_epoch, read_last_epoch, read_media, read_table
from mlflow_dovetail.prediction_tables.reading_manifests import is_manifest, read_manifest
from mlflow_dovetail.prediction_tables.schema import Manifest
from mlflow_dovetail.prediction_tables.stacking import stack
from mlflow_dovetail.prediction_tables.streams import folder_name, read_table_record
from mlflow_dovetail.prediction_tables.views import worst_first, write_views
from mlflow_dovetail.prediction_tables.writer import LOST, TableWriter

__all__ = [
    "LOST",
    "All",
    "Class",
    "Comparison",
    "First",
    "Image",
    "Json",
    "Manifest",
    "NamedImages",
    "Number",
    "PerClass",
    "Policy",
    "Probabilities",
    "RandomCount",
    "RandomShare",
    "TableWriter",
    "Text",
    "Worst",
    "as_json",
    "as_text",
    "compact",
    "compare",
    "files_of_last_epoch",
    "folder_name",
    "is_manifest",
    "read_last_epoch",
    "read_manifest",
    "read_media",
    "read_table",
    "read_table_record",
    "render_comparison",
    "stack",
    "worst_first",
    "write_views",
]
