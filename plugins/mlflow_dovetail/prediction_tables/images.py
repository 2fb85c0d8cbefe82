"""The pixels of an image in one form, so that the same picture has the same digest whatever it came as."""

from __future__ import annotations

import numpy as np

from mlflow_dovetail.prediction_tables.values import Given, Same, Values, is_image

# What an interpolation overshoots by; less than half a level.
_OVERSHOOT = 1e-3
_NEEDS_COLOUR = ("CMYK", "YCbCr", "HSV", "LAB", "RGBX")


def images_of(values: Values) -> list[Given]:
    """The images of a batch, one for all its rows or one a row; None where a row has none.

    Raises:
        TypeError: They are no images.
    """
    images = [values.value] if isinstance(values, Same) else list(values)
    for image in images:
        is_array = isinstance(image, np.ndarray) and image.ndim in (2, 3) and image.dtype.kind in "buif"
        if not (image is None or is_array or is_image(image)):
            what = f"an array of {image.ndim} axes" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
            raise TypeError(f"{what} is no image")
    return images


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
        whole: np.ndarray = array * array.dtype.type(255) + array.dtype.type(0.5)
        return whole
    return _scaled(array.astype(np.float64), low, high)


def _scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    return (array - low) / (high - low) * 255 + 0.5 if high > low else np.zeros_like(array)


def _contiguous(levels: np.ndarray) -> np.ndarray:
    """In one block of memory; floats become whole levels on the way."""
    kind = np.uint16 if levels.dtype == np.uint16 and levels.ndim == 2 else np.uint8
    if levels.dtype == kind and levels.flags.c_contiguous:
        return levels  # the caller's own pixels, which are written before `append` returns
    found = np.empty(levels.shape, kind)
    if levels.ndim == 2:
        np.copyto(found, levels, casting="unsafe")
    else:
        for channel in range(levels.shape[2]):  # three times as fast as all at once: it reads each plane in order
            np.copyto(found[..., channel], levels[..., channel], casting="unsafe")
    return found
