"""What a model says of each example, kept by one callback: once an epoch, under a name that stays, on every rank."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import mlflow_dovetail as dt
from mlflow_dovetail import store
from mlflow_dovetail.lightning import DovetailLogger, PredictionTables
from mlflow_dovetail.lightning.places import Places
from mlflow_dovetail.lightning.step_columns import content_ids
from mlflow_dovetail.prediction_tables import Class, images
from mlflow_dovetail.run.other_host import HostWatch
from mlflow_dovetail.run.predictions import open_tables
from mlflow_dovetail.run.training_speed import RunPlace

EXAMPLES = 7
IMAGES = torch.arange(EXAMPLES * 16.0).reshape(EXAMPLES, 1, 4, 4) / 200
LABELS = torch.arange(EXAMPLES) % 3


class Classifier(pl.LightningModule):
    """Three classes; `says` is what its steps return."""

    def __init__(self, says=lambda scores, losses: {"scores": scores, "loss": losses}) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(16, 3)
        self.says = says

    def training_step(self, batch, _):
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.layer(images.flatten(1)), labels)

    def validation_step(self, batch, _):
        images, labels = batch
        scores = self.layer(images.flatten(1))
        return self.says(scores, torch.nn.functional.cross_entropy(scores, labels, reduction="none"))

    test_step = validation_step

    def predict_step(self, batch, _):
        return self.layer(batch[0].flatten(1))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Named(Dataset):
    """Examples as dictionaries, with names of their own and a text."""

    def __len__(self) -> int:
        return EXAMPLES

    def __getitem__(self, index: int) -> dict:
        return {"id": f"example-{index}", "text": f"text {index}", "label": int(LABELS[index]), "x": IMAGES[index]}


def loader(batch_size: int = 3, order: torch.Tensor | None = None, **options) -> DataLoader:
    order = torch.arange(EXAMPLES) if order is None else order
    return DataLoader(TensorDataset(IMAGES[order], LABELS[order]), batch_size=batch_size, **options)


def trainer(uri: str, *tables: PredictionTables, name: str = "r", **options) -> pl.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    options = {"log_every_n_steps": 1, **options}
    logger = DovetailLogger("tables", name, tracking_uri=uri)
    return pl.Trainer(accelerator="cpu", max_epochs=2, logger=logger, callbacks=list(tables), **quiet, **options)


def test_each_example_is_there_once_an_epoch_with_what_was_said(uri: str):
    trainer(uri, PredictionTables(classes=["a", "b", "c"])).fit(Classifier(), loader(), loader())
    rows = dt.load_predictions("r", tracking_uri=uri)
    assert rows.groupby("epoch").size().to_dict() == {0: EXAMPLES, 1: EXAMPLES}
    first = rows[rows.epoch == 0]
    assert first.label.tolist() == LABELS.tolist()
    assert first.id.tolist() == content_ids(IMAGES)
    assert [max(range(3), key=row.__getitem__) for row in first.probabilities] == first.prediction.tolist()
    assert all(abs(sum(row) - 1) < 1e-5 for row in first.probabilities)
    assert first.loss.notna().all() and first.image.notna().all() and set(rows.step) == {3, 6}


def test_images_that_come_again_are_named_without_another_look(uri: str, monkeypatch: pytest.MonkeyPatch):
    looks: list[int] = []
    printed: list[int] = []
    print_of = images._print_of_image
    monkeypatch.setattr(images, "_print_of_image", lambda image: printed.append(1) or print_of(image))

    def look(content: torch.Tensor) -> list[str]:
        looks.append(len(content))
        return content_ids(content)

    monkeypatch.setattr("mlflow_dovetail.lightning.prediction_tables.content_ids", look)
    trainer(uri, PredictionTables()).fit(Classifier(), loader(), loader())
    assert sum(looks) == EXAMPLES
    assert sum(printed) == 2 * EXAMPLES  # for the name and for the table: once an epoch
    assert dt.load_predictions("r", tracking_uri=uri).id.tolist() == content_ids(IMAGES) * 2


class Painter(Classifier):
    """Its steps have images of their own, which are others in every epoch."""

    def validation_step(self, batch, _):
        return {"scores": self.layer(batch[0].flatten(1)), "image": batch[0] * self.trainer.current_epoch}


def test_a_step_with_its_own_images_is_not_taken_for_its_input(uri: str):
    trainer(uri, PredictionTables()).fit(Painter(), loader(), loader())
    rows = dt.load_predictions("r", tracking_uri=uri)
    assert rows.groupby("epoch").image.nunique().to_dict() == {0: 1, 1: EXAMPLES}


def test_a_rank_on_another_machine_keeps_its_rows_in_a_folder_of_its_own(uri: str, monkeypatch: pytest.MonkeyPatch):
    with dt.start_run(tracking_uri=uri) as run:
        place = msgspec.structs.replace(RunPlace.of(run), host="another")
        monkeypatch.setattr(Places, "share", lambda *_: place)
        rank = SimpleNamespace(is_global_zero=False, global_rank=1, num_nodes=2, loggers=[])
        tables = PredictionTables()
        tables.setup(rank, Classifier(), "fit")
        watch = HostWatch.begin(place)
        tables._table("val", {"id": ["a"]}).append({"id": ["a"]})
        tables.teardown(rank, Classifier(), "fit")
        watch.close()
    assert list(HostWatch.folder_of(place).tables.glob("val/*.rows"))
    assert not (Path(run.folder) / "tables").exists()


def test_an_example_has_its_name_in_any_order_split_and_worker(uri: str):
    loaders = {
        "one": loader(),
        "order": loader(2, torch.randperm(EXAMPLES)),
        "split": loader(2, torch.tensor([5, 1, 3]), num_workers=1),
    }
    for name, one in loaders.items():
        trainer(uri, PredictionTables(), name=name).validate(Classifier(), one, verbose=False)
    one, order, split = (
        dt.load_predictions(name, tracking_uri=uri).set_index("id").label.to_dict() for name in loaders
    )
    assert one == order and len(one) == EXAMPLES
    assert len(split) == 3 and split.items() <= one.items()


def test_test_and_predict_have_tables_of_their_own(uri: str):
    tested = trainer(uri, PredictionTables())
    tested.test(Classifier(), loader(), verbose=False)
    tested.predict(Classifier(), loader())
    tested.logger.run.close()
    assert len(dt.load_predictions("r", "test", tracking_uri=uri)) == EXAMPLES
    assert dt.load_predictions("r", "predict", tracking_uri=uri).label.tolist() == LABELS.tolist()


def test_what_is_evaluated_has_the_epoch_and_step_of_its_checkpoint(uri: str, tmp_path: Path):
    fitted = trainer(uri, PredictionTables())
    fitted.fit(Classifier(), loader(), loader())
    fitted.save_checkpoint(tmp_path / "last.ckpt")
    tested = trainer(uri, PredictionTables(), name="tested")

    def moments(weights: Path | None) -> set[tuple[int, int]]:
        tested.test(Classifier(), loader(), verbose=False, ckpt_path=weights)
        rows = dt.load_predictions("tested", "test", tracking_uri=uri).tail(EXAMPLES)
        return set(zip(rows.epoch, rows.step, strict=True))

    assert moments(tmp_path / "last.ckpt") == {(2, 6)}
    own = {"callbacks": {}, "pytorch-lightning_version": pl.__version__, "state_dict": Classifier().state_dict()}
    torch.save(own, tmp_path / "own.ckpt")
    assert moments(tmp_path / "own.ckpt") == {(0, 0)}, "a user's own checkpoint need not say its epoch"
    assert moments(None) == {(0, 0)}, "of what is evaluated without a checkpoint nothing is known"


def test_batches_with_names_and_texts(uri: str):
    class FromNamed(Classifier):
        def validation_step(self, batch, _):
            return {"predictions": self.layer(batch["x"].flatten(1)).argmax(1), "length": batch["label"] * 2}

    one = DataLoader(Named(), batch_size=3)
    trainer(uri, PredictionTables()).validate(FromNamed(), one, verbose=False)
    rows = dt.load_predictions("r", tracking_uri=uri)
    assert rows.id.tolist() == [f"example-{number}" for number in range(EXAMPLES)]
    assert rows.text[3] == "text 3" and rows.length.tolist() == (LABELS * 2).tolist()


class Segmenter(Classifier):
    """A class for each point; its steps return scores alone."""

    def validation_step(self, batch, _):
        images, _ = batch
        return {"scores": torch.cat([images, 0.5 - images], 1), "overlap": images.flatten(1).mean(1), "kind": LABELS}


def test_masks_are_images_and_further_columns_hold_what_was_said(uri: str):
    masks = (IMAGES[:, 0] > 0.25).long()
    one = DataLoader(TensorDataset(IMAGES, masks), batch_size=EXAMPLES)
    kept = PredictionTables(classes=["ground", "thing"], columns={"kind": Class(["x", "y", "z"])})
    trainer(uri, kept).validate(Segmenter(), one, verbose=False)
    with open_tables(["r"], "val", uri) as (found,):
        manifest, rows = found.manifest, found.rows()
        kinds = {column.name: column.kind for column in manifest.columns}
        images = found.thumbnails([*rows["label"].to_pylist(), *rows["prediction"].to_pylist()])
    expected = {"image": "image", "label": "image", "prediction": "image", "overlap": "number", "kind": "class"}
    assert expected.items() <= kinds.items() and manifest.column("kind").classes == ("x", "y", "z")
    assert all(images[digest] for name in ("label", "prediction") for digest in rows[name].to_pylist())
    assert rows["label"].to_pylist() != rows["prediction"].to_pylist()


class Detector(Classifier):
    """Two classes by one score, as `binary_cross_entropy_with_logits` takes it; its labels are floats."""

    def validation_step(self, batch, _):
        return {"scores": 4 * batch[1] - 2}


def test_one_score_and_float_labels_are_two_classes(uri: str):
    one = DataLoader(TensorDataset(IMAGES, (LABELS > 0).float()[:, None]), batch_size=3)
    trainer(uri, PredictionTables()).validate(Detector(), one, verbose=False)
    with open_tables(["r"], "val", uri) as (found,):
        kinds, rows = {column.name: column.kind for column in found.manifest.columns}, found.rows()
    assert kinds["label"] == kinds["prediction"] == "class"
    assert rows["label"].to_pylist() == rows["prediction"].to_pylist() == (LABELS > 0).int().tolist()
    assert rows["probabilities"].to_pylist()[1] == pytest.approx([0.1192, 0.8808], abs=1e-4)


@pytest.mark.parametrize(
    ("says", "told"),
    [
        (lambda scores, losses: losses.mean(), "validation_step returns none"),
        (lambda scores, losses: None, "validation_step returns none"),
        (lambda scores, losses: {"scores": scores, "extra": torch.zeros(1)}, "No more predictions are kept"),
        (lambda scores, losses: {"scores": "nonsense"}, "No more predictions are kept"),
    ],
)
def test_what_cannot_be_kept_is_told_once_and_stops_no_training(uri: str, says, told: str, caplog):
    done = trainer(uri, PredictionTables())
    done.fit(Classifier(says), loader(), loader())
    assert done.state.finished and done.current_epoch == 2
    assert caplog.text.count("predictions are kept") == 1 and (told in caplog.text or "val_step" in caplog.text)


def test_no_epoch_but_those_that_are_wanted(uri: str):
    trainer(uri, PredictionTables(every_n_epochs=2)).fit(Classifier(), loader(), loader())
    assert set(dt.load_predictions("r", tracking_uri=uri).epoch) == {1}


def test_without_a_logger_of_ours_nothing_is_kept(tmp_path: Path, caplog):
    quiet = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False}
    pl.Trainer(accelerator="cpu", max_epochs=1, callbacks=[PredictionTables()], **quiet).fit(
        Classifier(), loader(), loader()
    )
    assert "they need a DovetailLogger" in caplog.text


RANKS = """
import sys
sys.path.insert(0, sys.argv[2])
from lightning.test_prediction_tables import Classifier, PredictionTables, loader, trainer

