"""A minute's examination of a task before hours are spent on it: `train.py --check`.

Each check is a function that takes a `Project` and returns a `Finding`; a subject is a module. Nothing here knows what
a healthy task looks like in general: what is wrong is judged against chance, and what cannot be judged is said so.
Stands on `training` and on what that stands on.
"""

from engine.check.examination import check_project, examine

__all__ = ["check_project", "examine"]
