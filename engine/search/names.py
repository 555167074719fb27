"""The name of a trial's folder: it says what varies, and is safe on every system."""

import hashlib
import json
import re

from engine.hyperparameters import Values
from engine.search.space import known_by

LONGEST_NAME = 120  # of a folder; file systems allow 255 bytes


def trial_name(varied: Values, is_taken: bool = False) -> str:
    """The name for a choice of values, and another one for every other choice.

    Where the values alone would not do, be it that the name `is_taken`, a fingerprint of them follows.

    >>> trial_name({"learning_rate": 0.001, "seed": 1})
    'learning_rate=0.001,seed=1'
    """
    choice = {key: value for key, value in varied.items() if key != "seed"}  # it has one name, whatever the seed
    seed = [f"seed={varied['seed']}"] if "seed" in varied else []
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in choice.items()}
    name = ",".join(f"{key}={text}" for key, text in texts.items())
    plain = name == _safe(name) and not any(set(",=") & set(key + text) for key, text in texts.items())
    whole = ",".join([part for part in (name, *seed) if part])
    ambiguous = any(isinstance(value, str) and _is_json(value) for value in choice.values())  # "1" beside 1
    if plain and not (is_taken or ambiguous or whole.endswith(".") or len(whole) > LONGEST_NAME):
        return whole or "base"
    digest = hashlib.sha256(known_by(choice).encode()).hexdigest()[:8]
    room = LONGEST_NAME - len("-" + digest) - sum(len("," + part) for part in seed)
    return ",".join([f"{_safe(name)[:room]}-{digest}", *seed])


def without_seed(name: str) -> str:
    """What the names of a configuration's trials have in common."""
    return re.sub(r"(^|,)seed=\d+$", "", name) or "base"


def _safe(text: str) -> str:
    return re.sub(r"[^\w.,=+-]", "_", text, flags=re.ASCII)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
