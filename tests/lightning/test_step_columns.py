"""What a batch and a step's result say of each example."""

from __future__ import annotations

import pytest
import torch

from mlflow_dovetail.lightning.step_columns import columns_of, content_ids, inputs_of, says_one_score

N = 7
IMAGES = torch.arange(N * 16.0).reshape(N, 1, 4, 4) / 200
LABELS = torch.arange(N) % 3


def shapes(columns):
    return {name: tuple(value.shape) for name, value in columns.items()}


def test_bfloat16_and_halves_have_names_too():
    assert content_ids(IMAGES.bfloat16()) == content_ids(IMAGES.bfloat16())
    assert len(set(content_ids(IMAGES.half()))) == N
    assert content_ids(["a", "\udc80"]) == content_ids(("a", "\udc80"))
    with pytest.raises(ValueError, match="give the batch an 'id'"):
        content_ids([IMAGES])


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        ((IMAGES, LABELS), {"id", "image", "label"}),
        ((IMAGES[:, 0, 0], LABELS), {"id", "label"}),  # features are no image
        (IMAGES, {"id", "image"}),
        ((["a"] * N, LABELS), {"id", "text", "label"}),
        ({"pixel_values": IMAGES, "targets": LABELS, "other": 1}, {"id", "image", "label"}),
        ({"ids": ["a"] * N, "x": IMAGES}, {"id", "image"}),
        ({"input_ids": LABELS, "text": ["a"] * N, "y": LABELS}, {"id", "text", "label"}),
    ],
)
def test_what_a_batch_gives(batch, names):
    assert inputs_of(batch).keys() == names


def test_a_batch_names_its_examples_itself_where_it_can():
    given = [f"e{number}" for number in range(N)]
    assert [inputs_of({key: given, "x": IMAGES})["id"] for key in ("id", "ids", "sample_id")] == [given] * 3


def test_of_several_keys_for_one_column_the_first_that_is_known_counts():
    place = torch.arange(N) / 10
    found = inputs_of({"image": IMAGES, "label": LABELS, "x": place, "y": place})
    assert found["image"] is IMAGES and found["label"] is LABELS and found["id"] == content_ids(IMAGES)
    said = columns_of({"prediction": LABELS, "pred": place})
    assert said["prediction"] is LABELS and said["pred"] is place


@pytest.mark.parametrize("shape", [(N,), (N, 1), (N, 1, 2, 2)])
def test_one_score_tells_two_classes_and_so_do_its_labels(shape):
    label = (LABELS > 0).float().reshape(N, *[1] * (len(shape) - 1)).expand(shape)
    outputs = {"scores": 4 * label - 2}
    assert says_one_score(outputs)
    said, inputs = columns_of(outputs), inputs_of((IMAGES, label), is_one_score=True)
    assert torch.equal(said["prediction"], inputs["label"]) and inputs["label"].dtype in (torch.int64, torch.uint8)
    if len(shape) < 4:
        assert said["probabilities"].argmax(1).tolist() == said["prediction"].tolist()
        assert said["probabilities"][0].tolist() == pytest.approx([0.8808, 0.1192], abs=1e-4)


@pytest.mark.parametrize(
    "outputs",
    [
        torch.zeros(N, 1),
        {"scores": torch.zeros(N, 3)},
        {"prediction": torch.zeros(N)},
        {"scores": torch.zeros(N), "prediction": LABELS},
    ],
)
def test_a_regression_and_several_classes_are_told_by_no_single_score(outputs):
    assert not says_one_score(outputs)


@pytest.mark.parametrize("outputs", [torch.tensor(0.5), {"loss": torch.tensor(0.5)}, None, {"loss": torch.zeros(N)}])
def test_a_result_without_predictions_has_no_columns(outputs):
    assert columns_of(outputs) is None


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        (torch.zeros(N, 3), {"probabilities": (N, 3), "prediction": (N,)}),
        (torch.zeros(N, 1), {"prediction": (N,)}),
        ({"logits": torch.zeros(N, 3)}, {"probabilities": (N, 3), "prediction": (N,)}),
        ({"prediction": torch.zeros(N, 1), "loss": torch.zeros(N, 1)}, {"prediction": (N,), "loss": (N,)}),
        ({"prediction": LABELS, "loss": torch.tensor(0.5)}, {"prediction": (N,)}),
        ({"scores": torch.zeros(N, 3, 5, 4)}, {"prediction": (N, 5, 4, 3)}),
        ({"prediction": torch.zeros(N, 5, 4).long()}, {"prediction": (N, 5, 4, 3)}),
        ({"prediction": torch.zeros(N, 1, 5, 4).long()}, {"prediction": (N, 5, 4, 3)}),
        ({"prediction": torch.zeros(N, 3, 5, 4)}, {"prediction": (N, 3, 5, 4)}),
        ({"prediction": LABELS, "heat": torch.zeros(N, 5, 4)}, {"prediction": (N,), "heat": (N, 5, 4)}),
        ({"scores": torch.zeros(N)}, {"probabilities": (N, 2), "prediction": (N,)}),
        ({"logits": torch.zeros(N, 1)}, {"probabilities": (N, 2), "prediction": (N,)}),
        ({"scores": torch.zeros(N, 1, 5, 4)}, {"prediction": (N, 5, 4, 3)}),
        ({"scores": torch.zeros(N, 1), "prediction": LABELS}, {"scores": (N,), "prediction": (N,)}),
        ({"preds": LABELS, "prediction": LABELS > 0}, {"preds": (N,), "prediction": (N,)}),
    ],
)
def test_what_a_result_gives(outputs, expected):
    assert shapes(columns_of(outputs)) == expected


@pytest.mark.parametrize(
    "outputs",
    [
        {"scores": torch.zeros(N, 6, 3)},
        {"probabilities": torch.zeros(N, 3, 5, 4)},
        {"prediction": torch.zeros(N, 3, 5, 4).long()},
        {"prediction": torch.zeros(N, 2, 3, 5, 4)},
    ],
)
def test_what_no_table_shows_is_refused_with_its_shape(outputs):
    with pytest.raises(ValueError, match=r"the shape \(7, "):
        columns_of(outputs)


@pytest.mark.parametrize("kind", [torch.int16, torch.int32, torch.int64])
def test_a_mask_has_a_colour_a_class(kind):
    mask = torch.tensor([[[0, 1], [2, 254]], [[255, -100], [256, 1]]], dtype=kind)
    colours = inputs_of((IMAGES[:2], mask))["label"]
    assert colours.dtype == torch.uint8 and colours.shape == (2, 2, 2, 3)
    (nothing, one), (two, last) = colours[0].tolist()
    assert nothing == [0, 0, 0] and len({tuple(one), tuple(two), tuple(last)}) == 3
    (ignored, too), (beyond, again) = colours[1].tolist()
    assert ignored == too == [128, 128, 128] and again == one
    assert beyond == one, "more classes than colours: they begin again"
