"""Several processes that train one network: each takes its share of every batch, and what they find is added up.

They are started by torchrun or another launcher, and talk through `torch.distributed`: Gloo, and between GPUs NCCL. The
first one alone decides, writes and speaks. All steps, saves and ends are agreed upon, so that none waits for another
that has left. One process by itself talks to nobody: all of this is nothing to it.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from engine import launcher
from engine.data import Share
from engine.errors import ToldElsewhere, UserError
from engine.experiment import Stopped, StopRequest
from engine.system import STOP_SIGNALS
from engine.training.presence import Presence
from engine.training.words import ENDED, POLL_SECONDS, SIGNAL, Words

Result = TypeVar("Result")

LOOK_TIME = timedelta(seconds=1)  # how often one who waits looks whether the others are there


class Processes:
    """The processes of a run, as one of them sees it; by itself it is the first and only one.

    >>> with joined(stop) as processes:
    ...     checkpoint = processes.from_first(lambda: read_checkpoint(path))
    """

    def __init__(
        self,
        rank: int = 0,
        count: int = 1,
        stop: StopRequest | None = None,
        words: Words | None = None,
        presence: Presence | None = None,
    ) -> None:
        self.rank, self.count = rank, count
        self.is_first = rank == 0
        self.share = Share(rank, count, self)
        self.has_added_up = False  # gradients, in this step
        self.rows = self.examples = 0  # of this process, and of all, in the latest step of several
        self.not_finite = False  # whether a loss of any was not, by then
        self._source = 0  # the process that others take over from what is not added up
        self._stop = stop
        self._signal: int | None = None  # to stop by, as all know
        self._words: Any = words  # that they leave for one another; where there are several, as the next
        self._presence: Any = presence  # of all

    @property
    def signal(self) -> int | None:
        """The signal by which all are to stop after this step, if one has come to any of them."""
        return self._signal if self.count > 1 or self._stop is None else self._stop.signal

    def check_stop(self) -> None:
        """Raise `Stopped` if all are to stop; all of them do so, and none before the others have come this far."""
        if self.signal is not None:
            self.gather(None)
            raise Stopped(self.signal)

    def check_added_up(self) -> None:
        """Raise `UserError` if no gradients were added up since the last time, though there are several processes."""
        if self.count > 1 and not self.has_added_up:
            raise UserError(
                "this loop does not add up the gradients of its processes, so that each would train a network of its "
                "own: have it use `Gradients` with them as train.py does, or run it in one process"
            )
        self.has_added_up = False

    # What is said to one another

    def agree(self, has_ended: bool = False, not_finite: bool = False, more: Sequence[float] = ()) -> list[float]:
        """Tell the others how far this process is, and hear of them; returns the sums of what `more` each has to say.

        Raises `UserError` where the loaders of the processes have given them other batches, or fewer.
        """
        share, wish = self.share, None if self._stop is None else self._stop.signal
        own = [has_ended, share.checksum, share.rows, not_finite, *(wish == number for number in STOP_SIGNALS), *more]
        facts = torch.tensor(own, dtype=torch.float64)
        self.all_reduce(facts)
        ended, checksums, rows, unsound, *rest = facts.tolist()
        if checksums != self.count * share.checksum:  # that of a process that has none left is 0
            what = "other" if ended in (0, self.count) else "more"
            raise UserError(
                f"the loader gives {what} batches in one process than in another: what it draws is to follow from the "
                "global generators or params.seed, and not from time or process; batches that share themselves out say "
                "so by is_sharded = True"
            )
        self.rows, self.examples, self.not_finite = share.rows, int(rows), unsound > 0
        self._signal = next((number for number, wishes in zip(STOP_SIGNALS, rest, strict=False) if wishes), None)
        share.forget()
        return rest[len(STOP_SIGNALS) :]

    def each(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches of an evaluation; between them all agree to go on, or to stop."""
        if self.count == 1:
            yield from batches
            return
        for batch in batches:
            self.agree()
            self.check_stop()
            yield batch
        self.agree(has_ended=True)
        self.check_stop()

    def any(self, what: bool) -> bool:
        """Whether it is so for any process."""
        if self.count == 1:
            return what
        total = torch.tensor(float(what))
        self.all_reduce(total)
        return total.item() > 0

    # Of loaders that share themselves out

    def have_some(self, has_some: bool) -> bool:
        """Whether any process has a batch of its own left; until the next batch, what one has counts that has."""
        marks = torch.zeros(self.count)
        marks[self.rank] = has_some
        self.all_reduce(marks)
        self._source = next((rank for rank, mark in enumerate(marks.tolist()) if mark), 0)
        return bool(marks.any())

    def check_differ(self, checksum: int) -> None:
        """Warn if the first batches of all are the same, unless none has one."""
        if len(set(self.gather(checksum))) == 1 and checksum:
            logging.warning(
                f"is_sharded is said, and the first batches of the {self.count} processes are the same: are their data?"
            )

    def largest(self, number: int) -> int:
        """The largest of the numbers that the processes have."""
        numbers = self.gather(number)
        return self.from_first(lambda: max(numbers))

    def gather(self, value: Result) -> list[Result]:
        """In the first process, what each has for the value, in their order; in the others nothing."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        self._call_at_once(dist.gather_object, value, values)
        return values or []

    def from_first(self, make: Callable[[], Result]) -> Result:
        """What `make` returns in the first process, which alone calls it."""
        if self.count == 1:
            return make()
        values: list[Any] = [make() if self.is_first else None]
        self._call_at_once(dist.broadcast_object_list, values)
        return values[0]

    @contextlib.contextmanager
    def first_of_machine_first(self) -> Iterator[None]:
        """One process of each machine goes through the block, which may take hours, before the others there do.

        None goes on before all have: those of a faster machine would lose patience with the others.
        """
        if self.count == 1:
            yield
            return
        logging.info("One process of each machine reads the data; the others wait")
        here, everywhere = f"prepared/{launcher.machine()}", "prepared"
        if launcher.local_rank() > 0:
            self._wait_for(here)
        yield
        if launcher.local_rank() == 0:
            self._words.leave(here)
        self._words.leave_as_last(everywhere, self.count)
        self._wait_for(everywhere)

    def all_reduce(self, tensor: Tensor) -> None:
        """Make a tensor the sum of those of all processes."""
        self._call(dist.all_reduce, tensor)

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor the sum of those of all processes, by one message."""
        self.adding_up(tensors)(True)
        self.has_added_up = True

    @torch.no_grad()
    def adding_up(self, tensors: Sequence[Tensor]) -> Callable[[bool], None]:
        """The same, begun: what is returned waits for the sums, and makes the tensors these if they are wanted."""
        tensors = [torch.view_as_real(tensor) if tensor.is_complex() else tensor for tensor in tensors]
        wide = torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else torch.float32
        flat = torch.cat([tensor.reshape(-1).to(wide) for tensor in tensors])
        work = self._begin(dist.all_reduce, flat)

        @torch.no_grad()
        def finish(are_wanted: bool) -> None:
            self._finish(work, flat)
            if are_wanted:
                parts = flat.split([tensor.numel() for tensor in tensors])
                torch._foreach_copy_(tensors, [part.view_as(t) for part, t in zip(parts, tensors, strict=True)])

        return finish

    @torch.no_grad()
    def copy_from_first(self, tensors: Sequence[Tensor]) -> None:
        """Make each tensor what it is in the first process, to the bit, by one message.

        In a step of which the first has no batch, as those of a loader that shares itself out have ended there, it is
        another process.
        """
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in tensors])
        self._call(dist.broadcast, flat, self._source)
        parts = flat.split([tensor.numel() * tensor.element_size() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.clone().view(tensor.dtype).view_as(tensor))

    def _call(self, function: Callable[..., Any], tensor: Tensor, *arguments: Any) -> None:
        """Do something with all others, to its end."""
        self._finish(self._begin(function, tensor, *arguments), tensor)

    def _begin(self, function: Callable[..., Any], tensor: Tensor, *arguments: Any) -> Any:
        """Do something with all others, which goes on by itself."""
        try:
            return function(tensor, *arguments, async_op=True)
        except RuntimeError as error:
            raise self._reason(error) from error

    def _finish(self, work: Any, tensor: Tensor) -> None:
        """Wait for what has begun as long as all others are there.

        What is on a GPU is not waited for: there each message follows on one that was.
        """
        self._presence.calls += 1
        try:
            while not _is_over(work, tensor):
                self._check_presence()
        except RuntimeError as error:
            raise self._reason(error) from error

    def _call_at_once(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Do something with all others that cannot be waited for so, once all of them have come this far."""
        self.any(False)
        try:
            function(*arguments)
        except RuntimeError as error:
            raise self._reason(error) from error

    def _reason(self, error: RuntimeError) -> BaseException:
        """Why the connection to another has ended."""
        is_of_nccl = isinstance(error, dist.DistBackendError)  # which says more, and may have failed by itself
        otherwise = f"the processes can no longer talk to one another: {error}" if is_of_nccl else ""
        return self._words.last(otherwise)

    def _wait_for(self, key: str) -> None:
        """Wait for another process to leave a word, in Python, so that signals are heard."""
        while self._words.said(key) is None:
            if self._words.said(ENDED) is not None:
                raise self._words.last()
            self._check_presence()
            time.sleep(POLL_SECONDS)

    def _check_presence(self) -> None:
        if (reason := self._presence.look()) is not None:
            raise self._words.last(reason)

    # How they end

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """What ends the block in one process ends it in all, and the reason is said once.

        A stop that was asked for is a success to torchrun: else it would start the run again, or end the others.
        """
        try:
            yield
        except Stopped as stopped:
            if self.count > 1 and self._words.others_have_failed:
                raise self._words.last() from None  # it was torchrun that asked, as another has failed
            if self.count > 1:
                self._words.tell(SIGNAL, str(stopped.number))
            if launcher.is_supervised():
                stopped.code = 0
            raise
        except ToldElsewhere:
            raise
        except Exception as error:
            is_known = isinstance(error, UserError)
            told = str(error) if is_known else f"{type(error).__name__}: {error}"
            if self.count > 1 and not self._words.tell(ENDED, told):
                raise ToldElsewhere(self._words.said(ENDED) or str(error)) from error
            raise


def _is_over(work: Any, tensor: Tensor) -> bool:
    """Wait for a message between processes, on a CPU for a second; returns whether it has come, raises if it failed."""
    try:
        work.wait(LOOK_TIME) if tensor.is_cpu else work.wait()
    except RuntimeError:
        if tensor.is_cpu and not work.is_completed():
            return False
        work.wait()  # which has come just now, or raises again
    return True
