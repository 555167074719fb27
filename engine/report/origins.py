"""Whether the experiments of a report may be compared: which of them differ in code, data, versions or device."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from engine.experiment import code_differences, describe_data, latest_record
from engine.hyperparameters import Values
from engine.report.facts import Facts, fingerprint, origin, shortened
from engine.wording import some

MOST_NAMES = 6  # of one variant
MOST_REVISIONS = 12  # of the code, of which each two are compared


class Kind(NamedTuple):
    """Something that results depend on, and what to say where it differs."""

    name: str  # in run.json
    title: str
    consequence: str


SAME_LETTER = "Compare scores only between rows with the same letter in the column"
KINDS = [
    Kind("code", "versions of the task's code.", f'{SAME_LETTER} "code".'),
    Kind("data", "sets of data.", f'{SAME_LETTER} "data".'),
    Kind(
        "versions", "sets of package versions.", 'The column "versions" tells them apart; scores may differ a little.'
    ),
]
REPOSITORY = Kind(
    "git",
    "states of the repository.",
    "The task's own code is the same, but commit or patch differ: the engine or the scripts may, too.",
)
DEVICE = Kind("device", "devices.", "Times and examples per second do not compare between them.")


Variants = dict[str, list[Facts]]  # the experiments that share an origin, by letter


def all_variants(facts: Sequence[Facts]) -> dict[str, Variants]:
    """The variants of each kind."""
    return {kind.name: variants_of(facts, kind.name) for kind in (*KINDS, REPOSITORY, DEVICE)}


def letters_of(variants: Mapping[str, Variants]) -> dict[str, dict[str, str]]:
    """For each kind of which there are several: the letter of each experiment, by name."""
    return {
        kind.name: {one.entry.name: letter for letter, members in variants[kind.name].items() for one in members}
        for kind in KINDS
        if variants[kind.name]
    }


def variants_of(facts: Sequence[Facts], kind: str) -> Variants:
    """The experiments that share an origin, by letter, the most frequent first; none where there are not several.

    Those without a record are left out.
    """
    by_origin: dict[str, list[Facts]] = {}
    for one in facts:
        found = origin(one, kind)
        if found is not None:
            by_origin.setdefault(found, []).append(one)
    variants = sorted(by_origin.values(), key=len, reverse=True)
    return {_letter(place): members for place, members in enumerate(variants)} if len(variants) > 1 else {}


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place + 1)


def warnings_about(facts: Sequence[Facts], variants: Mapping[str, Variants]) -> list[Values]:
    """What whoever compares has to know: title, text and items of each warning."""
    found = [_warning(variants, kind) for kind in KINDS]
    if found[0] is None:
        found.append(_warning(variants, REPOSITORY))
    found.append(_warning(variants, DEVICE))
    damaged = [f"{one.entry.name}: {'; '.join(one.remarks)}" for one in facts if one.remarks]
    if damaged:
        title = f"In {len(damaged)} of {len(facts)} experiments, files could not be read."
        found.append({"title": title, "text": "What could be read of them is shown.", "items": damaged})
    return [warning for warning in found if warning is not None]


def _warning(all_kinds: Mapping[str, Variants], kind: Kind) -> Values | None:
    variants = all_kinds[kind.name]
    if not variants:
        return None
    contents = [members[0].run.get(kind.name) for members in variants.values()]
    items = [
        f"{letter}: {_described(kind.name, members[0], contents)}, in {len(members)}: {_listed(members)}"
        for letter, members in variants.items()
    ]
    return {"title": f"{len(variants)} {kind.title}", "text": kind.consequence, "items": items}


def _described(kind: str, member: Facts, contents: Sequence[Any]) -> str:
    """What makes one variant another than the rest, as short as can be."""
    content = member.run.get(kind)
    changed = any(record.get(kind) != content for record in member.records)
    return _in_short(kind, content, contents) + (", changed while it ran" if changed else "")


def _in_short(kind: str, content: Any, contents: Sequence[Any]) -> str:
    if kind == "data" and isinstance(content, dict):
        return describe_data({"files": "?", "bytes": "?", **content})
    if kind == "git" and isinstance(content, dict):
        return f"commit {str(content.get('commit'))[:10]}{' with a patch' if content.get('patch') else ''}"
    if kind in ("code", "versions") and isinstance(content, dict):
        others = [other for other in contents if isinstance(other, dict)]
        names = sorted(name for name in content if any(other.get(name) != content[name] for other in others))
        return ", ".join(f"{name} {str(content[name])[:12]}" for name in names) or "as the others began"
    return str(content)


def _listed(members: Sequence[Facts]) -> str:
    return some([one.entry.name for one in members], MOST_NAMES)


def differences_in_code(facts: Sequence[Facts]) -> tuple[list[int | None], dict[str, str]]:
    """Which state of the code each experiment ran with, by number; and what each two of the first dozen differ in."""
    records = [latest_record(one.run) for one in facts]
    states = [fingerprint([record.get("git"), record.get("code")]) if record else None for record in records]
    numbers = {state: place for place, state in enumerate(dict.fromkeys(filter(None, states)))}
    first = {numbers[state]: record for state, record in reversed(list(zip(states, records, strict=True))) if state}
    found = code_differences([first[place] for place in range(min(len(first), MOST_REVISIONS))])
    told = {f"{one}-{other}": shortened(text) for (one, other), text in found.items()}
    return [numbers[state] if state else None for state in states], told
