"""Images are decoded once, whatever they are, and again when they have changed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.data import image_cache
from engine.data.image_folder import ImageFolder, Split
from engine.errors import UserError

REPOSITORY = Path(__file__).parents[2]


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


def folder_of(data_dir, **sources):
    """A data set of one class, each split with its files."""
    splits = {
        split: Split(split, list(files), np.zeros(len(files), int), np.arange(len(files)))
        for split, files in sources.items()
    }
    return ImageFolder(data_dir, ["cat"], splits, {}, {})


def read_images(data_dir, files, split, size, channels, **options):
    """The images of one split."""
    return image_cache.read_images(folder_of(data_dir, **{split: files}), size, channels, **options)[split]


def caches(folder):
    return sorted(path.name for path in (folder / ".cache").glob("*.npy"))


class TestCache:
    def test_images_are_in_the_order_of_the_files(self, tmp_path, files):
        images = read_images(tmp_path, files[::-1], "all", 6, 1)
        assert (images.shape, images.dtype) == ((20, 1, 6, 6), np.uint8)
        assert images[:, 0, 0, 0].tolist() == [10 * number for number in range(20)][::-1]

    def test_it_is_built_once_and_mapped(self, tmp_path, files, monkeypatch):
        first = read_images(tmp_path, files, "all", 6, 1)
        monkeypatch.setattr(image_cache, "read_all", None)  # decoding again would fail
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

    def test_splits_of_one_source_share_an_array_and_others_do_not(self, tmp_path, files):
        folder = folder_of(tmp_path, train=files[:10], test=files[10:])
        train = folder.splits["train"]
        folder.splits["val"] = Split("train", train.files, train.labels, train.rows[:3])
        images = image_cache.read_images(folder, 6, 1)
        assert images["train"] is images["val"]
        assert images["test"][0].max() == 100
        assert image_cache.read_headers(folder, "val").tolist() == [[6, 6, 1]] * 3

    def test_each_way_to_become_square_has_its_own_cache(self, tmp_path):
        save(tmp_path / "cat/a.png", np.full((4, 8), 200, np.uint8))
        means = [
            read_images(tmp_path, ["cat/a.png"], "all", 8, 1, fit=fit).mean() for fit in ("crop", "pad", "squeeze")
        ]
        assert means == [200, 100, 200]
        assert len(caches(tmp_path)) == 3

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
            "import logging, sys; from pathlib import Path; from tests.data.test_image_cache import read_images;"
            "logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s');"
            f"images = read_images(Path({str(tmp_path)!r}), {files!r}, 'all', 600, 3);"
            "print('last', images[-1].min(), images[-1].max())"
        )
        command = [sys.executable, "-c", code]
        processes = [subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        outputs = [process.communicate(timeout=300)[0] for process in processes]
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

    def test_all_that_are_damaged_are_told_at_once(self, tmp_path, files, caplog):
        """In headers and in contents, in all splits asked for; those of the others are not looked at."""
        noise = np.random.default_rng(0).integers(0, 256, (99, 99), np.uint8)
        for name in files[:12]:
            (tmp_path / name).write_bytes(b"")
        truncated = save(tmp_path / files[13], noise)
        truncated.write_bytes(truncated.read_bytes()[:-3000])
        (tmp_path / files[15]).unlink()
        (tmp_path / files[15]).symlink_to(tmp_path / "gone.png")
        (tmp_path / files[19]).write_bytes(b"")
        folder = folder_of(tmp_path, train=files[:10], val=files[10:19])
        listed = tmp_path / ".cache" / "damaged.txt"
        for read in (lambda: image_cache.read_headers(folder, "train"), lambda: image_cache.read_images(folder, 6, 1)):
            caplog.clear()
            with pytest.raises(UserError) as error:
                read()
            assert str(error.value).startswith(f"{tmp_path}: 14 of 19 images cannot be read, listed in {listed}; ")
            bad = [*files[:12], files[13], files[15]]
            assert listed.read_text().splitlines() == [str(tmp_path / name) for name in bad]
            assert [record.getMessage().partition(": ")[0] for record in caplog.records] == [
                *(str(tmp_path / name) for name in files[:10]),
                "...",
            ]
        command = str(error.value).partition("delete them: ")[2]
        subprocess.run(command, shell=True, check=True)
        assert len(image_cache.read_images(folder_of(tmp_path, train=[files[12]], val=files[16:19]), 6, 1)["val"]) == 3
        assert not any((tmp_path / name).is_file() for name in bad)
        assert not listed.exists()  # when all is well again

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
        self.refused(tmp_path, files, r"cat/00.png: not a readable image \(No such file or directory\)")

    def test_a_disk_that_is_too_small(self, tmp_path, files):
        with pytest.raises(UserError, match=r"\.cache: the image cache needs .* GB and .* GB are free"):
            read_images(tmp_path, files, "all", 2_000_000_000, 3)

    @pytest.mark.skipif(sys.platform == "win32", reason="a limit on the size of files stands in for a full disk")
    def test_a_disk_that_becomes_full(self, tmp_path, files):
        code = (
            "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
            "from pathlib import Path; from engine.errors import run\n"
            "from tests.data.test_image_cache import read_images\n"
            f"run(lambda: read_images(Path({str(tmp_path)!r}), {files!r}, 'all', 200, 3))"
        )
        ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
        assert ended.returncode == 1
        assert "cannot be written (File too large)" in ended.stderr
        assert ended.stderr.count("\n") == 1
        assert [path.name for path in (tmp_path / ".cache").iterdir() if "lock" not in path.name] == []
