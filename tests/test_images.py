"""Meaningless images keep size and promise; images that cannot be read are named."""

import numpy as np
import pytest
from PIL import Image

from cmrm_interp import images
from cmrm_interp.errors import ImageError, InputError

SIZE = (40, 24)  # width x height, unequal so that a swap shows


@pytest.fixture
def picture():
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
    pixels[:, :20] //= 8  # a dark half: something to blur and to shuffle
    return Image.fromarray(pixels)


@pytest.mark.parametrize("kind", sorted(images.MAKERS))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_every_kind_keeps_the_size_and_is_repeatable(kind, mode, picture):
    like = picture.convert(mode)
    first = images.meaningless(kind, like, seed=3)
    assert (first.size, first.mode) == (SIZE, "RGB")
    assert images.fingerprint(first) == images.fingerprint(images.meaningless(kind, like, seed=3))


@pytest.mark.parametrize("kind", ["noise", "uniform_noise", "shuffle"])
def test_seeds_differ(kind, picture):
    made = {images.fingerprint(images.meaningless(kind, picture, seed)) for seed in range(3)}
    assert len(made) == 3


@pytest.mark.parametrize(("kind", "value"), [("blank", 255), ("black", 0), ("grey", 128)])
def test_blank_images_have_one_colour(kind, value, picture):
    assert set(images.meaningless(kind, picture).tobytes()) == {value}


def test_noise_has_its_distribution():
    normal = np.asarray(images.gaussian_noise((200, 200), mean=100.0, std=10.0), float)
    assert abs(normal.mean() - 100) < 0.5
    assert abs(normal.std() - 10) < 0.5
    uniform = np.asarray(images.uniform_noise((200, 200)), float)
    assert abs(uniform.mean() - 127.5) < 1
    assert (uniform.min(), uniform.max()) == (0, 255)


def test_noise_is_the_same_everywhere():
    """Seeds in published results must keep their meaning."""
    assert images.fingerprint(images.gaussian_noise((9, 7), 5)) == "c3d0c9fff3ee00bb"


def test_blur_keeps_the_mean_and_removes_detail(picture):
    blurred = np.asarray(images.blur(picture), float)
    assert abs(blurred.mean() - np.asarray(picture, float).mean()) < 5
    assert np.abs(np.diff(blurred, axis=1)).mean() < 5 < np.abs(np.diff(np.asarray(picture, float), axis=1)).mean()


def test_shuffling_moves_whole_patches(picture):
    shuffled = images.patch_shuffle(picture, patch=8)
    assert shuffled.tobytes() != picture.tobytes()

    def patches(image):
        pixels = np.asarray(image)
        return sorted(pixels[y : y + 8, x : x + 8].tobytes() for y in range(0, 24, 8) for x in range(0, 40, 8))

    assert patches(shuffled) == patches(picture)


def test_shuffling_leaves_the_rim(picture):
    shuffled = np.asarray(images.patch_shuffle(picture, patch=7))
    assert (shuffled[21:] == np.asarray(picture)[21:]).all()
    assert (shuffled[:, 35:] == np.asarray(picture)[:, 35:]).all()
    assert sorted(shuffled.tobytes()) == sorted(picture.tobytes())


@pytest.mark.parametrize("patch", [0, 25])
def test_a_patch_that_does_not_fit_is_refused(picture, patch):
    with pytest.raises(InputError, match=rf"patches of {patch} pixels do not fit .* use 1 to 24"):
        images.patch_shuffle(picture, patch)


def test_the_mean_is_taken_pixel_by_pixel():
    mean = images.mean_image([images.blank(SIZE, "black"), images.blank((10, 10)), images.blank(SIZE)])
    assert mean.size == SIZE
    assert set(mean.tobytes()) == {170}
    with pytest.raises(InputError, match="mean of no images"):
        images.mean_image([])


def test_an_unknown_kind_is_answered_with_the_nearest(picture):
    with pytest.raises(InputError, match=r"no image kind 'blanc': did you mean 'blank'\? there are black, blank, blur"):
        images.meaningless("blanc", picture)


def test_a_kind_can_be_added_once(picture, monkeypatch):
    monkeypatch.setattr(images, "MAKERS", dict(images.MAKERS))

    @images.register("red")
    def red(like, seed):
        return images.blank(like.size, "red")

    assert images.meaningless("red", picture).getpixel((0, 0)) == (255, 0, 0)
    with pytest.raises(InputError, match="'red' is registered already"):
        images.register("red")


def test_files_arrays_and_images_are_the_same_picture(picture, tmp_path):
    picture.save(tmp_path / "x.png")
    pixels = np.asarray(picture)
    sources = [picture, tmp_path / "x.png", str(tmp_path / "x.png"), pixels, pixels / 255]
    assert len({images.fingerprint(images.load_image(source)) for source in sources}) == 1


def test_a_photograph_is_turned_upright(picture, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    picture.save(tmp_path / "x.jpg", exif=exif)
    assert images.load_image(tmp_path / "x.jpg").size == SIZE[::-1]


def test_missing_unreadable_and_truncated_files_are_named(picture, tmp_path):
    with pytest.raises(ImageError, match=r"prompt 3: image file .*none\.png does not exist"):
        images.load_image(tmp_path / "none.png", "prompt 3")
    (tmp_path / "text.png").write_text("not an image")
    with pytest.raises(ImageError, match=r"prompt 3: .*text\.png is no image"):
        images.load_image(tmp_path / "text.png", "prompt 3")
    with pytest.raises(ImageError, match="Is a directory"):
        images.load_image(tmp_path)
    for suffix in ("png", "jpg"):
        path = tmp_path / f"x.{suffix}"
        picture.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
        with pytest.raises(ImageError, match=rf"prompt 3: .*x\.{suffix} is truncated"):
            images.load_image(path, "prompt 3")


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 4)), r"shape \(4, 4\) is no image"),
        (np.zeros((0, 4, 3)), "is no image"),
        (np.full((4, 4, 3), 200.0), "must lie in 0 .. 1"),
        (np.full((4, 4, 3), np.nan), "must lie in 0 .. 1"),
        (np.zeros((4, 4, 3), np.int64), "array of int64"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array, words):
    with pytest.raises(ImageError, match=words):
        images.load_image(array, "prompt 0")


def test_one_channel_becomes_grey():
    assert images.load_image(np.full((2, 2, 1), 7, np.uint8)).getpixel((1, 1)) == (7, 7, 7)


def test_fingerprints_know_size_from_pixels():
    wide, high = images.blank((4, 2)), images.blank((2, 4))
    assert images.fingerprint(wide) != images.fingerprint(high)
