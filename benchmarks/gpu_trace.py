"""Where a GPU waits: what `torch.profiler` has written of some steps, told by the parts of the loop."""

import bisect
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

MARK = "part: "  # before the names of parts, so that they are told from what others mark
ON_GPU = {"kernel", "gpu_memcpy", "gpu_memset"}
BETWEEN = "between the parts"


class Span(NamedTuple):
    """From when to when, in microseconds, and what of."""

    start: float
    end: float
    name: str


@dataclass
class Profile:
    """What the GPU did in the time of a trace, and for which part of the loop it waited."""

    microseconds: float
    busy: float  # microseconds in which at least one kernel ran
    kernels: int
    computed: Counter[str]  # microseconds that the program spent in each part
    waited: Counter[str]  # microseconds that the GPU had nothing to do while the program was in each part
    longest: list[tuple[str, float]]  # the kernels that took most, with their microseconds


def read_trace(path: Path) -> Profile:
    """The profile in a file of `export_chrome_trace`, from the first part of the loop to the end of all work."""
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("ph") == "X"]
    parts = innermost([span_of(event) for event in events if _is_part(event)])
    kernels = sorted(span_of(event) for event in events if event.get("cat") in ON_GPU)
    start = min(span.start for span in parts)
    end = max(span.end for span in [*parts, *kernels])
    busy = merged([span for span in kernels if span.end > start])
    waits = gaps(busy, start, end)
    times: Counter[str] = Counter()
    for kernel in kernels:
        times[kernel.name] += kernel.end - kernel.start
    computed: Counter[str] = Counter()
    for span in parts:
        computed[span.name] += span.end - span.start
    total = sum(span.end - span.start for span in busy)
    computed[BETWEEN] = end - start - computed.total()
    return Profile(end - start, total, len(kernels), computed, during(waits, parts), times.most_common(5))


def _is_part(event: dict[str, Any]) -> bool:
    return event.get("cat") == "user_annotation" and event["name"].startswith(MARK)


def span_of(event: dict[str, Any]) -> Span:
    """An event of a trace."""
    return Span(event["ts"], event["ts"] + event["dur"], event["name"].removeprefix(MARK))


def innermost(spans: list[Span]) -> list[Span]:
    """Spans that lie within one another, cut so that each moment belongs to the innermost."""
    cut: list[Span] = []
    open_spans: list[Span] = []
    now = 0.0

    def advance(to: float) -> None:
        nonlocal now
        if open_spans and to > now:
            cut.append(Span(now, to, open_spans[-1].name))
        now = max(now, to)

    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        while open_spans and open_spans[-1].end <= span.start:
            advance(open_spans[-1].end)
            open_spans.pop()
        advance(span.start)
        open_spans.append(span)
    while open_spans:
        advance(open_spans[-1].end)
        open_spans.pop()
    return cut


def merged(spans: list[Span]) -> list[Span]:
    """Sorted spans without overlaps: streams work side by side."""
    whole: list[Span] = []
    for span in spans:
        if whole and span.start <= whole[-1].end:
            whole[-1] = Span(whole[-1].start, max(whole[-1].end, span.end), "")
        else:
            whole.append(Span(span.start, span.end, ""))
    return whole


def gaps(busy: list[Span], start: float, end: float) -> list[Span]:
    """What lies between the spans, from `start` to `end`."""
    edges = [start, *(edge for span in busy for edge in (max(span.start, start), span.end)), end]
    return [Span(a, b, "") for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


def during(waits: list[Span], parts: list[Span]) -> Counter[str]:
    """For how long each part was under way in the waits."""
    ends = [span.end for span in parts]
    times: Counter[str] = Counter()
    for wait in waits:
        left = wait.end - wait.start
        for part in parts[bisect.bisect(ends, wait.start) :]:
            if part.start >= wait.end:
                break
            shared = min(part.end, wait.end) - max(part.start, wait.start)
            times[part.name] += shared
            left -= shared
        times[BETWEEN] += left
    return times
