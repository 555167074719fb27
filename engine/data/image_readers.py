"""Image files read on all cores, by processes: small images keep Python's lock for most of their time.

They are plain programs at the other end of pipes, so that they work wherever Python does: in a notebook, in a script
without a guard, in a process that may have no children of multiprocessing's, on systems that cannot fork.
"""

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import time
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from engine.data.image_file import Content, read_bytes
from engine.errors import UserError
from engine.system import out_of_reach, usable_cores

PROGRAM = Path(__file__).with_name("image_file.py")
FIRST = 8  # at most are read here, to see how long one takes
WORTH_IT = 1.0  # second of reading: less is done before the others have started
SECONDS_AT_ONCE = 0.1  # of reading that a process is asked for at a time
MOST_AT_ONCE = 256
# Else Linux's C library gives back the memory of each big image, and has it again for the next one page by page
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**28)}


class Read(NamedTuple):
    """Some files, what they hold (N, *shape), and why some of them could not be read, by their place among them."""

    paths: Sequence[str]
    values: np.ndarray
    reasons: dict[int, str]


def read_files(paths: Sequence[str], content: Content) -> Read:
    """What the files hold, read here one after the other."""
    return _as_read(paths, read_bytes(paths, content), content)


def _as_read(paths: Sequence[str], found: Sequence[bytes | str], content: Content) -> Read:
    """What `read_bytes` found, as one array: of a file that cannot be read it is 0."""
    reasons = {place: piece for place, piece in enumerate(found) if isinstance(piece, str)}
    blank = np.zeros(content.shape, content.dtype).tobytes()
    data = b"".join(blank if isinstance(piece, str) else piece for piece in found)
    values = np.frombuffer(data, content.dtype)
    if len(content.shape) == 3:  # images, of which Pillow has all channels of a pixel beside each other
        channels, height, width = content.shape
        return Read(paths, values.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).copy(), reasons)
    return Read(paths, values.reshape(-1, *content.shape).copy(), reasons)


def read_all(paths: Sequence[str], content: Content) -> Generator[Read]:
    """What the files hold, some at a time and in order; on all cores, where it takes long."""
    Image.preinit()  # Pillow's plugins, once, so that they do not count as the first image's time
    start, first, seconds = time.perf_counter(), 0, 0.0
    while first < min(FIRST, len(paths)) and seconds * first < SECONDS_AT_ONCE:
        yield read_files(paths[first : first + 1], content)
        first += 1
        seconds = (time.perf_counter() - start) / first
    rest = paths[first:]
    size = min(max(int(SECONDS_AT_ONCE / seconds), 1), MOST_AT_ONCE)
    chunks = [rest[begin : begin + size] for begin in range(0, len(rest), size)]
    number = min(usable_cores(), len(chunks))
    if number < 2 or seconds * len(rest) < WORTH_IT:
        yield from (read_files(chunk, content) for chunk in chunks)
    else:
        yield from _read_on_all_cores(chunks, content, number)


def _read_on_all_cores(chunks: Sequence[Sequence[str]], content: Content, number: int) -> Generator[Read]:
    """By so many processes, each asked by a thread of its own; however this ends, none of them is left."""
    idle: queue.SimpleQueue[Reader] = queue.SimpleQueue()

    def read(chunk: Sequence[str]) -> Read:
        reader = idle.get()
        try:
            return reader.read(chunk)
        finally:
            idle.put(reader)

    pending: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(number) as pool, contextlib.ExitStack() as readers:
        for _ in range(number):
            idle.put(readers.enter_context(Reader(content)))
        for chunk in chunks:
            pending.append(pool.submit(read, chunk))
            if len(pending) > 2 * number:  # as far as they may be ahead of who takes what they have read
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class Reader:
    """A process that reads image files for us, with the limits that are set on Pillow here."""

    def __init__(self, content: Content) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=KEPT_MEMORY | os.environ,
            **out_of_reach(),  # Ctrl-C is ours to hear
        )
        self.content = content
        self._send((tuple(content), Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES))

    def read(self, paths: Sequence[str]) -> Read:
        """Ask, and wait for the answer. Raises `UserError` if the process has died of it."""
        try:
            self._send(list(paths))
            return _as_read(paths, pickle.load(self.process.stdout), self.content)  # type: ignore[arg-type]
        except (OSError, EOFError, pickle.UnpicklingError):
            raise UserError(
                f"a process that reads images has died (status {self.process.wait()}) at one of {len(paths)} from "
                f"{paths[0]} to {paths[-1]}; is there enough memory?"
            ) from None

    def _send(self, message: object) -> None:
        assert self.process.stdin is not None
        pickle.dump(message, self.process.stdin, pickle.HIGHEST_PROTOCOL)
        self.process.stdin.flush()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()  # it changes nothing that could be left half done
        with contextlib.suppress(OSError):  # what is still on its way in is lost
            self.process.__exit__(None, None, None)
