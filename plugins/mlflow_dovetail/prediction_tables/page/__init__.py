"""The page of a table: `predictions/<table>/index.html`, one file that needs no network and no server."""

from mlflow_dovetail.prediction_tables.page.images import Thumbnails
from mlflow_dovetail.prediction_tables.page.render import render_page

__all__ = ["Thumbnails", "render_page"]
