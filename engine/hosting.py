"""A script called by a notebook or a program instead of the shell: the process is theirs, and stays as it was."""

import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from typing import Any

from engine.launcher import is_first
from engine.system import STOP_SIGNALS


@contextmanager
def hosted(script: str, arguments: Sequence[str] | None) -> Iterator[None]:
    """Put back what the block sets in the process: signals, logs, threads, seeds, environment, command line.

    Only where a script was called with `arguments`: the shell gives none, and its process ends with the script. An
    interrupt is a KeyboardInterrupt, as it is everywhere else in a notebook.
    """
    if arguments is None:
        yield
        return
    with ExitStack() as kept:
        for keep in (_signals_kept, _logs_kept, _environment_kept):
            kept.enter_context(keep())
        kept.callback(setattr, sys, "argv", sys.argv)
        sys.argv = [f"{script}.py", *arguments]  # what is recorded of the run, and what its hints go by
        if "torch" in sys.modules:
            from engine.randomness import settings_kept

            kept.enter_context(settings_kept())
        try:
            yield
        except SystemExit as end:
            if end.code == 128 + signal.SIGINT:
                raise KeyboardInterrupt from None
            raise


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Handlers can be set in the main thread alone, so that in another one there is nothing to put back."""
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS} if is_main else {}
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: set by code that is not Python
                signal.signal(number, handler)


@contextmanager
def _logs_kept() -> Iterator[None]:
    """The root logger's handlers and level, and what is disabled."""
    logger = logging.getLogger()
    handlers, level, disabled = logger.handlers[:], logger.level, logging.root.manager.disable
    logger.handlers[:] = [handler for handler in handlers if not _is_set_aside(handler)]
    try:
        yield
    finally:
        for handler in logger.handlers:
            if handler not in handlers:
                handler.close()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logging.disable(disabled)


def _is_set_aside(handler: logging.Handler) -> bool:
    """Whether a handler would print each line a second time, or is ours, and would be closed in favour of new ones."""
    prints = getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
    return prints or type(handler).__module__.startswith("engine.")


@contextmanager
def _environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def bar_kind() -> Callable[..., Any]:
    """`tqdm` as it looks right where it is shown: a notebook's own bar, or none where output is no terminal.

    Nor is there one in other processes of a run than its first.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    is_notebook = shell is not None and "IPKernelApp" in shell.config
    if is_notebook and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm
    else:
        from tqdm import tqdm
    return functools.partial(tqdm, leave=False, disable=not is_first() or (False if is_notebook else None))
