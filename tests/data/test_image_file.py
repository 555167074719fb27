"""Every image file becomes the pixels that its format says, held against arrays that were written into it."""

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from engine.data.image_file import EXTENSIONS, FORMATS, headers, pixels
from engine.data.image_readers import read_files

REPOSITORY = Path(__file__).parents[2]
ORIENTATION = 0x0112
RAMP = np.arange(64, dtype=np.float64).reshape(8, 8) / 63  # from black to white


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


def decode(path, size, channels, fit="crop"):
    """What a file becomes that can be read: (channels, size, size)."""
    read = read_files([str(path)], pixels(size, channels, fit))
    assert read.reasons == {}
    return read.values[0]


def reason(path):
    """Why a file cannot be read."""
    return read_files([str(path)], pixels(8, 1, "crop")).reasons[0]


def tiff(path, values, bits, order="<", photometric=1, sample_format=1, packed=None):
    """A TIFF of one strip, byte by byte as its specification says."""
    data = values.astype(values.dtype.newbyteorder(order)).tobytes() if packed is None else packed
    height, width = values.shape
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (277, 1), (278, height)]
    tags += [(279, len(data)), (339, sample_format)]
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(data))
    entries = [struct.pack(f"{order}HHI", tag, 4, 1) + struct.pack(f"{order}I", value) for tag, value in tags]
    path.write_bytes(start + data + struct.pack(f"{order}H", len(tags)) + b"".join(entries) + bytes(4))
    return path


def imagemagick():
    """Whether the real one is there."""
    command = [shutil.which("convert") or "true", "-version"]
    return b"Version: ImageMagick" in subprocess.run(command, capture_output=True).stdout


