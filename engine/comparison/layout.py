"""A table as text: for a terminal of some width, Markdown, CSV, JSON, LaTeX."""

import csv
import io
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from unicodedata import east_asian_width

from engine.comparison.columns import Column, state_counts
from engine.comparison.groups import Group
from engine.comparison.names import FILLER, short_names
from engine.comparison.ranking import measure
from engine.comparison.table import Table, find_column
from engine.comparison.wording import param_text, plain
from engine.files import without_nan
from engine.hyperparameters import Values

MOST_ROWS = 100  # in the terminal; the files have all
MOST_REMARKS = 10  # below the table, where there is no room in it
# How long names may be, and below which importance columns go, one after the other until all fits.
NARROWER = ((60, 0), (40, 0), (40, 45), (28, 45), (28, 70), (20, 70), (12, 70), (20, 99), (12, 99))
JUDGED = ("vs best", "p")
LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {"*": "{*}", "[": "{[}"}  # which the end of the line above would take for its own
LATEX |= {"\\": r"\textbackslash{}", "±": r"$\pm$", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
MARKDOWN = {letter: f"\\{letter}" for letter in "\\|*`<["}


@dataclass(slots=True)
class Block:
    """A column on its way to the screen."""

    column: Column
    header: str
    cells: list[str]

    @property
    def width(self) -> int:
        """How many letters it is wide."""
        return max(map(len, [*self.header.split("\n"), *self.cells]))

    @property
    def is_text(self) -> bool:
        """Whether it holds words, which may be shortened and stand to the left."""
        return any(isinstance(value, str) for value in self.column.values)

    def shortened(self, limit: int) -> "Block":
        """The same with cells of `limit` letters at most; names are longer where that is too few to tell them apart."""
        if not self.is_text or self.width <= limit:
            return self
        if self.column.name == "experiment":
            return Block(self.column, self.header, short_names(self.cells, limit))
        return Block(self.column, self.header, [_shortened(cell, limit) for cell in self.cells])


def _shortened(cell: str, limit: int) -> str:
    """The beginning of a text, of `limit` places at most; of a letter cut in two there is a blank."""
    if len(cell) <= limit:
        return cell
    start = cell[: limit - 1]
    return f"{start[:-1]} …" if cell[limit - 1] == FILLER else f"{start}…"


def filled(text: str) -> str:
    """A text with a filler after each letter that is two places wide."""
    if text.isascii():
        return text
    return "".join(letter + FILLER if east_asian_width(letter) in "WF" else letter for letter in text)


def choose_columns(table: Table, names: Sequence[str]) -> list[Column]:
    """The columns of these names after the experiment's; without names, all that are to be read and not empty."""
    if not names:
        return [column for column in table.columns if any(column.texts)]
    params = (key for group in table.groups for key in group.params)
    chosen = [find_column(table.columns, name, others=params) for name in ["experiment", *names]]
    return list({column.name: column for column in chosen}.values())


def terminal_text(table: Table, names: Sequence[str], width: int | None) -> str:
    """The table and its notes in lines of `width`; columns that were asked for by `names` never go."""
    from tabulate import tabulate

    columns = choose_columns(table, names)
    blocks = [
        Block(column, filled(plain(column.name)), [filled(text) for text in marked(column, "*{}", MOST_ROWS)])
        for column in columns
    ]
    fitted = _fitted(blocks, width, may_drop=not names) if width else blocks
    grid = tabulate(
        list(zip(*([block.header, "-" * block.width, *block.cells] for block in fitted), strict=True)),
        tablefmt="plain",  # its other formats make each column two letters wider than its header
        disable_numparse=True,
        colalign=["left" if block.is_text else "right" for block in fitted],
    )
    shown = [block.column.name for block in fitted]
    notes = ["* before a number: the best of its column."] if any(column.best for column in columns) else []
    if fitted[0].cells != blocks[0].cells:
        notes.append("* in a name stands for what was left out; evaluate.py and --diff take names as they stand here.")
    notes += [note for about, note in table.notes if about in ("", *shown)]
    notes += _omissions(table, [column for column in columns if column.name not in shown])
    lines = (line for note in notes for line in textwrap.wrap(note, width or 120, subsequent_indent="  "))
    return "\n".join([grid.replace(FILLER, ""), "", *lines]).rstrip("\n")


def _fitted(blocks: list[Block], width: int, may_drop: bool) -> list[Block]:
    """The same in lines of `width`: headers are broken first, then names shortened and columns left out, by turns."""
    longest = max(block.width for block in blocks)
    if _total(blocks, longest) <= width:
        return blocks
    blocks = [replace(block, header=_broken(block.header, max(map(len, block.cells)))) for block in blocks]
    limit = longest
    for limit, least in NARROWER:
        while may_drop and _total(blocks, limit) > width:
            weakest = min(reversed(blocks), key=lambda block: block.column.importance)
            if weakest.column.importance >= least:
                break
            blocks = [block for block in blocks if block is not weakest]
        if _total(blocks, limit) <= width:
            break
    while limit < longest and _total(blocks, limit + 1) <= width:  # as long as there is room again
        limit += 1
    return [block.shortened(limit) for block in blocks]


def _total(blocks: Sequence[Block], limit: int) -> int:
    """How wide the blocks are with names of `limit` letters."""
    return sum(block.shortened(limit).width for block in blocks) + 2 * (len(blocks) - 1)


def _broken(header: str, width: int) -> str:
    """A header that is longer than `width` in two lines, as even as they can be."""
    if len(header) <= width:
        return header
    ends = [end for end in range(1, len(header)) if header[end - 1] in " _/"]
    end = min(ends, key=lambda end: max(end, len(header) - end), default=len(header))
    return f"{header[:end].rstrip(' ')}\n{header[end:]}" if ends else header


def _omissions(table: Table, dropped: Sequence[Column]) -> Iterator[str]:
    """What is not shown, columns and rows, and where it is; remarks for which there was no column."""
    names = [column.name for column in dropped if column.name != "remark"]
    for column in dropped:
        if column.name == "remark":
            told = [(group.name, text) for group, text in zip(table.groups, column.texts, strict=True) if text]
            yield from (f"{plain(name)}: {plain(text)}" for name, text in told[:MOST_REMARKS])
            names += ["remark"] if len(told) > MOST_REMARKS else []
    if names:
        yield f"No room for {', '.join(names)}: see results.md, results.csv or, by name, --columns."
    rest = table.groups[MOST_ROWS:]
    if rest:
        counts = ", ".join(f"{count:,} {state}" for state, count in state_counts(rest).items())
        yield f"{len(rest):,} more rows ({counts}) are in results.md and results.csv."


# Cells


def marked(column: Column, mark: str, most: int | None = None, letters: Mapping[str, str] | None = None) -> list[str]:
    """The texts of a column, `letters` replaced by others, with a `mark` around the best ones."""
    texts = column.texts or [param_text(value) for value in column.values]  # of one for programs that is asked for
    texts = [translated(text, letters) for text in texts[:most]]
    return [mark.format(text) if row in column.best else text for row, text in enumerate(texts)]


def translated(text: str, letters: Mapping[str, str] | None) -> str:
    """A text in one line, with letters that mean something to a format replaced by what stands for them there."""
    text = plain(text)
    return "".join(letters.get(letter, letter) for letter in text) if letters else text


# Formats for other programs


def markdown(table: Table, names: Sequence[str] = ()) -> str:
    """The table and its notes in Markdown, the best values bold. (Tabulate takes seconds for ten thousand rows.)"""
    padded = []
    for column in choose_columns(table, names):
        cells = [translated(column.name, MARKDOWN), *marked(column, "**{}**", letters=MARKDOWN)]
        width = max(3, *map(len, cells))
        padded.append([cells[0].ljust(width), "-" * width, *(cell.ljust(width) for cell in cells[1:])])
    lines = [f"| {' | '.join(row)} |" for row in zip(*padded, strict=True)]
    legend = ["- Bold is the best of its column."] if any(column.best for column in table.columns) else []
    notes = [*legend, *(f"- {translated(note, MARKDOWN)}" for _, note in table.notes)]
    return "\n".join([*lines, "", *notes]) + "\n"


def latex(table: Table, names: Sequence[str] = ()) -> str:
    """The table for LaTeX's booktabs, the best values bold, with its notes as comments."""
    columns = choose_columns(table, names)
    cells = [[translated(column.name, LATEX), *marked(column, r"\textbf{{{}}}", letters=LATEX)] for column in columns]
    header, *rows = [" & ".join(row) + r" \\" for row in zip(*cells, strict=True)]
    alignment = "".join("l" if Block(column, "", []).is_text else "r" for column in columns)
    notes = [f"% {plain(note)}" for _, note in table.notes]
    opening = [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{alignment}}}", r"\toprule", header, r"\midrule"]
    return "\n".join([*opening, *rows, r"\bottomrule", r"\end{tabular}", *notes]) + "\n"


