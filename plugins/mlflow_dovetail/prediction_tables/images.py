"""The pixels of an image in one form, so that the same picture has the same digest whatever it came as."""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable, Sequence

import numpy as np
import xxhash

from mlflow_dovetail.prediction_tables import device_prints
from mlflow_dovetail.prediction_tables.values import Given, OnDevice, Same, Values, is_image

log = logging.getLogger("mlflow_dovetail")

UNREADABLE = "unreadable"
# What an interpolation overshoots by; less than half a level.
_OVERSHOOT = 1e-3
_UNSIGNED = 2**64 - 1
_NEEDS_COLOUR = ("CMYK", "YCbCr", "HSV", "LAB", "RGBX")


class Images:
    """The images of a batch: one a row, or one for all its rows; None where a row has none.

    Args:
        values: Of the column.
        prints: Of all of them, where they are known already.

    Attributes:
        is_same: It is one for all rows.

    Raises:
        TypeError: They are no images.
    """

    def __init__(self, values: Values, prints: Sequence[Hashable] | None = None) -> None:
        self.is_same = isinstance(values, Same)
        self._prints = prints
        self._values = [values.value] if isinstance(values, Same) else values
        for image in () if isinstance(self._values, OnDevice) else self._values:
            if isinstance(image, np.ndarray) and not (image.ndim in (2, 3) and image.dtype.kind in "buif"):
                raise TypeError(f"an array of {image.ndim} axes is no image")
            if not (image is None or isinstance(image, np.ndarray) or is_image(image)):
                raise TypeError(f"a {type(image).__name__} is no image")

    def __len__(self) -> int:
        return len(self._values)

    def take(self, rows: Sequence[int]) -> list[Given]:
        """The images of some rows; those that are on another device come over now."""
        return list(self._values.take(rows)) if isinstance(self._values, OnDevice) else [self._values[n] for n in rows]

    def prints(self, rows: Sequence[int]) -> list[Hashable]:
        """What tells the images of some rows from all others, by every pixel; None where there is none.

        It costs hardly more than to read the pixels, a tenth of their BLAKE2b. Of images on another device only these
        few numbers come over. It is the same in this process and its forks alone. An image that cannot be read has
        `UNREADABLE`.
        """
        if self._prints is not None:
            return [self._prints[row] for row in rows]
        there = self._values.rows(rows) if isinstance(self._values, OnDevice) and rows else None
        if there is not None and device_prints.can_sum(there):
            form = (*there.shape[1:], str(there.dtype))
            return [(form, sums) for sums in device_prints.sums(there)]
        return [None if image is None else _print_of_image(image) for image in self.take(rows)]


def _print_of_image(image: Given) -> Hashable:
    try:
        array = _from_pil(image) if is_image(image) else image
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises of a broken file: OSError, SyntaxError, struct.error
        _tell_once(type(error).__name__, str(error))
        return UNREADABLE
    # The same bytes in another shape are another picture.
    seed = hash((array.shape, array.dtype.str)) & _UNSIGNED
    return xxhash.xxh3_128_digest(np.ascontiguousarray(array).data, seed)


@functools.lru_cache(maxsize=100)
def _tell_once(kind: str, why: str) -> None:
    """Each cause once; how many images it cost is counted with what is left out."""
    log.warning("Images that cannot be read are left out. %s: %s", kind, why)


def pixels(image: Given) -> np.ndarray | None:
    """An image as height × width grey levels (8 or 16 bits), or height × width × 3 or 4 of 8 bits, in one block.

    - Channels stand first where only the first axis is 1, 3 or 4 long, otherwise last. Another number of channels is
      on the shorter end, and becomes their mean: a grey thumbnail.
    - Truth values are black and white. Integers from 0 to 255 stay as they are; grey ones up to 65535 too, with 16
      bits; colour of 16 bits has its upper 8.
    - Floats from 0 to 1 become 0 to 255. All other numbers are scaled by the least and the greatest finite value of
      their own image; NaN is black.

    Returns:
        None where there are no pixels.
    """
    if image is None:
        return None
    array = _from_pil(image) if is_image(image) else image
    if array.size == 0:
        return None
    if array.ndim == 3:
        array = _channels_last(array)
    levels = _levels(array)
    return _contiguous(levels >> 8 if levels.ndim == 3 and levels.dtype == np.uint16 else levels)


def _from_pil(image: Given) -> np.ndarray:
    if image.mode in ("P", "PA", "LA", "La", "RGBa"):
        image = image.convert("RGBA" if image.mode != "P" or "transparency" in image.info else "RGB")
    elif image.mode in _NEEDS_COLOUR:
        image = image.convert("RGB")
    return np.asarray(image)


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Height × width for one channel or many, else height × width × channels, as a view where that can be."""
    is_first, is_last = array.shape[0] in (1, 3, 4), array.shape[2] in (1, 3, 4)
    if not (is_first or is_last):
        mean: np.ndarray = array.astype(np.float64).mean(0 if array.shape[0] < array.shape[2] else 2)
        return mean
    found: np.ndarray = array if is_last else array.transpose(1, 2, 0)
    return found.reshape(found.shape[:2]) if found.shape[2] == 1 else found


def _levels(array: np.ndarray) -> np.ndarray:
    kind = array.dtype.kind
    if kind == "b":
        black_and_white: np.ndarray = array.astype(np.uint8) * np.uint8(255)
        return black_and_white
    if kind == "u" and array.itemsize <= 2:
        return array
    if kind == "f":
        return _levels_of_floats(array)
    low, high = int(array.min()), int(array.max())
    if low >= 0 and high <= 255:
        return array.astype(np.uint8)
    if low >= 0 and high <= 65535:
        return array.astype(np.uint16)
    return _scaled(array.astype(np.float64), float(low), float(high))


def _levels_of_floats(array: np.ndarray) -> np.ndarray:
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = array[np.isfinite(array)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        array = np.nan_to_num(array, nan=low, posinf=high, neginf=low)
    if low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT:
        whole: np.ndarray = array * array.dtype.type(255)
        whole += array.dtype.type(0.5)
        return whole
    return _scaled(array, low, high)


def _scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Floats from 0.5 to 255.5, in the array's own precision: in place, and so in a third of the time."""
    if not high > low:
        return np.zeros_like(array)
    if high / 4 - low / 4 > np.finfo(array.dtype).max / 8:  # the difference would be infinite
        array, low, high = array / 8, low / 8, high / 8
    found: np.ndarray = array - array.dtype.type(low)
    found *= array.dtype.type(255 / (high - low))
    found += array.dtype.type(0.5)
    return found


def _contiguous(levels: np.ndarray) -> np.ndarray:
    """In one block of memory; floats become whole levels on the way."""
    kind = np.uint16 if levels.dtype == np.uint16 and levels.ndim == 2 else np.uint8
    if levels.dtype == kind and levels.flags.c_contiguous:
        return levels  # the caller's own pixels, which are written before `append` returns
    whole = levels.astype(kind, order="K", copy=False)
    if levels.ndim == 2:
        return np.ascontiguousarray(whole)
    found = np.empty(levels.shape, kind)
    for channel in range(levels.shape[2]):  # four times as fast as all at once: it reads each plane in order
        found[..., channel] = whole[..., channel]
    return found