class TestFormats:
    def test_their_extensions_are_pillow_s(self):
        Image.init()
        known = Image.registered_extensions()
        assert {extension: known[extension] for extension in EXTENSIONS if extension in known} == {
            extension: name for name, some in FORMATS.items() for extension in some if extension in known
        }
        assert len(EXTENSIONS - known.keys()) <= 2  # an older Pillow may lack a format

    @pytest.mark.parametrize("extension", sorted(EXTENSIONS - {".pfm", ".pbm", ".pgm"}))
    def test_each_becomes_colour_or_grey(self, tmp_path, extension):
        path = tmp_path / f"a{extension}"
        if Image.registered_extensions().get(extension) not in Image.SAVE:
            pytest.skip("this Pillow does not write it")
        save(path, np.full((32, 32, 3), (200, 40, 40), np.uint8))
        assert np.abs(decode(path, 8, 3).mean(axis=(1, 2)) - [200, 40, 40]).max() < 8
        assert abs(decode(path, 8, 1).mean() - 88) < 8  # 0.299 R + 0.587 G + 0.114 B

    def test_the_content_counts_and_not_the_name(self, tmp_path):
        Image.fromarray((RAMP * 255).astype(np.uint8)).save(tmp_path / "a.jpg", format="TIFF")
        assert np.array_equal(decode(tmp_path / "a.jpg", 8, 1)[0], (RAMP * 255).astype(np.uint8))

    def test_what_would_start_a_program_is_not_read(self, tmp_path):
        (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
        assert reason(tmp_path / "a.png") == "of no format that is read here"

    @pytest.mark.parametrize("extension", ["gif", "tiff", "png", "webp"])
    def test_of_several_frames_the_first_is_taken(self, tmp_path, extension):
        frames = [Image.new("RGB", (8, 8), colour) for colour in ("lime", "red", "blue")]
        lossless = {"lossless": True} if extension == "webp" else {}
        frames[0].save(tmp_path / f"a.{extension}", save_all=True, append_images=frames[1:], **lossless)
        assert decode(tmp_path / f"a.{extension}", 8, 3)[:, 3, 3].tolist() == [0, 255, 0]


class TestDepths:
    """Whatever the numbers in a file, 0 is black and 255 is white; RAMP tells what is right in between."""

    def check(self, path, tolerance=0.5):
        assert np.abs(decode(path, 8, 1)[0] - RAMP * 255).max() <= tolerance + 1e-6
        assert np.array_equal(decode(path, 8, 3), np.repeat(decode(path, 8, 1), 3, axis=0))
        assert read_files([str(path)], headers()).values.tolist() == [[8, 8, 1]]

    @pytest.mark.parametrize("extension", ["png", "tiff", "jp2"])
    def test_16_bits(self, tmp_path, extension):
        self.check(save(tmp_path / f"a.{extension}", np.round(RAMP * 65535).astype(np.uint16)), 0.51)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
    def test_tiff_in_either_order_of_bytes(self, tmp_path, dtype, order):
        white = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
        values = (np.round(RAMP * white) if dtype != "f4" else RAMP).astype(dtype)
        bits, kind = 8 * np.dtype(dtype).itemsize, 3 if dtype == "f4" else 1
        self.check(tiff(tmp_path / "a.tif", values, bits, order, sample_format=kind), 0.51)

    @pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
    def test_tiff_in_which_large_numbers_are_dark(self, tmp_path, dtype):
        white = {"u1": 255, "u2": 65535, "f4": 1}[dtype]
        values = (white - (np.round(RAMP * white) if dtype != "f4" else RAMP)).astype(dtype)
        bits, kind = 8 * np.dtype(dtype).itemsize, 3 if dtype == "f4" else 1
        self.check(tiff(tmp_path / "a.tif", values, bits, photometric=0, sample_format=kind), 0.51)

    def test_12_bits(self, tmp_path):
        values = np.round(RAMP * 4095).astype(np.uint16)
        bits = "".join(f"{value:012b}" for value in values.flatten())
        packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
        self.check(tiff(tmp_path / "a.tif", values, 12, packed=packed), 0.55)

    @pytest.mark.parametrize("white", [100, 255, 1023, 65535])
    def test_portable_greymaps(self, tmp_path, white):
        values = np.round(RAMP * white).astype(">u2" if white > 255 else "u1")
        (tmp_path / "a.pgm").write_bytes(b"P5\n# a comment\n8 8\n%d\n" % white + values.tobytes())
        self.check(tmp_path / "a.pgm", 255 / white / 2 + 0.51)

    def test_floating_point(self, tmp_path):
        (tmp_path / "a.pfm").write_bytes(b"Pf\n8 8\n-1.0\n" + RAMP[::-1].astype("<f4").tobytes())  # from below
        self.check(tmp_path / "a.pfm")
        self.check(save(tmp_path / "a.tiff", RAMP.astype(np.float32)))

    @pytest.mark.parametrize("worst", [255.0, -3.0, np.nan, np.inf], ids=str)
    def test_floating_point_of_another_range_is_refused_and_not_guessed(self, tmp_path, worst):
        values = RAMP.astype(np.float32)
        values[2, 3] = worst
        assert "0 is black and 1 is white" in reason(save(tmp_path / "a.tiff", values))

    @pytest.mark.parametrize(("dtype", "sample_format"), [("u4", 1), ("i4", 2), ("i2", 2)])
    def test_integers_of_which_none_is_white_are_refused(self, tmp_path, dtype, sample_format):
        values = (RAMP * 1000).astype(dtype)
        path = tiff(tmp_path / "a.tif", values, 8 * values.itemsize, sample_format=sample_format)
        assert "of which none is said to be white" in reason(path)

    def test_one_bit(self, tmp_path):
        Image.fromarray(RAMP > 0.5).save(tmp_path / "a.png")
        (tmp_path / "a.pbm").write_bytes(b"P4\n8 8\n" + bytes([0, 0, 0, 0, 255, 255, 255, 255]))  # 1 is black
        assert np.array_equal(decode(tmp_path / "a.png", 8, 1)[0], (RAMP > 0.5) * np.uint8(255))
        assert decode(tmp_path / "a.pbm", 8, 1)[0, :, 0].tolist() == [255] * 4 + [0] * 4

    @pytest.mark.parametrize("extension", ["png", "gif", "bmp", "tiff"])
    def test_palettes_are_looked_up(self, tmp_path, extension):
        image = Image.fromarray((np.arange(64, dtype=np.uint8) % 3).reshape(8, 8), "P")
        image.putpalette([0, 0, 0, 10, 200, 30, 255, 254, 253])
        image.save(tmp_path / f"a.{extension}")
        expected = np.array([[0, 0, 0], [10, 200, 30], [255, 254, 253]])[np.arange(64).reshape(8, 8) % 3]
        assert np.array_equal(decode(tmp_path / f"a.{extension}", 8, 3), expected.transpose(2, 0, 1))

    @pytest.mark.skipif(not imagemagick(), reason="ImageMagick is not there")
    @pytest.mark.parametrize("name", ["a.tif", "a.png", "a.pgm"])
    def test_16_bits_are_what_imagemagick_makes_of_them(self, tmp_path, name):
        words = ["convert", "-size", "9x8", "gradient:black-white", "-depth", "16", str(tmp_path / name)]
        subprocess.run(words, check=True, capture_output=True)
        words = ["convert", str(tmp_path / name), "-depth", "8", "gray:-"]
        theirs = np.frombuffer(subprocess.run(words, check=True, capture_output=True).stdout, np.uint8).reshape(8, 9)
        ours = decode(tmp_path / name, 8, 1)[0].astype(int)
        assert np.abs(ours - theirs[:, :8]).max() <= 1


class TestDecoding:
    def test_pixels_of_the_right_size_are_taken_as_they_are(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        assert np.array_equal(decode(save(tmp_path / "a.png", pixels), 8, 3), pixels.transpose(2, 0, 1))

    def test_the_centre_is_cropped_and_scaled(self, tmp_path):
        pixels = np.zeros((40, 100), np.uint8)
        pixels[:, 30:70] = 200
        assert decode(save(tmp_path / "a.png", pixels), 10, 1).min() > 180

    def test_bars_keep_the_whole_image_and_its_shape(self, tmp_path):
        path = save(tmp_path / "a.png", np.full((40, 80), 200, np.uint8))
        expected = np.zeros((20, 20), np.uint8)
        expected[5:15] = 200
        assert np.array_equal(decode(path, 20, 1, "pad")[0], expected)

    def test_squeezed_it_is_whole_and_fills_the_square(self, tmp_path):
        pixels = np.zeros((40, 80), np.uint8)
        pixels[:, 60:] = 200  # a quarter, at the end
        squeezed = decode(save(tmp_path / "a.png", pixels), 20, 1, "squeeze")[0]
        assert squeezed[:, :14].max() == 0
        assert squeezed[:, 16:].min() == 200

    def test_a_small_image_is_enlarged(self, tmp_path):
        assert decode(save(tmp_path / "a.png", np.full((3, 5), 7, np.uint8)), 16, 1).shape == (1, 16, 16)

    def test_a_photograph_is_turned_upright(self, tmp_path):
        pixels = np.zeros((40, 40), np.uint8)
        pixels[:20] = 250  # bright above; the camera was held so that this is to be turned by 90 degrees clockwise
        exif = Image.Exif()
        exif[ORIENTATION] = 6
        upright = decode(save(tmp_path / "a.jpg", pixels, exif=exif), 8, 1)[0]
        assert upright[:, 5:].min() > 200
        assert upright[:, :3].max() < 50

    @pytest.mark.skipif(sys.platform != "linux", reason="memory is measured as Linux counts it")
    def test_a_large_photograph_is_not_decoded_in_full(self, tmp_path):
        path = save(tmp_path / "a.jpg", np.full((4000, 4000, 3), 90, np.uint8))  # 48 MB in full
        code = (
            "from pathlib import Path; from image_file import decode\n"
            "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1000\n"
            f"before = peak(); print(sum(decode({str(path)!r}, 64, 3)) / (64 * 64 * 3), peak() - before)"
        )
        command = [sys.executable, "-c", code]
        place = REPOSITORY / "engine" / "data"
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
        mean, megabytes = map(float, done.stdout.split())
        assert abs(mean - 90) < 3
        assert megabytes < 20

    def test_what_is_transparent_is_white(self, tmp_path):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[:, 4:, 3] = 255
        decoded = decode(save(tmp_path / "a.png", pixels), 8, 3)
        assert decoded[:, :, :4].min() == 255
        assert decoded[:, :, 4:].max() == 0

    def test_a_transparent_colour_of_a_palette_is_white(self, tmp_path):
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 200, 30])
        image.save(tmp_path / "a.png", transparency=1)
        assert decode(tmp_path / "a.png", 8, 3)[:, 0, 0].tolist() == [255, 255, 255]

    def test_headers_tell_sides_and_channels(self, tmp_path):
        save(tmp_path / "grey.png", np.zeros((30, 20), np.uint8))
        save(tmp_path / "deep.png", np.zeros((9, 9), np.uint16))
        save(tmp_path / "colour.jpg", np.zeros((10, 20, 3), np.uint8))
        paths = [str(tmp_path / name) for name in ("grey.png", "deep.png", "colour.jpg")]
        assert read_files(paths, headers()).values.tolist() == [[20, 30, 1], [9, 9, 1], [10, 20, 3]]


