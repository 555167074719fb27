"""One page that shows everything about the experiments below a folder, to be sent around and opened anywhere."""

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from engine.experiment import Entry
from engine.files import replacing, without_nan
from engine.hyperparameters import Values
from engine.report.content import make_content, page_title
from engine.report.model_card import write_model_card

__all__ = ["write_model_card", "write_report"]

HERE = Path(__file__).parent
SCRIPTS = (  # in this order
    "elements.js",
    "rows.js",
    "grouping.js",
    "filters.js",
    "table.js",
    "figures.js",
    "curves.js",
    "studies.js",
    "sides.js",
    "facts.js",
    "address.js",
    "start.js",
)


def write_report(parent: Path, entries: Sequence[Entry]) -> Path:
    """Write `report.html` about these experiments into `parent`; it needs nothing but itself."""
    path = parent / "report.html"
    page = make_page(parent, entries)
    with replacing(path) as file:
        file.write(page.encode("utf-8", errors="replace"))  # of a file name that is no text
    return path


def make_page(parent: Path, entries: Sequence[Entry]) -> str:
    """The whole page; what it may run is told to the browser by hash, and that it may load nothing at all."""
    script = "\n".join(_read(name) for name in SCRIPTS)
    plotly, plotly_hash = packed_plotly()
    content, details = make_content(parent, entries)
    policy = (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data: blob:; style-src 'unsafe-inline'; "
        f"script-src {_hashed(script)} {plotly_hash}"
    )
    parts = {
        "policy": policy,
        "title": html.escape(page_title(parent)),
        "style": _read("style.css"),
        "content": packed(as_json(content)),
        "details": packed(as_json(details)),
        "plotly": plotly,
        "script": script,
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], _read("page.html"))


@cache
def packed_plotly() -> tuple[str, str]:
    """The program that draws the figures, packed to less than half its size, and its hash."""
    from plotly.offline import get_plotlyjs

    source = get_plotlyjs()
    return packed(source), _hashed(source)


def packed(text: str) -> str:
    """A text, a third as long or less, in letters that can end no `<script>`."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _read(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hashed(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def as_json(content: Values) -> str:
    """JSON as any browser reads it: without NaN, and in ASCII, whatever file names hold."""
    return json.dumps(without_nan(content), allow_nan=False, separators=(",", ":"))
