"""With whom a search shares its trials: with nobody, unless `sharing` takes the place of this."""

import re
from collections.abc import Iterable

from engine.search.trials import Trial, Trials


class Company:
    """That of a search alone: every trial is its own, but for those that are being trained in other ways just now."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials

    def __enter__(self) -> "Company":
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def is_over(self) -> bool:
        """Whether nothing is being trained elsewhere."""
        return not self.trials.elsewhere()

    def exchange(self, running: Iterable[Trial]) -> None:
        """Tell how far the trials here are, and learn of those elsewhere."""

    def take(self, trial: Trial) -> bool:
        """Make a trial this search's own, if it is nobody's."""
        return True

    def tell(self, trial: Trial) -> None:
        """Say that a trial has ended here."""


def without_password(url: str) -> str:
    """The URL of a database as it may be shown.

    >>> without_password("postgresql+psycopg://me:secret@host/base")
    'postgresql+psycopg://me:***@host/base'
    """
    url = re.sub(r"(?<=://)([^:/@]*):.*@", r"\1:***@", url)  # up to the last @, as a password may hold others
    return re.sub(r"(password=)[^&]*", r"\1***", url)