class TestUnreadable:
    """The others are read all the same."""

    @pytest.mark.parametrize(
        ("content", "expected"),
        [
            (b"", "an empty file"),
            (b"<!DOCTYPE html>" * 9, "of no format that is read here"),
            (bytes(4000), "of no format that is read here"),
            (None, "No such file or directory"),
        ],
        ids=["empty", "a page", "zeros", "not there"],
    )
    def test_it_is_said_why(self, tmp_path, content, expected):
        good = save(tmp_path / "good.png", np.full((8, 8), 7, np.uint8))
        if content is not None:
            (tmp_path / "bad.jpg").write_bytes(content)
        _, values, reasons = read_files([str(tmp_path / "bad.jpg"), str(good)], pixels(8, 1, "crop"))
        assert reasons == {0: expected}
        assert values[1].min() == 7

    @pytest.mark.parametrize("extension", ["jpg", "png", "tiff", "gif", "webp"])
    def test_truncated(self, tmp_path, extension):
        noise = np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8)
        path = save(tmp_path / f"a.{extension}", noise)
        path.write_bytes(path.read_bytes()[:-3000])
        assert reason(path)

    def test_truncated_images_are_read_where_that_is_asked_for(self, tmp_path, monkeypatch):
        path = save(tmp_path / "a.jpg", np.full((99, 99), 90, np.uint8))
        path.write_bytes(path.read_bytes()[:-100])
        assert "truncated" in reason(path)
        monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        assert read_files([str(path)], pixels(8, 1, "crop")).reasons == {}
