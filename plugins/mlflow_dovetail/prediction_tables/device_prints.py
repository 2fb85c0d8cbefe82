"""Telling images apart where they are, on a GPU: only a few numbers of each come over to the CPU."""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from mlflow_dovetail.prediction_tables.values import Given

_MOST_BYTES = 8 << 20
_TOGETHER_WORDS = 1 << 21  # of 4 bytes, or of 1; their products with the weights take 8 each
_MOST_SIZES = 4
_WEIGHTS: dict[tuple[int, str], Any] = {}


def can_sum(images: Given) -> bool:
    """Whether images are small enough for `sums`, which needs some times an image's memory on the device."""
    size_bytes: int = math.prod(images.shape[1:]) * images.element_size()
    return 0 < size_bytes <= _MOST_BYTES


def sums(images: Given) -> list[tuple[int, ...]]:
    """Two sums of all bits of each image, modulo 2**64, with random odd weights.

    A single changed value is always seen, and another change is missed once in 2**64 times. Sums of integers are the
    same in whatever order a device adds them.

    Args:
        images: A tensor of torch, (n, height, width) or (n, channels, height, width).
    """
    torch = sys.modules["torch"]  # whose tensor it is: nothing is imported
    words = images.contiguous().reshape(len(images), -1).view(torch.uint8)
    words = words.view(torch.int32) if words.shape[1] % 4 == 0 else words
    weights = _weights(words)
    parts = words.split(max(1, _TOGETHER_WORDS // words.shape[1]))
    found = [torch.stack([(part.long() * one).sum(1) for one in weights], 1) for part in parts]
    return [tuple(one) for one in torch.cat(found).cpu().tolist()]


def _weights(words: Given) -> Given:
    """Two for each word of an image, where the words are; they stay there."""
    key = (words.shape[1], str(words.device))
    if key not in _WEIGHTS:
        if len(_WEIGHTS) >= _MOST_SIZES:
            _WEIGHTS.clear()
        odd = np.random.default_rng(0).integers(-(2**62), 2**62, (2, words.shape[1])) * 2 + 1
        _WEIGHTS[key] = words.new_tensor(odd, dtype=sys.modules["torch"].int64)
    return _WEIGHTS[key]
