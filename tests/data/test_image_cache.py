"""Images are decoded once, whatever they are, and again when they have changed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import image_cache
from engine.data.image_cache import decode, read_headers, read_images
from engine.errors import UserError

REPOSITORY = Path(__file__).parents[2]
ORIENTATION = 0x0112


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(path, **options)
    return path


@pytest.fixture
def files(tmp_path):
    """Twenty grey 6x6 images, the n-th of brightness 10 n."""
    for number in range(20):
        save(tmp_path / f"cat/{number:02}.png", np.full((6, 6), 10 * number, np.uint8), compress_level=0)
    return [f"cat/{number:02}.png" for number in range(20)]


def caches(folder):
    return sorted(path.name for path in (folder / ".cache").glob("*.npy"))


class TestDecoding:
    def test_pixels_of_the_right_size_are_taken_as_they_are(self, tmp_path):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        assert np.array_equal(decode(save(tmp_path / "a.png", pixels), 8, 3), pixels.transpose(2, 0, 1))

    def test_the_centre_is_cropped_and_scaled(self, tmp_path):
        pixels = np.zeros((40, 100), np.uint8)
        pixels[:, 30:70] = 200
        assert decode(save(tmp_path / "a.png", pixels), 10, 1).min() > 180

    def test_a_small_image_is_enlarged(self, tmp_path):
        assert decode(save(tmp_path / "a.png", np.full((3, 5), 7, np.uint8)), 16, 1).shape == (1, 16, 16)

    @pytest.mark.parametrize("extension", ["jpg", "webp", "png", "bmp"])
    def test_every_format_becomes_colour_or_grey(self, tmp_path, extension):
        path = save(tmp_path / f"a.{extension}", np.full((32, 32, 3), (200, 40, 40), np.uint8))
        assert np.abs(decode(path, 8, 3).mean(axis=(1, 2)) - [200, 40, 40]).max() < 8
        assert abs(decode(path, 8, 1).mean() - 88) < 8  # 0.299 R + 0.587 G + 0.114 B

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
            "from pathlib import Path; from engine.data.image_cache import decode\n"
            "peak = lambda: int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]) / 1000\n"
            f"before = peak(); print(decode(Path({str(path)!r}), 64, 3).mean(), peak() - before)"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        mean, megabytes = map(float, done.stdout.split())
        assert abs(mean - 90) < 3
        assert megabytes < 20

    def test_16_bits_are_scaled_and_not_clipped(self, tmp_path):
        ramp = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
        decoded = decode(save(tmp_path / "a.png", ramp), 8, 1)[0]
        assert np.abs(decoded.astype(float) - ramp / 257).max() <= 0.5

    def test_what_is_transparent_is_white(self, tmp_path):
        pixels = np.zeros((8, 8, 4), np.uint8)
        pixels[:, 4:, 3] = 255
        decoded = decode(save(tmp_path / "a.png", pixels), 8, 3)
        assert decoded[:, :, :4].min() == 255
        assert decoded[:, :, 4:].max() == 0

    def test_palettes_are_looked_up(self, tmp_path):
        image = Image.new("P", (8, 8), 1)
        image.putpalette([0, 0, 0, 10, 200, 30])
        image.save(tmp_path / "plain.png")
        assert decode(tmp_path / "plain.png", 8, 3)[:, 0, 0].tolist() == [10, 200, 30]
        image.save(tmp_path / "transparent.png", transparency=1)
        assert decode(tmp_path / "transparent.png", 8, 3)[:, 0, 0].tolist() == [255, 255, 255]

    def test_headers_tell_shorter_side_and_channels(self, tmp_path):
        save(tmp_path / "grey.png", np.zeros((30, 20), np.uint8))
        save(tmp_path / "deep.png", np.zeros((9, 9), np.uint16))
        save(tmp_path / "colour.jpg", np.zeros((10, 20, 3), np.uint8))
        headers = read_headers(tmp_path, ["grey.png", "deep.png", "colour.jpg"], "all")
        assert headers.tolist() == [[20, 1], [9, 1], [10, 3]]


class TestCache:
    def test_images_are_in_the_order_of_the_files(self, tmp_path, files):
        images = read_images(tmp_path, files[::-1], "all", 6, 1)
        assert (images.shape, images.dtype) == ((20, 1, 6, 6), np.uint8)
        assert images[:, 0, 0, 0].tolist() == [10 * number for number in range(20)][::-1]

    def test_it_is_built_once_and_mapped(self, tmp_path, files, monkeypatch):
        first = read_images(tmp_path, files, "all", 6, 1)
        monkeypatch.setattr(image_cache, "decode", None)  # decoding again would fail
        for lock in (tmp_path / ".cache").glob(".*.lock"):
            lock.unlink()
        second = read_images(tmp_path, files, "all", 6, 1)
        assert not list((tmp_path / ".cache").glob(".*.lock"))  # what is there is opened without waiting for anyone
        assert isinstance(second, np.memmap)
        assert np.array_equal(first, second)

    def test_writing_to_the_array_leaves_the_file_alone(self, tmp_path, files):
        read_images(tmp_path, files, "all", 6, 1)[:] = 99
        assert read_images(tmp_path, files, "all", 6, 1)[0].max() == 0

    @pytest.mark.parametrize(("compress_level", "nanoseconds"), [(0, 1), (9, 0)], ids=["by its time", "by its size"])
    def test_a_changed_file_is_seen_and_the_old_cache_deleted(self, tmp_path, files, compress_level, nanoseconds):
        read_images(tmp_path, files, "all", 6, 1)
        before, stat = caches(tmp_path), (tmp_path / files[0]).stat()
        path = save(tmp_path / files[0], np.full((6, 6), 77, np.uint8), compress_level=compress_level)
        os.utime(path, ns=(0, stat.st_mtime_ns + 1000 * nanoseconds))
        assert (path.stat().st_size == stat.st_size) == (compress_level == 0)
        assert read_images(tmp_path, files, "all", 6, 1)[0].min() == 77
        assert len(caches(tmp_path)) == 1
        assert caches(tmp_path) != before

    def test_sizes_channels_and_sources_have_their_own_caches(self, tmp_path, files):
        for source, size, channels in (("all", 6, 1), ("all", 6, 3), ("all", 8, 1), ("val", 6, 1)):
            assert read_images(tmp_path, files, source, size, channels).shape == (20, channels, size, size)
        assert len(caches(tmp_path)) == 4

    def test_a_cache_cut_short_by_a_crash_is_built_again(self, tmp_path, files):
        read_images(tmp_path, files, "all", 6, 1)
        path = tmp_path / ".cache" / caches(tmp_path)[0]
        os.truncate(path, path.stat().st_size - 10)
        assert read_images(tmp_path, files, "all", 6, 1)[-1].min() == 190

    def test_leftovers_of_a_killed_process_are_deleted(self, tmp_path, files):
        read_images(tmp_path, files[:1], "all", 6, 1)
        leftover = tmp_path / ".cache" / ".all-1x6x6-0123456789abcdef.npy.17.tmp"
        leftover.touch()
        read_images(tmp_path, files, "all", 6, 1)
        assert not leftover.exists()

    def test_data_that_cannot_be_written_to_are_cached_with_the_user(self, tmp_path, files, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(image_cache, "user_cache_folder", lambda: tmp_path / "home")
        (tmp_path / ".cache").write_text("no folder can be made here, not even by root")
        assert read_images(tmp_path, files, "all", 6, 1)[-1].min() == 190
        assert len(list((tmp_path / "home").rglob("*.npy"))) == 1

    def test_what_is_cached_is_read_without_opening_an_image(self, tmp_path, files):
        before = read_images(tmp_path, files, "all", 6, 1).copy()
        path = tmp_path / files[0]
        times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
        path.write_bytes(b"x" * path.stat().st_size)  # no image any more, and nothing that can be seen from outside
        os.utime(path, ns=times)
        assert np.array_equal(read_images(tmp_path, files, "all", 6, 1), before)

    def test_two_processes_build_it_at_once_and_one_does_the_work(self, tmp_path, files):
        code = (
            "import logging, sys; from pathlib import Path; from engine.data.image_cache import read_images;"
            "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s');"
            f"images = read_images(Path({str(tmp_path)!r}), {files!r}, 'all', 600, 3);"
            "print('last', images[-1].min(), images[-1].max())"
        )
        command = [sys.executable, "-c", code]
        processes = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        outputs = [process.communicate(timeout=60)[0] for process in processes]
        assert [output.splitlines()[-1] for output in outputs] == ["last 190 190"] * 3
        assert sum("Read 20 images" in output for output in outputs) == 1
        assert len(caches(tmp_path)) == 1


class TestErrors:
    """Each is one line that names the file or folder, and no cache is left behind."""

    def refused(self, folder, files, message):
        with pytest.raises(UserError, match=message) as error:
            read_images(folder, files, "all", 6, 1)
        assert "\n" not in str(error.value)
        assert list((folder / ".cache").glob("*.npy")) == []
        assert list((folder / ".cache").glob("*.tmp")) == []

    @pytest.mark.parametrize("damage", ["zero bytes", "truncated", "not an image"])
    def test_an_image_that_cannot_be_read(self, tmp_path, files, damage):
        path = save(tmp_path / files[3], np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8))
        content = {"zero bytes": b"", "truncated": path.read_bytes()[:-3000], "not an image": b"hello " * 99}
        path.write_bytes(content[damage])
        self.refused(tmp_path, files, r"cat/03.png: not a readable image \(.+\); replace or delete it$")

    def test_the_others_are_counted(self, tmp_path, files):
        for name in files[4:7]:
            (tmp_path / name).write_bytes(b"")
        self.refused(tmp_path, files, r"cat/04.png: not a readable image .* \(and 2 others\)$")

    @pytest.mark.parametrize("times", [1.5, 3])
    def test_a_decompression_bomb(self, tmp_path, files, times, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # Pillow warns from here on, and refuses twice of it
        save(tmp_path / files[3], np.zeros((100, int(100 * times)), np.uint8))
        self.refused(tmp_path, files, r"cat/03.png: not a readable image \(Image size .* decompression bomb")

    def test_a_side_that_is_too_long(self, tmp_path, files):
        save(tmp_path / files[3], np.zeros((1, 65_501), np.uint8))
        self.refused(tmp_path, files, r"cat/03.png: not a readable image \(65501 x 1 pixels")

    def test_a_link_that_leads_nowhere(self, tmp_path, files):
        (tmp_path / "cat/00.png").unlink()
        (tmp_path / "cat/00.png").symlink_to(tmp_path / "gone.png")
        self.refused(tmp_path, files, "cat/00.png: cannot be read")

    def test_a_disk_that_is_too_small(self, tmp_path, files):
        with pytest.raises(UserError, match=r"\.cache: the image cache needs .* GB and .* GB are free"):
            read_images(tmp_path, files, "all", 2_000_000_000, 3)

    @pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files stands in for a full disk")
    def test_a_disk_that_becomes_full(self, tmp_path, files):
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "from pathlib import Path; from engine.errors import run; from engine.data.image_cache import read_images\n"
            f"run(lambda: read_images(Path({str(tmp_path)!r}), {files!r}, 'all', 200, 3))"
        )
        ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
        assert ended.returncode == 1
        assert "cannot be written (File too large)" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert [path.name for path in (tmp_path / ".cache").iterdir() if "lock" not in path.name] == []
