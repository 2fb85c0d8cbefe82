"""What a batch and a step's result say of each example, as columns of a prediction table."""

from __future__ import annotations

import colorsys
import hashlib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

# What modules and data call the columns, in the order in which they are looked for.
_NAMES = {
    "id": ("id", "ids", "sample_id"),
    "image": ("image", "images", "pixel_values", "x"),
    "text": ("text", "texts", "sentence"),
    "label": ("label", "labels", "target", "targets", "y"),
    "prediction": ("prediction", "predictions", "pred", "preds"),
    "probabilities": ("probabilities", "probs"),
    "scores": ("scores", "logits"),
}
_INPUTS = ("id", "image", "text", "label")
_IMAGE_AXES = (3, 4)
# Of a mask: the class that stands for nothing, as -100 of a loss; PyTorch's own data sets say 255.
_IGNORED = 255
_GOLDEN = 0.618034
# Between the two classes that a float label names by 0 and 1.
_MIDDLE = 0.5


def columns_of(outputs: Any) -> dict[str, Any] | None:
    """The columns that a step's result holds; None where it holds none, as a loss alone.

    Of several keys for one column the first in the order of `_NAMES` counts; the others are columns of their own.

    Raises:
        ValueError: A column has more than a value, a row of numbers or an image an example.
    """
    if isinstance(outputs, Tensor):
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            return _with_prediction({"scores": outputs})
        return {"prediction": outputs.flatten()} if outputs.ndim in (1, 2) else None
    if not isinstance(outputs, Mapping):
        return None
    found = {name: value for name, value in _named(outputs).items() if not _is_scalar(value)}
    if not found.keys() & {"prediction", "probabilities", "scores"}:
        return None
    return {name: _shown(name, value) for name, value in _with_prediction(found).items()}


def says_one_score(outputs: Any) -> bool:
    """Whether a step's result is that of two classes by one score, as `binary_cross_entropy_with_logits` takes it."""
    if not isinstance(outputs, Mapping):
        return False
    found = _named(outputs)
    return not found.keys() & {"prediction", "probabilities"} and _is_one_score(found.get("scores"))


def inputs_of(
    batch: Any, name: Callable[[Any], list[str]] | None = None, *, is_one_score: bool = False
) -> dict[str, Any]:
    """Id, input and label of a batch, as far as they can be told.

    Args:
        batch: Of a data loader.
        name: Names its examples by their content where they have no id; `content_ids` when left out.
        is_one_score: The model tells two classes by one score: its labels are floats, of which those above 0.5 are
            class 1.

    Raises:
        ValueError: The examples have no id, and an input that gives them none.
    """
    if isinstance(batch, Mapping):
        found = {name: value for name, value in _named(batch).items() if name in _INPUTS}
    elif isinstance(batch, (list, tuple)) and batch:
        found = dict(zip(("image", "label"), batch, strict=False))
    else:
        found = {"image": batch}
    content = found.get("image", found.get("text"))
    if "id" not in found and content is not None:
        found["id"] = (name or content_ids)(content)
    image = found.get("image")
    if isinstance(image, Tensor) and image.ndim not in _IMAGE_AXES:
        del found["image"]  # features, which nobody can look at
    if isinstance(image, (list, tuple)) and image and isinstance(image[0], str):
        found["text"] = found.pop("image")
    label = found.get("label")
    if is_one_score and isinstance(label, Tensor) and label.is_floating_point():
        found["label"] = (label > _MIDDLE).long()
    if "label" in found:
        found["label"] = _shown("label", found["label"])
    return found