def csv_text(table: Table, names: Sequence[str] = ()) -> str:
    """The table for programs: numbers in full, means and deviations in columns of their own, lists as JSON."""
    columns = choose_columns(table, names) if names else [column for column in table.columns if column.for_programs]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    writer.writerows(zip(*([_cell(value) for value in column.values] for column in columns), strict=True))
    return file.getvalue()


def _cell(value: Any) -> Any:
    """A number or a text as it is, anything else in the words of JSON."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | dict) else value


def json_text(table: Table, names: Sequence[str] = ()) -> str:
    """All that is known, numbers in full: each row with its statistics and its runs; or the columns of these names."""
    columns = choose_columns(table, names) if names else []
    rows = [
        {column.name: column.values[row] for column in columns} if columns else _told(table, row)
        for row in range(len(table.groups))
    ]
    return json.dumps(without_nan(rows), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _told(table: Table, row: int) -> Values:
    """All that is known of a row."""
    group = table.groups[row]
    return {
        "experiment": group.name,
        "params": group.params,
        **{split: _statistics(group, split) for split in ("val", "test")},
        **{column.name.replace(" ", "_"): column.values[row] for column in table.columns if column.name in JUDGED},
        "runs": [{**asdict(entry), "folder": str(entry.folder)} for entry in group.entries],
    }


def _statistics(group: Group, split: str) -> Values:
    """Count, mean, deviation and interval of each metric of a group."""
    return {metric.name: asdict(summary) for metric in measure([group], split) if (summary := metric.summaries[0])}
