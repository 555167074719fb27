"""What people see of a run: the log, the progress bar, TensorBoard."""

import logging
import math
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.errors import UserError
from engine.experiment import SAMPLED
from engine.hosting import bar_kind
from engine.hyperparameters import Values
from engine.launcher import is_first
from engine.nested import tensors_in

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter
    from tqdm import tqdm


IMAGES = ".images"  # how the name of a file of TensorBoard ends that holds images


class LogFile(logging.FileHandler):
    """A log file; a full disk is an error like any other, where the logging of Python would print and go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Let the error be seen."""
        raise


class HeldLog(MemoryHandler):
    """A log file that gets no line before `write_through`: a run that fails before its first step leaves nothing."""

    def __init__(self, log_path: str | Path) -> None:
        file = LogFile(log_path, delay=True, encoding="utf-8", errors="backslashreplace")
        file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        super().__init__(capacity=10_000, flushLevel=logging.CRITICAL + 1, target=file)

    def write_through(self) -> None:
        """Write what was held back, and from now on each line at once."""
        self.flushLevel = logging.NOTSET
        self.flush()

    def flush(self) -> None:
        """Write what was held back, if it may be: Python asks for it when it ends."""
        if self.flushLevel == logging.NOTSET:
            super().flush()

    def close(self) -> None:
        """Close the file too."""
        if self.target:
            self.target.close()
        super().close()


class TerminalLog(logging.StreamHandler[Any]):
    """The same lines for the terminal, without date."""

    def __init__(self) -> None:
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(message)s"))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Say no more where nobody reads on, as with `| head`."""
        if isinstance(sys.exc_info()[1], BrokenPipeError):
            logging.getLogger().removeHandler(self)
        else:
            super().handleError(record)


def set_logger(log_path: str | Path) -> None:
    """Log to the terminal and, from `release_log` on, to a file. Replaces the logs set before.

    Of several processes, the first alone does: the others have nothing else to say.
    """
    logger = logging.getLogger()
    for handler in logger.handlers[:]:
        if isinstance(handler, HeldLog | TerminalLog):
            logger.removeHandler(handler)
            handler.close()
    if not is_first():
        logger.addHandler(logging.NullHandler())
        return
    logger.addHandler(HeldLog(log_path))
    if not _writes_to(sys.stdout, log_path):  # else each line would stand there twice
        logger.addHandler(TerminalLog())
    logger.setLevel(logging.INFO)


def _writes_to(stream: Any, path: str | Path) -> bool:
    """Whether what is printed goes into the file, as that of a trial of a search does."""
    with suppress(OSError, ValueError, AttributeError):  # no such file, or a stream that is none
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    return False


def release_log() -> None:
    """Write to the log file what was held back, and from now on each line at once."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, HeldLog):
            handler.write_through()


BAR = "{desc} |{bar}| {n_fmt}/{total_fmt}{postfix}, {rate_noinv_fmt}"  # of a narrow terminal the end is cut off


def progress_bar(title: str, total: int | None = None, done: int = 0) -> "tqdm[Any]":
    """A bar that counts examples, with how many a second; none where output is no terminal."""
    return bar_kind()(
        desc=title,
        total=total,
        initial=done,
        unit="",
        dynamic_ncols=True,
        bar_format=BAR,
    )


class Board:
    """TensorBoard's files: the curves are those of the epochs in `history`, and of each that is added.

    They are written anew when a run goes on, so that no point is there twice or lost. TensorBoard is imported when the
    first thing is written.
    """

    def __init__(self, folder: Path, history: Iterable[Values] = ()) -> None:
        self.folder = folder
        self.history = history
        self._writer: SummaryWriter | None = None

    @property
    def writer(self) -> "SummaryWriter":
        """TensorBoard's own writer, for whatever else is to be shown."""
        if self._writer is None:
            for old in self.folder.glob("events*"):
                if not old.name.endswith(IMAGES):
                    old.unlink()
            self._writer = self._new_writer()
            for row in self.history:
                _add_row(self._writer, row)
        return self._writer

    def add_epoch(self, row: Values) -> None:
        """The line of an epoch in `metrics.jsonl` as points of curves, grouped by metric: `loss/train`, `loss/val`."""
        _add_row(self.writer, row)

    def add_images(self, batch: Any, most: int = 32) -> None:
        """A grid of the images in a batch, as the network sees them; nothing if it holds no images `(B, 1|3, H, W)`."""
        for images in tensors_in(batch):
            if images.dim() == 4 and images.shape[1] in (1, 3) and images.is_floating_point():
                images = images[:most].float().cpu()
                low, high = images.min(), images.max()
                with self._new_writer(IMAGES) as writer:  # a file of its own, which stays when the run goes on
                    writer.add_images("first_batch", (images - low) / (high - low).clamp(min=1e-9))
                return

    def add_result(self, params: Values, scores: Values) -> None:
        """The hyperparameters with the best scores, for TensorBoard's table."""
        plain = {key: value if isinstance(value, int | float | str) else str(value) for key, value in params.items()}
        best = {f"best/{name}": value for name, value in scores.items() if value is not None}
        self.writer.add_hparams(plain, best, run_name=".")

    def close(self) -> None:
        """Write all that is not written yet."""
        if self._writer is not None:
            with suppress(FileNotFoundError):  # of an experiment that went away under its run, which is told
                self._writer.close()

    def _new_writer(self, suffix: str = "") -> "SummaryWriter":
        from torch.utils.tensorboard import SummaryWriter  # takes a second, in which the experiment may be moved

        try:
            self.folder.mkdir(exist_ok=True)  # TensorBoard would make the experiment anew, too
        except FileNotFoundError:
            raise UserError(f"{self.folder.parent}: is gone, so nothing more can be saved") from None
        return SummaryWriter(str(self.folder), filename_suffix=suffix)


def _add_row(writer: "SummaryWriter", row: Values) -> None:
    for key, value in row.items():
        split, _, name = key.partition("_")
        if split in ("train", "val"):
            part = f"{split}_sampled" if key in row.get(SAMPLED, ()) else split
            writer.add_scalar(f"{name}/{part}", math.nan if value is None else value, row["epoch"])
    writer.add_scalar("learning_rate", row["learning_rate"], row["epoch"])
