"""Many experiments from one: which values to try, the trials as folders, and the processes that train them.

Folders and their scores enter; a network never does. Stands on `experiment`. `sampling` and `pruning` are imported
by name where they are used, as is `sharing`: Optuna takes half a second.
"""

from engine.search.company import Company, without_password
from engine.search.description import Search, read_search
from engine.search.live_table import LiveTable
from engine.search.outcomes import ENDED, Evidence
from engine.search.space import Choice, Range
from engine.search.trials import Trial, Trials
from engine.search.workers import Workers

__all__ = [
    "ENDED",
    "Choice",
    "Company",
    "Evidence",
    "LiveTable",
    "Range",
    "Search",
    "Trial",
    "Trials",
    "Workers",
    "read_search",
    "without_password",
]