def content_ids(content: Any) -> list[str]:
    """A name for each example by its content: 16 hex digits of BLAKE2b over a tensor's values, or over a text.

    Floats count as 32 bits. The values are those of the batch: another normalisation makes other names.

    Raises:
        ValueError: It is neither a tensor nor a list of texts.
    """
    if isinstance(content, Tensor):
        rows = content.detach().cpu().contiguous()
        parts = [row.tobytes() for row in (rows.float() if rows.is_floating_point() else rows).numpy()]
    elif isinstance(content, (list, tuple)) and all(isinstance(one, str) for one in content):
        parts = [one.encode("utf-8", "surrogatepass") for one in content]
    else:
        raise ValueError(f"examples of {type(content).__name__} have no name of their own; give the batch an 'id'")
    return [hashlib.blake2b(part, digest_size=8).hexdigest() for part in parts]


def _with_prediction(found: dict[str, Any]) -> dict[str, Any]:
    """Probabilities and prediction from scores, (n, classes) or (n, classes, height, width), where they were not given.

    Of an image's points only the prediction is kept: probabilities of each are too many to look at. One score an
    example, (n,) or (n, 1), or a point is that of class 1 of two.
    """
    scores = found.get("scores")
    if isinstance(scores, Tensor) and _is_one_score(scores) and not found.keys() & {"prediction", "probabilities"}:
        del found["scores"]
        found["prediction"] = (scores > 0).long()
        if scores.ndim < 4:
            share = scores.detach().float().flatten().sigmoid()
            found["probabilities"] = torch.stack([1 - share, share], dim=1)
        return found
    if isinstance(scores, Tensor) and scores.ndim in (2, 4) and scores.shape[1] > 1:
        del found["scores"]
        if scores.ndim == 4:
            found.setdefault("prediction", scores.argmax(dim=1))
            return found
        found.setdefault("probabilities", scores.detach().float().softmax(dim=-1))
    probabilities = found.get("probabilities")
    if "prediction" not in found and isinstance(probabilities, Tensor) and probabilities.ndim == 2:
        found["prediction"] = probabilities.argmax(dim=-1)
    return found


def _shown(name: str, value: Any) -> Any:
    """A column as a table takes it: (n, 1) as (n,), and masks in colours."""
    if not isinstance(value, Tensor) or name == "image":
        return value
    if value.ndim > (2 if name in ("probabilities", "scores") else max(_IMAGE_AXES)):
        raise ValueError(
            f"{name!r} has the shape {tuple(value.shape)}; a table has one value, one row of numbers or one image an "
            "example"
        )
    if value.ndim == 2 and value.shape[1] == 1 and name != "probabilities":
        return value.flatten()
    is_mask = value.ndim in _IMAGE_AXES and value.dtype in (torch.int16, torch.int32, torch.int64)
    return _coloured(value.squeeze(1) if value.ndim == 4 else value) if is_mask else value


def _coloured(masks: Tensor) -> Tensor:
    """Classes of points, (n, height, width), as bytes (n, height, width, 3): 0 is black, nothing is grey."""
    if masks.ndim != 3:
        raise ValueError(f"a mask of whole numbers has the shape {tuple(masks.shape)}; give one class a point")
    masks = masks.detach().cpu().long()  # only these can be indices
    return _colours()[torch.where(masks < 0, _IGNORED, masks.where(masks == _IGNORED, masks % _IGNORED))]


@cache
def _colours() -> Tensor:
    """(256, 3), of which neighbours differ: each has the hue farthest from those before."""
    colours = [colorsys.hsv_to_rgb(number * _GOLDEN % 1, 0.7, 0.95) for number in range(_IGNORED)]
    return (torch.tensor([(0.0, 0.0, 0.0), *colours[1:], (0.5, 0.5, 0.5)]) * 255).round().to(torch.uint8)


def _named(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Under the tables' own names; what they do not know keeps its own."""
    given = {str(key) for key in values}
    first = {name: next((one for one in candidates if one in given), name) for name, candidates in _NAMES.items()}
    known = {one: name for name, one in first.items()}
    return {known.get(str(key), str(key)): value for key, value in values.items()}


def _is_one_score(scores: Any) -> bool:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        return False
    return scores.ndim == 1 or (scores.ndim in (2, 4) and scores.shape[1] == 1)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str) or getattr(value, "ndim", None) == 0 or not hasattr(value, "__len__")
