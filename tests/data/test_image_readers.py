"""Images are read by processes that give what one would give alone, and of which none is left, however it ends."""

import multiprocessing
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from engine.data import image_readers
from engine.data.image_file import pixels
from engine.data.image_readers import Reader, read_all
from engine.errors import UserError
from tests.support import scripts
from tests.support.waiting import wait_for

REPOSITORY = Path(__file__).parents[2]
CONTENT = pixels(8, 3, "crop")
COUNT = 30


@pytest.fixture
def paths(tmp_path):
    """Noise in grey and colour, the sizes mixed."""
    generator = np.random.default_rng(0)
    for number in range(COUNT):
        shape = (9 + number, 40 - number, 3)[: 2 + number % 2]
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{number:02}.png")
    return [str(tmp_path / f"{number:02}.png") for number in range(COUNT)]


@pytest.fixture
def in_processes(monkeypatch):
    """Two of them, whatever it costs."""
    with_processes(monkeypatch.setattr)


def with_processes(setattr=setattr):
    setattr(image_readers, "WORTH_IT", 0.0)
    setattr(image_readers, "MOST_AT_ONCE", 4)
    setattr(image_readers, "usable_cores", lambda: 2)


def together(paths):
    """All that is read, as one array, with the places of those that could not be."""
    values, bad = [], []
    for read in read_all(paths, CONTENT):
        values.append(read.values)
        bad += [read.paths[place] for place in read.reasons]
    return np.concatenate(values), bad


def test_processes_give_what_one_gives_alone(paths, monkeypatch):
    Path(paths[20]).write_bytes(b"no image")
    alone = together(paths)
    with_processes(monkeypatch.setattr)
    values, bad = together(paths)
    assert np.array_equal(values, alone[0])
    assert bad == alone[1] == [paths[20]]


def test_little_is_read_without_any(paths, monkeypatch):
    monkeypatch.setattr(image_readers, "Reader", None)  # to start one would fail
    assert len(together(paths)[0]) == COUNT


def test_the_limits_set_on_pillow_are_theirs_too(paths, in_processes, monkeypatch):
    truncated = Path(paths[-1])
    Image.new("RGB", (99, 99), "red").save(truncated, format="JPEG")
    truncated.write_bytes(truncated.read_bytes()[:-100])
    assert together(paths)[1] == [paths[-1]]
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    assert together(paths)[1] == []
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40 * 9)
    assert len(together(paths)[1]) > COUNT // 2


def test_a_process_imports_what_it_needs_and_no_more(paths):
    """NumPy and Pillow's rarer plugins take three times as long as all the rest."""
    code = (
        "import sys, image_file; image_file.decode(sys.argv[1], 8, 3)\n"
        "print([name for name in ('numpy', 'torch', 'PIL.TiffImagePlugin') if name in sys.modules])"
    )
    place = REPOSITORY / "engine" / "data"
    done = subprocess.run([sys.executable, "-c", code, paths[1]], cwd=place, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_names_of_all_kinds_reach_them(tmp_path, paths, in_processes):
    odd = ["ä ö.png", "a\nb.png", "'\"$x.png"] + [os.fsdecode(b"\xff.png")] * (sys.platform == "linux")
    for name in odd:
        Image.new("RGB", (8, 8), "red").save(tmp_path / name)
    values, bad = together([*paths, *(str(tmp_path / name) for name in odd)])
    assert bad == []
    assert values[COUNT:, 0].min() == 255


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept as its C library is told to")
def test_a_process_has_the_memory_of_big_images_only_once(tmp_path):
    import resource

    photograph = str(tmp_path / "a.jpg")
    Image.new("RGB", (4000, 3000), "red").save(photograph)

    def pages(reads):
        """How often memory was had anew by a process that reads the photograph so many times."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt
        with Reader(pixels(320, 3, "crop")) as reader:
            for _ in range(reads):
                reader.read([photograph])
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_minflt - before

    assert pages(15) - pages(5) < 1000  # where they are had anew for each, it is 1,700 each time


def begun(reads):
    """Take what is read here, to see how long it takes, and the first answer of the processes."""
    for _ in range(image_readers.FIRST + 1):
        next(reads)


def test_one_that_dies_is_one_line(paths, in_processes, monkeypatch):
    monkeypatch.setattr(image_readers, "MOST_AT_ONCE", 1)  # so that some are still to be asked for
    reads = read_all(paths, CONTENT)
    begun(reads)
    for child in children(os.getpid()):
        os.kill(child, signal.SIGKILL)
    with pytest.raises(UserError, match=rf"reads images has died \(status -9\) at one of 1 from {paths[0][:-6]}"):
        list(reads)
    assert children(os.getpid()) == []


def test_who_stops_listening_leaves_none(paths, in_processes):
    reads = read_all(paths, CONTENT)
    begun(reads)
    assert len(children(os.getpid())) == 2
    reads.close()
    assert children(os.getpid()) == []


def _read_and_tell(paths, queue):
    with_processes()
    queue.put(together(paths)[0].sum())


def test_it_works_in_a_process_that_may_have_no_children(paths):
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    queue = context.Queue()
    process = context.Process(target=_read_and_tell, args=(paths, queue), daemon=True)
    process.start()
    assert queue.get(timeout=60) == together(paths)[0].sum()
    process.join()


SCRIPT = """
import sys
from engine.data import image_readers
from engine.data.image_file import pixels
image_readers.WORTH_IT, image_readers.MOST_AT_ONCE, image_readers.usable_cores = 0.0, 4, lambda: 2
total = 0
for read in image_readers.read_all({paths!r}, pixels(8, 3, "crop")):
    total += int(read.values.sum())
    print(total, flush=True)
"""


def test_it_works_without_a_main_file_and_without_a_guard(paths):
    """As in a notebook; and where all starts anew in each process, nothing of the script would run twice."""
    done = subprocess.run(
        [sys.executable, "-"], input=SCRIPT.format(paths=paths), cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert int(done.stdout.splitlines()[-1]) == together(paths)[0].sum()


def _read_until_ended(paths):
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with_processes()
    together(paths)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize(
    ("send", "number"), [(os.killpg, signal.SIGINT), (os.kill, signal.SIGTERM), (os.kill, signal.SIGKILL)]
)
def test_a_signal_ends_it_at_once_and_leaves_nothing(paths, tmp_path, send, number):
    """In the middle of files that take for ever: pipes into which nobody writes."""
    pipes = [str(tmp_path / f"pipe {index}.png") for index in range(8)]
    for pipe in pipes:
        os.mkfifo(pipe)
    process = scripts.context.Process(target=_read_until_ended, args=([*paths[:8], *pipes],))
    process.start()
    wait_for(lambda: len(children(process.pid)) == 2, seconds=20)
    left = children(process.pid)
    send(process.pid, number)
    process.join(timeout=20)
    assert process.exitcode
    wait_for(lambda: not any(is_alive(child) for child in left), seconds=20)


def children(parent):
    """The processes whose parent is another one."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, its_parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it has just ended
            continue
        if int(its_parent) == parent and state != "Z" and b"image_file.py" in (status.parent / "cmdline").read_bytes():
            found.append(int(status.parent.name))
    return found


def is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
