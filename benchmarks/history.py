"""What a history of 2,000 entries costs: to list, to search and to write, against one JSON file an entry."""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from npt_viz.workspace.entry import Entry, key_of
from npt_viz.workspace.history import MOST, History

PAGE = 25
"""Entries that the History page shows at once."""

NUMBERS = 30_000
"""Bytes of an entry's numbers: a prompt of 100 tokens in four layers."""

WORDS = [
    "the",
    "capital",
    "of",
    "France",
    "is",
    "a",
    "river",
    "that",
    "flows",
    "north",
    "because",
    "cats",
    "and",
    "quantum",
    "fields",
    "differ",
]


def entries() -> list[Entry]:
    """As many as are kept, each with a prompt of 120 words and a thumbnail of 1.5 kB."""
    chance = random.Random(0)
    return [
        Entry(
            key=key_of(i),
            time=float(i),
            kind="inspection",
            page="tokens",
            title=f"prompt {i}",
            sentence=" ".join(chance.choices(WORDS, k=40)),
            prompt=" ".join(chance.choices(WORDS, k=120)),
            settings={"model": "smollm2-135m", "checkpoint": "checkpoints/demo", "layer": "15"},
            thumbnail="<svg>" + "M0 0h2v9h-2z" * 125,
            checkpoint="checkpoints/demo",
        )
        for i in range(MOST)
    ]


def seconds(call: Callable[[], object], times: int = 5) -> float:
    """Median of some calls."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def main() -> None:
    """Print the table."""
    chance = random.Random(1)
    with tempfile.TemporaryDirectory() as folder:
        kept, files = History(Path(folder) / "history.sqlite"), Path(folder)
        for i, entry in enumerate(entries()):
            kept.put(entry, chance.randbytes(NUMBERS))
            (files / f"{entry.key}.json").write_text(json.dumps(asdict(entry)))
            if i % 100 == 99:
                kept.write()
        json_files = seconds(lambda: [Entry(**json.loads(f.read_text())) for f in files.glob("*.json")])
        new = iter(range(MOST, 2 * MOST))

        def write() -> None:
            i = next(new)
            one = Entry(
                key=key_of(i), time=float(i), kind="inspection", page="tokens", title=f"{i}", sentence="s"
            )
            kept.put(one, chance.randbytes(NUMBERS))
            kept.write()

        cells = {
            "one JSON file an entry, all": json_files,
            "all entries": seconds(kept.found),
            f"the first {PAGE}": seconds(lambda: kept.found(most=PAGE)),
            f"the last {PAGE}": seconds(lambda: kept.found(first=MOST - PAGE, most=PAGE)),
            "search for two words": seconds(lambda: kept.found("quantum rivernot", most=PAGE)),
            "write one more": seconds(write),
        }
        size = kept.file.stat().st_size / 1e6
    print(f"{MOST:,} entries, {size:.0f} MB\n\n| what | ms | against JSON files |\n|---|---|---|")
    for name, taken in cells.items():
        print(f"| {name} | {1e3 * taken:.1f} | {taken / json_files:.2f} |")


if __name__ == "__main__":
    main()
