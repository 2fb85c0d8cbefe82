"""Images of every form: kept once by content, read back without a level lost, with a thumbnail."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image as PilImage

from mlflow_dovetail.errors import DovetailError
from mlflow_dovetail.prediction_tables import media
from mlflow_dovetail.prediction_tables.columns import Image
from mlflow_dovetail.prediction_tables.policies import First
from mlflow_dovetail.prediction_tables.schema import MEDIA_COLUMNS

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (6, 5), dtype=np.uint8)
TALL = RANDOM.integers(0, 256, (20, 10), dtype=np.uint8)
RGB = RANDOM.integers(0, 256, (70, 90, 3), dtype=np.uint8)
RGBA = RANDOM.integers(0, 256, (70, 90, 4), dtype=np.uint8)
DEEP = RANDOM.integers(0, 65536, (70, 90), dtype=np.uint16)
FLOATS = np.array([[0.0, 0.5], [1.0, np.nan]], np.float32)
SIGNED = np.array([[-1.0, 0.0], [1.0, 0.0]])
PALETTE = PilImage.fromarray(RGB).quantize(16)

FORMS = [
    ("grey", GREY, GREY),
    ("grey, channel last", GREY[:, :, None], GREY),
    ("grey, channel first", GREY[None], GREY),
    ("RGB", RGB, RGB),
    ("RGB, channels first", RGB.transpose(2, 0, 1), RGB),
    ("RGB, tensor", torch.from_numpy(RGB.transpose(2, 0, 1).copy()), RGB),
    ("RGB, 16 bits", RGB.astype(np.uint16) << 8, RGB),
    ("RGBA", RGBA, RGBA),
    ("RGBA, channels first", RGBA.transpose(2, 0, 1), RGBA),
    ("16 bits", DEEP, DEEP),
    ("int32 of 16 bits", DEEP.astype(np.int32), DEEP),
    ("int64 of 8 bits", GREY.astype(np.int64), GREY),
    ("truth", GREY > 127, (GREY > 127).astype(np.uint8) * 255),
    ("floats", FLOATS, np.array([[0, 128], [255, 0]], np.uint8)),
    ("floats, half", np.array([[0, 1]], np.float16), np.array([[0, 255]], np.uint8)),
    ("floats, bfloat16", torch.tensor([[0, 1.0]], dtype=torch.bfloat16), np.array([[0, 255]], np.uint8)),
    ("floats, a hair outside", np.array([[-1e-4, 1 + 1e-4]]), np.array([[0, 255]], np.uint8)),
    ("floats from -1 to 1", SIGNED, np.array([[0, 128], [255, 128]], np.uint8)),
    ("floats with infinity", np.array([[-np.inf, 0, 1, np.inf]]), np.array([[0, 0, 255, 255]], np.uint8)),
    ("all the same", np.full((2, 2), 7.0), np.zeros((2, 2), np.uint8)),
    ("all NaN", np.full((2, 2), np.nan), np.zeros((2, 2), np.uint8)),
    ("negative integers", np.array([[-10, 10]]), np.array([[0, 255]], np.uint8)),
    ("not contiguous", RGB[::-1, ::2], RGB[::-1, ::2]),
    ("seven channels, first", np.stack([TALL / 255] * 7), TALL),
    ("seven channels, last", np.stack([TALL / 255] * 7, -1), TALL),
    ("PIL, grey", PilImage.fromarray(GREY), GREY),
    ("PIL, RGB", PilImage.fromarray(RGB), RGB),
    ("PIL, RGBA", PilImage.fromarray(RGBA), RGBA),
    ("PIL, 16 bits", PilImage.fromarray(DEEP), DEEP),
    ("PIL, palette", PALETTE, np.asarray(PALETTE.convert("RGB"))),
    ("PIL, truth", PilImage.fromarray(GREY > 127), (GREY > 127).astype(np.uint8) * 255),
    ("PIL, CMYK", PilImage.fromarray(RGB).convert("CMYK"), RGB),
    ("wide", np.broadcast_to(GREY[:1, :1], (1, 20_000)), np.broadcast_to(GREY[:1, :1], (1, 20_000))),
]


def _read(content):
    image = PilImage.open(io.BytesIO(content))
    image.load()
    return image


def _levels(content, like):
    image = _read(content)
    return np.asarray(image.convert("L") if like.ndim == 2 and image.mode == "RGB" else image)


@pytest.mark.parametrize(("given", "expected"), [one[1:] for one in FORMS], ids=[one[0] for one in FORMS])
def test_an_image_is_read_back_without_a_level_lost(table, given, expected):
    table.writer().append({"image": [given], "n": [1]})
    table.compact()
    (digest,) = table.column("image")
    (whole,) = table.media([digest]).values()
    (thumbnail,) = table.media([digest], thumbnails=True).values()
    assert max(_read(thumbnail).size) <= 64
    assert _read(thumbnail).mode in ("L", "RGB", "RGBA")
    np.testing.assert_array_equal(_levels(whole, expected), expected)


def test_packs_say_what_they_hold(table):
    table.writer().append({"image": [GREY, RGB, DEEP]})
    manifest = table.compact()
    pack = pq.read_table(table.target / manifest.media[0].path)
    assert tuple(pack.schema.names) == MEDIA_COLUMNS
    assert pack.select(["format", "width", "height"]).to_pylist() == [
        {"format": "png", "width": 5, "height": 6},
        {"format": "webp", "width": 90, "height": 70},
        {"format": "png", "width": 90, "height": 70},
    ]
    for row in pack.to_pylist():
        for content in (row["image"], row["thumbnail"]):
            assert _read(content).format == row["format"].upper()


def test_the_same_picture_is_kept_once_whatever_it_comes_as(table):
    writer = table.writer()
    for epoch in range(3):
        writer.append({"image": np.stack([RGB, RGB[::-1]]), "epoch": epoch})
        writer.append({"image": torch.from_numpy(np.stack([RGB.transpose(2, 0, 1)] * 2)), "epoch": epoch})
        writer.append({"image": [PilImage.fromarray(RGB)] * 2, "epoch": epoch})
    (log,) = table.source.glob("*.media")
    assert log.stat().st_size < 2.1 * RGB.nbytes
    assert table.compact().media[0].rows == 2
    assert len(set(table.column("image"))) == 2


def test_a_shape_or_a_type_makes_another_image(table):
    zeros = [np.zeros((2, 8), np.uint8), np.zeros((8, 2), np.uint8), np.zeros((4, 4), np.uint8)]
    table.writer().append({"image": [*zeros, np.zeros((4, 2), np.uint16)]})
    assert table.compact().media[0].rows == 4


def test_writers_and_epochs_share_images_in_the_packs(table):
    for rank in range(3):
        table.writer(writer=str(rank)).append({"image": GREY[None], "rank": rank})
    assert table.compact().media[0].rows == 1


def test_images_without_pixels_are_null_and_counted(table):
    table.writer().append({"image": [np.zeros((0, 4), np.uint8), None, GREY, np.zeros((4, 0, 3))], "n": range(4)})
    manifest = table.compact()
    assert [digest is None for digest in table.column("image")] == [True, True, False, True]
    assert manifest.left_out == {"images without pixels": 2}


def test_a_row_that_was_given_no_image_has_none_left_out(table):
    table.writer().append({"image": [GREY, None]})
    assert table.compact().left_out == {}


def test_an_empty_batch_of_images_is_no_row(table):
    writer = table.writer()
    writer.append({"image": GREY[None]})
    writer.append({"image": np.zeros((0, 6, 5), np.uint8)})
    assert table.compact().rows == 1


def test_beyond_the_limit_rows_are_kept_without_image_and_counted(table):
    writer = table.writer(most_images=2)
    images = np.stack([np.full((8, 8), level, np.uint8) for level in range(5)])
    writer.append({"image": images})
    writer.append({"image": images})
    manifest = table.compact()
    assert [digest is not None for digest in table.column("image")] == [True, True, False, False, False] * 2
    assert manifest.left_out == {"images beyond the table's limit": 3}


def test_beyond_the_limit_of_bytes_too(table):
    table.writer(most_bytes=100).append({"image": np.stack([np.full((8, 8), one, np.uint8) for one in range(2)])})
    table.compact()
    assert [digest is not None for digest in table.column("image")] == [True, False]


def test_an_image_longer_than_a_record_is_left_out(table):
    table.writer().append({"image": np.zeros((1, 8200, 8200), np.uint8), "n": [1]})
    assert table.compact().left_out == {"images of more than 64 MiB": 1}


def test_lists_of_different_sizes_and_one_image_for_all_rows(table):
    table.writer(columns={"mask": Image, "image": Image}).append({"image": [GREY, RGB, None], "mask": GREY > 1})
    table.compact()
    assert len(set(table.column("mask"))) == 1
    assert table.read().num_rows == 3


@pytest.fixture
def looked_at(monkeypatch):
    """The images of which every pixel was looked at."""
    found = []
    monkeypatch.setattr(media, "pixels", lambda image, original=media.pixels: found.append(image) or original(image))
    return found


PHOTOS = RANDOM.integers(0, 256, (6, 3, 224, 224), dtype=np.uint8)


CAME: list[int] = []


class Elsewhere(torch.Tensor):
    """A tensor that says it is on another device, and tells how many values came over to the CPU."""

    device = torch.device("cuda")

    def cpu(self):
        CAME.append(self.numel())
        return self.as_subclass(torch.Tensor)


def elsewhere(array):
    return torch.from_numpy(array).as_subclass(Elsewhere)


@pytest.mark.parametrize("form", ["array", "tensor", "arrays", "PIL"])
def test_an_example_that_comes_again_is_known_by_its_id(table, looked_at, form):
    given = {
        "array": PHOTOS,
        "tensor": torch.from_numpy(PHOTOS),
        "arrays": list(PHOTOS),
        "PIL": [PilImage.fromarray(one.transpose(1, 2, 0)) for one in PHOTOS],
    }[form]
    writer = table.writer()
    for epoch in range(3):
        order = RANDOM.permutation(6).tolist()
        again = [given[place] for place in order] if isinstance(given, list) else given[order]
        writer.append({"id": order, "image": again, "epoch": epoch})
    assert len(looked_at) == 6
    assert table.compact().media[0].rows == 6
    pairs = set(zip(table.column("id"), table.column("image"), strict=True))
    assert len(pairs) == 6


@pytest.mark.parametrize("given", [lambda array: array, torch.from_numpy, elsewhere], ids=["array", "CPU", "GPU"])
@pytest.mark.parametrize("place", [(0, 0, 0), (1, 100, 3), (2, 223, 223), (1, 51, 190)])
def test_a_picture_of_which_one_pixel_changed_by_one_level_is_another_image(table, place, given):
    writer = table.writer()
    changed = PHOTOS[:1].copy()
    changed[(0, *place)] ^= 1
    for image in (PHOTOS[:1], changed, PHOTOS[:1]):
        writer.append({"id": ["a"], "image": given(image)})
    table.compact()
    before, between, after = table.column("image")
    assert before == after != between
    np.testing.assert_array_equal(_read(table.media([between])[between]), changed[0].transpose(1, 2, 0))


@pytest.mark.parametrize("given", [lambda array: array, elsewhere], ids=["CPU", "GPU"])
def test_two_masks_of_an_example_are_two_pictures(table, given):
    label, prediction, later = np.zeros((3, 1, 512, 512), np.uint8)
    label[:, 101:111, 101:111], later[:, :, 3:18] = 255, 255
    writer = table.writer(columns={"label": Image, "prediction": Image})
    for epoch, said in enumerate((prediction, later)):
        writer.append({"id": ["a"], "label": given(label), "prediction": given(said), "epoch": epoch})
    table.compact()
    digests = [digest for row in table.read(["label", "prediction"]).to_pylist() for digest in row.values()]
    assert digests[0] == digests[2]
    kept = table.media(digests)
    for digest, expected in zip(digests, (label, prediction, label, later), strict=True):
        np.testing.assert_array_equal(_levels(kept[digest], expected[0]), expected[0])


@pytest.mark.parametrize("given", [lambda array: array, elsewhere], ids=["CPU", "GPU"])
def test_pictures_with_pixels_that_are_no_numbers_are_told_apart(table, given):
    images = np.full((2, 8, 8), np.nan, np.float32)
    images[:, 7, 7] = 0
    images[0, 0, 0] = images[1, 3, 3] = 1
    table.writer().append({"id": ["a", "a"], "image": given(images)})
    assert table.compact().media[0].rows == 2


def test_the_colours_of_a_palette_make_another_picture(table):
    other = PALETTE.copy()
    other.putpalette(list(reversed(PALETTE.getpalette())))
    writer = table.writer()
    for image in (PALETTE, other):
        writer.append({"id": ["a"], "image": [image]})
    assert table.compact().media[0].rows == 2


def test_an_image_that_cannot_be_read_costs_no_row_and_no_other_image(table, tmp_path):
    PilImage.fromarray(RGB).save(tmp_path / "broken.jpg")
    content = (tmp_path / "broken.jpg").read_bytes()
    (tmp_path / "broken.jpg").write_bytes(content[: len(content) // 2])
    with PilImage.open(tmp_path / "broken.jpg") as broken:
        table.writer().append({"image": [PilImage.fromarray(GREY), broken, PilImage.fromarray(RGB)]})
    manifest = table.compact()
    assert [digest is not None for digest in table.column("image")] == [True, False, True]
    assert manifest.left_out == {"images that cannot be read": 1}


def test_nothing_stays_of_an_append_that_fails(table, monkeypatch):
    buffer = np.full((2, 8, 8), 7, np.uint8)
    buffer[1] = 8
    original = media.pixels

    def fail(image):
        if image[0, 0] == 8:
            raise MemoryError
        return original(image)

    writer = table.writer(most_images=2)
    with monkeypatch.context() as patch, pytest.raises(MemoryError):
        patch.setattr(media, "pixels", fail)
        writer.append({"id": ["a", "b"], "image": buffer})
    sevens = buffer[:1].copy()
    buffer[:] = 200
    writer.append({"id": ["a", "b"], "image": np.concatenate([sevens, buffer[:1]])})
    table.compact()
    kept = table.media(table.column("image"))
    assert [_levels(kept[one], GREY)[0, 0] for one in table.column("image")] == [7, 200]


def test_a_full_table_still_knows_what_it_has(table):
    writer = table.writer(most_images=1)
    black, white = np.zeros((1, 8, 8), np.uint8), np.ones((1, 8, 8), np.uint8)
    for name, image in (("a", black), ("b", white), ("c", black)):
        writer.append({"id": [name], "image": image})
    table.compact()
    assert [digest is not None for digest in table.column("image")] == [True, False, True]


def test_two_examples_of_one_id_keep_their_own_images(table):
    writer = table.writer()
    for _ in range(2):
        writer.append({"id": ["a", "a", None, None], "image": PHOTOS[:4]})
    table.compact()
    assert len(set(table.column("image")[:4])) == 4
    assert table.column("image")[:4] == table.column("image")[4:]


@pytest.mark.parametrize("given", [lambda array: array, elsewhere], ids=["CPU", "GPU"])
def test_beyond_the_limit_no_picture_is_looked_at(table, looked_at, given):
    CAME.clear()
    writer = table.writer(most_images=2)
    for _ in range(2):
        writer.append({"id": range(6), "image": given(PHOTOS)})
    assert len(looked_at) == 2
    assert sum(CAME) <= PHOTOS.size + 2 * 6 * 2
    assert table.compact().left_out == {"images beyond the table's limit": 4}
    assert [digest is not None for digest in table.column("image")] == [True, True, False, False, False, False] * 2


@pytest.mark.parametrize("name", ["image", "photo"])
def test_of_another_device_come_over_only_images_that_are_new(table, name):
    CAME.clear()
    writer = table.writer(columns={"photo": Image} if name == "photo" else None, policy=First(8))
    for _ in range(3):
        writer.append({"id": range(6), name: elsewhere(PHOTOS)})
    whole = PHOTOS.size
    assert whole <= sum(CAME) <= whole + 3 * 6 * 2
    assert table.compact().media[0].rows == 6
    assert len(set(table.column(name)[:6])) == 6


NO_IMAGES = [["a.png"], [np.zeros(3)], [np.zeros((2, 2, 2, 2))], [np.zeros((2, 2), complex)], np.zeros((1, 2), "U1")]


@pytest.mark.parametrize("given", NO_IMAGES, ids=[str(index) for index in range(len(NO_IMAGES))])
def test_what_is_no_image_is_refused(table, given):
    writer = table.writer(columns={"image": Image})
    writer.append({"image": GREY[None], "n": [0]})
    with pytest.raises(DovetailError, match="is no image"):
        writer.append({"image": given, "n": [1]})
    assert table.compact().rows == 1


def test_only_the_packs_groups_that_are_needed_are_read(table, monkeypatch):
    images = RANDOM.integers(0, 256, (40, 200, 200, 3), dtype=np.uint8)
    table.writer().append({"image": images})
    table.compact()
    digests = table.column("image")
    read = []
    original = pq.ParquetFile.read_row_group

    def count(self, group, columns):
        read.append((group, tuple(columns)))
        return original(self, group, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", count)
    assert len(table.media([digests[0], "unknown"])) == 1
    assert [one for one in read if one[1] == ("image",)] == [(0, ("image",))]
    assert not [one for one in read if "thumbnail" in one[1]]
    assert len(table.media(digests, thumbnails=True)) == 40
