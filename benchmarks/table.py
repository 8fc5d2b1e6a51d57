"""What a benchmark prints and writes: a row of Markdown for every measured value, and the same as one JSON.

The JSON says which machine, versions and date it holds for; those of benchmarks/results/ are the ones the documents quote.
"""

import datetime
import importlib.metadata
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.paired import Ratio, machine

RESULTS = Path(__file__).parent / "results"
VERSIONS = ("torch", "transformers", "safetensors", "streamlit", "plotly")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value beside its aim."""

    what: str
    value: float
    unit: str = ""
    aim: float | None = None
    at_least: bool = False
    """The aim is a lower bound."""
    how: str = ""
    """Medians and ranges behind the value."""

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None where there is none."""
        if self.aim is None:
            return None
        return self.value >= self.aim if self.at_least else self.value <= self.aim

    def __str__(self) -> str:
        aim = "" if self.aim is None else f"{'≥' if self.at_least else '≤'} {self.aim:g} {self.unit}".strip()
        met = {None: "", True: "yes", False: "no"}[self.met]
        return f"| {self.what} | {shown(self.value, self.unit)} | {aim} | {met} | {self.how} |"


class Table:
    """Prints each row as it comes."""

    def __init__(self, title: str) -> None:
        self.rows: list[Row] = []
        self.head = {
            "title": title,
            "machine": f"{machine()}, {os.cpu_count()} cores",
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "date": datetime.date.today().isoformat(),
            "load before": round(os.getloadavg()[0], 1),
        }
        print(f"{title}; {self.head['machine']}; load {self.head['load before']} before\n")
        print("| what | measured | aim | met | how: median (range) |\n|---|---|---|---|---|", flush=True)

    def add(self, row: Row) -> None:
        self.rows.append(row)
        print(row, flush=True)

    def ratio(self, what: str, ratio: Ratio, *, aim: float | None = None, at_least: bool = False) -> None:
        """A row of a ratio to a baseline."""
        how = f"{ratio.low:.3g} to {ratio.high:.3g}; {1e3 * ratio.candidate:.4g} ms against {1e3 * ratio.baseline:.4g} ms"
        self.add(Row(what=what, value=ratio.median, unit="×", aim=aim, at_least=at_least, how=how))


@contextmanager
def table(name: str, title: str) -> Iterator[Table]:
    """Head, rows as they are added, then benchmarks/results/NAME.json with all of them, where the block ends well."""
    made = Table(title)
    yield made
    made.head["load after"] = round(os.getloadavg()[0], 1)
    print(f"\nload {made.head['load after']} after")
    RESULTS.mkdir(exist_ok=True)
    rows = [asdict(row) | {"met": row.met} for row in made.rows]
    text = json.dumps(made.head | {"rows": rows}, ensure_ascii=False, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def shown(value: float, unit: str = "") -> str:
    """Three digits, or whole numbers from 100."""
    number = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip()