def main():
    ranks = trainer(sys.argv[1], PredictionTables(), devices=2, strategy="ddp")
    model = Classifier()
    ranks.fit(model, loader(2), loader(2))
    ranks.test(model, loader(2), verbose=False)
    ranks.predict(model, loader(2), return_predictions=False)
    model.says = lambda scores, losses: {"scores": scores[..., None] if model.global_rank else scores, "loss": losses}
    ranks.validate(model, loader(2), verbose=False)

if __name__ == "__main__":
    main()
"""


def test_two_ranks_have_no_row_twice_and_none_missing(tmp_path: Path):
    """Seven examples on two ranks: the sampler repeats one, so that both have four."""
    (tmp_path / "train.py").write_text(RANKS)
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    store.open(uri, "tables").close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "DOVETAIL_"))}
    environment = {**kept, "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "train.py", uri, str(Path(__file__).resolve().parents[1])]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr.decode()
    rows: pd.DataFrame = dt.load_predictions("r", tracking_uri=uri)
    for number in range(2):
        assert sorted(rows.id[rows.epoch == number]) == sorted(content_ids(IMAGES))
    assert set(rows.epoch) == {0, 1, 2} and sum(rows.epoch == 2) == 4, "rank 0 alone"
    opened = store.open(uri)
    said = opened.find_run("r").tags["dovetail.status.predictions"]
    opened.close()
    assert said.startswith("degraded: rank-0001: "), said
    for name in ("test", "predict"):
        assert sorted(dt.load_predictions("r", name, tracking_uri=uri).id) == sorted(content_ids(IMAGES)), name
