"""What a history of 2,000 entries costs: to list, to search and to write, against one JSON file an entry; and on the
screen, against one of 25."""

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from benchmarks import serving
from npt_viz.workspace.browser import BrowserFolder
from npt_viz.workspace.entry import Entry, key_of
from npt_viz.workspace.history import MOST, History
from npt_viz.workspace.place import Workspace

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


def on_screen() -> dict[int, tuple[float, float]]:
    """Entries -> seconds from a click on History to its rows, and from a click on Older to the next ones."""
    from playwright.sync_api import sync_playwright

    taken = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.QUIET)
        with serving.served(HF_HUB_OFFLINE="1", NPT_VIZ_WORKSPACE=folder) as address:
            for n in (PAGE, MOST):
                context = browser.new_context(viewport={"width": 1280, "height": 720})
                tab = context.new_page()
                tab.set_default_timeout(serving.PATIENCE * 1e3)
                tab.goto(f"{address}/glossary")
                tab.wait_for_function("document.cookie.includes('npt_viz_browser=')")
                tab.locator(".npt-table").wait_for()
                cookies = {each.get("name"): each.get("value", "") for each in context.cookies()}
                kept = History(BrowserFolder(Workspace(Path(folder)), cookies["npt_viz_browser"]).history)
                for i, entry in enumerate(entries()[:n]):
                    kept.put(entry)
                    if i % 100 == 99:
                        kept.write()
                kept.write()
                tab.get_by_role("link", name="History").click()
                rows = tab.locator("[class*=st-key-history_row_]")
                rows.nth(PAGE - 1).wait_for()  # The first time the code of its parts is fetched.
                tab.get_by_role("link", name="Glossary").click()
                tab.locator(".npt-table").wait_for()
                tab.wait_for_timeout(1000)
                start = time.perf_counter()
                tab.get_by_role("link", name="History").click()
                rows.nth(PAGE - 1).wait_for()
                listed, older = time.perf_counter() - start, float("nan")
                if n > PAGE:
                    tab.wait_for_timeout(1000)
                    start = time.perf_counter()
                    tab.locator(".st-key-history_older button").click()
                    tab.get_by_text(f"prompt {MOST - 1 - PAGE}", exact=True).wait_for()
                    older = time.perf_counter() - start
                taken[n] = listed, older
                context.close()
        browser.close()
    return taken


def main() -> None:
    """Print both tables."""
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
    print("\n| on the screen | ms | against 25 entries |\n|---|---|---|")
    screens = on_screen()
    for n, (listed, older) in screens.items():
        print(f"| {n:,} entries: the page | {1e3 * listed:.0f} | {listed / screens[PAGE][0]:.2f} |")
        if n > PAGE:
            print(f"| {n:,} entries: older ones | {1e3 * older:.0f} | {older / screens[PAGE][0]:.2f} |")


if __name__ == "__main__":
    main()
