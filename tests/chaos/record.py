"""The figures of a run, the harm that was done, and the faults that were found."""

import sys
import time
from collections import Counter, deque

_FIGURES = (
    "publications",
    "attempts to publish",
    "acknowledged",
    "acknowledged as repeated",
    "accepted by publish_soon",
    "deliveries",
    "reconnects",
    "gaps told",
    "lost, and told of it",
    "replaced by newer ones",
    "entered",
    "presence events",
)

_FAULTS = (
    "gaps in silence",
    "needless gaps",
    "duplicates",
    "out of order",
    "made twice",
    "contradictions",
    "never acknowledged",
    "missing at the end",
    "presence differences",
    "memory grown",
    "left over",
    "server faults",
)


class Record:
    """Counts what happens, and remembers the latest harm, which is shown with each fault.

    :param quiet: whether faults are not printed when they are found.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.figures: Counter[str] = Counter()
        self.harm: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.memory: list[str] = []
        self.longest_recovery = 0.0
        self._quiet = quiet
        self._begun = time.monotonic()
        self._timeline: deque[str] = deque(maxlen=30)

    def happened(self, text: str) -> None:
        """Add a line to the timeline."""
        self._timeline.append(f"{time.monotonic() - self._begun:9.3f} s  {text}")

    def did(self, kind: str, text: str = "") -> None:
        """Count harm of a kind, and add it to the timeline."""
        self.harm[kind] += 1
        self.happened(f"{kind} {text}".rstrip())

    def fault(self, kind: str, text: str) -> None:
        """Record that a promise was broken.

        :param kind: the figure that it counts in.
        """
        self.figures[kind] += 1
        self.faults[f"{kind}: {text}"[:1000]] += 1
        if not self._quiet and sum(self.faults.values()) <= 20:
            print(f"\nFAULT at {time.monotonic() - self._begun:.3f} s: {kind}: {text}", file=sys.stderr)
            print("the last harm before it:\n  " + "\n  ".join(self._timeline), file=sys.stderr, flush=True)

    def table(self, title: str) -> str:
        """Return all figures as a table in Markdown."""
        figures = self.figures
        rows: list[tuple[str, object]] = [(name, f"{figures[name]:,}") for name in _FIGURES]
        rows += [(name, f"{count:,}") for name, count in sorted(self.harm.items())]
        rows += [(f"**{name}**", f"**{figures[name]:,}**") for name in _FAULTS]
        rows.append(("longest time until all was right again", f"{self.longest_recovery:.1f} s"))
        rows += [("resident memory of a process", text) for text in self.memory]
        return "\n".join([f"| {title} | |", "|---|---|", *[f"| {name} | {value} |" for name, value in rows]])
