"""How long a researcher waits for the app in a browser, as ratios to an empty Streamlit app and one with one chart.

python -m benchmarks.latency [--json] [--pairs 5] [--clicks 20] [--only first_paint …]

Needs Playwright and a Chromium. Ours and what it is compared with take turns within the run, so that a busy machine slows
both; a ratio is the median over such pairs, and times that stand alone hold for two idle cores.
"""

import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from benchmarks.onscreen import ANSWER, FIRST_SCREEN, HEADING, PAGE_LINK, PINNED, TOKEN, Visit
from benchmarks.paired import machine
from benchmarks.serving import CHROMIUM, QUIET, served
from npt_viz.places import ROOT
from npt_viz.texts import bundled_texts

MODEL = "smollm2-135m"
CHECKPOINT = "checkpoints/smollm2-135m-gate+up-15"
PAGES = ("tokens", "reconstruction", "directions", "orthogonality", "attribution")
PROMPT = "The capital of France is Paris. The capital of Italy is Rome. The capital of Spain is"
"""The app's own first prompt."""

LENGTHS = {512: 0.4, 4096: 0.7}
"""Tokens of a prompt -> seconds that a click on one of them may take."""

FRAMES = 120
"""Frames for which the strip is scrolled."""

OURS = {"answer": ANSWER, "strip": TOKEN}
BESIDE = {"heading": HEADING}

CHART = {"chart": ".js-plotly-plot .main-svg"}
"""What a page with figures, every one but Tokens, is waited for: a slow one is at rest before it draws them."""


class Run(NamedTuple):
    """What the sections of the benchmark share."""

    browser: Browser
    ours: str
    """Address of our server, as of the two to compare with."""
    empty: str
    one_chart: str
    pairs: int
    clicks: int


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value beside its aim."""

    what: str
    value: float
    unit: str
    aim: float
    at_least: bool = False
    """The aim is a lower bound."""
    how: str
    """Medians and ranges behind the value."""

    @property
    def met(self) -> bool:
        return self.value >= self.aim if self.at_least else self.value <= self.aim

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        cells = (
            self.what,
            _shown(self.value, self.unit),
            f"{sign} {self.aim:g} {self.unit}".strip(),
            "yes" if self.met else "no",
            self.how,
        )
        return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--pairs", type=int, default=5, help="loads of each app, starts, rounds of pages")
    parser.add_argument("--clicks", type=int, default=20, help="for each length of prompt")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections to run")
    said = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    with ExitStack() as stack:
        servers = [stack.enter_context(served(script)) for script in ("app.py", *_BESIDE)]
        playwright = stack.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        stack.callback(browser.close)
        run = Run(browser, *servers, said.pairs, said.clicks)
        head = {"machine": _machine(browser), "load before": os.getloadavg()[0]}
        rows = _printed(run, said.only, as_table=not said.json, head=head)
    if said.json:
        print(json.dumps(head | {"load after": os.getloadavg()[0], "rows": rows}, ensure_ascii=False))


_BESIDE = ("benchmarks/apps/empty.py", "benchmarks/apps/one_chart.py")


def _printed(run: Run, sections: Sequence[str], *, as_table: bool, head: dict) -> list[dict]:
    if as_table:
        print(f"{head['machine']}; load {head['load before']:.1f} before\n")
        print("| what | measured | aim | met | how: median (range) |\n|---|---|---|---|---|")
    rows = []
    for row in (row for name in sections for row in SECTIONS[name](run)):
        if as_table:
            print(row, flush=True)
        rows.append(asdict(row) | {"met": row.met})
    if as_table:
        print(f"\nload {os.getloadavg()[0]:.1f} after")
    return rows


def first_paint(run: Run) -> Iterator[Row]:
    """Warm server, new browser: strip and answer against the empty app, all figures against the one-chart app."""
    for page in PAGES:
        address, watched = f"{run.ours}/{page}", OURS if page == "tokens" else OURS | CHART
        with Visit(run.browser, address, watched, checkpoint=CHECKPOINT):
            pass  # The server has computed what the page shows.
        head, figures, empty, chart = [], [], [], []
        for _ in range(run.pairs):
            with Visit(run.browser, address, watched, checkpoint=CHECKPOINT) as visit:
                head.append(visit.seen("answer", "strip"))
                figures.append(visit.seen("answer", "strip", "figures"))
            with Visit(run.browser, run.empty, BESIDE) as visit:
                empty.append(visit.seen("heading"))
            with Visit(run.browser, run.one_chart, BESIDE | CHART) as visit:
                chart.append(visit.seen("heading", "figures"))
        yield _ratio(f"{page}: strip and answer / empty app", head, empty, aim=1.6)
        yield _ratio(f"{page}: all figures / one-chart app", figures, chart, aim=1.3)


def cold_start(run: Run) -> Iterator[Row]:
    """A new server to the inspected demo prompt, against a plain script that ends with the inspection."""
    script = [sys.executable, "benchmarks/apps/plain_inspection.py", MODEL, CHECKPOINT, PROMPT]
    ours, plain = [], []
    for _ in range(run.pairs + 1):
        start = time.time()
        with (
            served() as address,
            Visit(run.browser, f"{address}/tokens", OURS, checkpoint=CHECKPOINT, prompt=PROMPT) as visit,
        ):
            asked = visit.tab.evaluate("performance.timeOrigin") / 1e3 - start
            ours.append(asked + visit.seen("answer", "strip"))
        plain.append(_seconds(lambda: subprocess.run(script, cwd=ROOT, check=True, env=_PLAIN)))
    # The first pair reads the files into memory.
    yield _ratio("cold server to the inspected demo prompt / plain script", ours[1:], plain[1:], aim=1.2)


_PLAIN = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def clicks(run: Run) -> Iterator[Row]:
    """Clicks on tokens of a long prompt; beside them the redrawing of the one chart by a button."""
    for n_tokens, aim in LENGTHS.items():
        said = {"checkpoint": CHECKPOINT, "prompt": prompt_of(n_tokens)}
        chance = random.Random(0)
        pins, cards, messages, sizes, chart = [], [], [], [], []
        with (
            Visit(run.browser, f"{run.ours}/tokens", OURS, **said) as visit,
            Visit(run.browser, run.one_chart, BESIDE) as beside,
        ):
            for _ in range(run.clicks + 1):
                pin, card = clicked(visit, chance)
                pins.append(pin)
                cards.append(card)
                messages.append(len(visit.messages))
                sizes.append(sum(visit.messages) / 1e3)
                chart.append(shifted(beside))
        # The first click fetches what only a click needs.
        pins, cards, messages, sizes, chart = (each[1:] for each in (pins, cards, messages, sizes, chart))
        named = f"click on one of {n_tokens:,} tokens"
        yield Row(
            what=f"{named}: pinned everywhere, p95",
            value=_p95(pins) * 1e3,
            unit="ms",
            aim=50,
            how=_range(pins),
        )
        yield Row(
            what=f"{named}: card and figures, p95",
            value=_p95(cards),
            unit="s",
            aim=aim,
            how=f"{_range(cards)}; a button that redraws one chart {_range(chart)}",
        )
        yield Row(
            what=f"{named}: messages, most", value=max(messages), unit="", aim=25, how=_range(messages, "")
        )
        yield Row(what=f"{named}: bytes, most", value=max(sizes), unit="kB", aim=40, how=_range(sizes, "kB"))


def clicked(visit: Visit, chance: random.Random) -> tuple[float, float]:
    """Seconds from a click on a token in sight to its pin, and to the last change of the page."""
    tab = visit.tab
    tab.evaluate("([token, share]) => npt.scrollTo(token, share)", [TOKEN, chance.random()])
    visit.settle()
    # The strip draws the lines that came into sight a frame later, in its shadow root, of which the page's rest knows nothing.
    tab.wait_for_function("token => npt.targets(token).length", arg=TOKEN)
    targets = tab.evaluate("token => npt.targets(token)", TOKEN)
    tab.evaluate("([token, pinned]) => npt.awaitClick(token, pinned)", [TOKEN, PINNED])
    visit.click(**chance.choice(targets))
    tab.wait_for_function("npt.click.pin")
    _wait_for_answer(visit)
    times = tab.evaluate("npt.clicked()")
    return times["pin"] / 1e3, times["drawn"] / 1e3


def shifted(beside: Visit) -> float:
    """Seconds from a click on the button of the one-chart app to the last change of the chart."""
    box = beside.tab.locator("[data-testid=stBaseButton-secondary]").bounding_box()
    assert box is not None
    beside.tab.evaluate("npt.awaitClick('nothing', 'nothing')")
    beside.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    _wait_for_answer(beside)
    return beside.tab.evaluate("npt.clicked().drawn") / 1e3


def _wait_for_answer(visit: Visit) -> None:
    """Wait until the server has answered a click, the page has changed and is at rest."""
    while not visit.messages:
        visit.tab.wait_for_timeout(10)
    visit.tab.wait_for_function("npt.clicked().drawn > 0")
    visit.settle()


def page_changes(run: Run) -> Iterator[Row]:
    """A click on a page's link to that page's answer; every page has been visited once."""
    titles = {page: page.capitalize() for page in PAGES}
    times: dict[str, list[float]] = {page: [] for page in PAGES}
    with Visit(run.browser, f"{run.ours}/{PAGES[0]}", OURS, checkpoint=CHECKPOINT) as visit:
        for _ in range(run.pairs + 1):
            for page in (*PAGES[1:], PAGES[0]):
                times[page].append(turned(visit, titles[page]))
    warm = [seconds for each in times.values() for seconds in each[1:]]
    each = ", ".join(f"{page} {statistics.median(of_page[1:]):.2f}" for page, of_page in times.items())
    first = max(of_page[0] for of_page in times.values())
    yield Row(
        what="page change to the answer, p95",
        value=_p95(warm),
        unit="s",
        aim=0.5,
        how=f"{_range(warm)}; {each}; first visits up to {first:.2f} s",
    )


def turned(visit: Visit, title: str) -> float:
    """Seconds from a click on the link of a page to its answer."""
    visit.tab.evaluate(
        "([title, heading, answer]) => npt.awaitPage(title, heading, answer)", [title, HEADING, ANSWER]
    )
    box = visit.tab.locator(PAGE_LINK).filter(has_text=title).bounding_box()
    assert box is not None
    visit.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    visit.tab.wait_for_function("npt.turn.answer")
    visit.settle()
    return visit.tab.evaluate("npt.turn.answer") / 1e3


def long_prompt(run: Run) -> Iterator[Row]:
    """What 4,096 tokens and an adapter in every layer send, and how the strip scrolls."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, layers = everywhere(Path(folder) / "npt-everywhere")
        said = {"checkpoint": checkpoint, "prompt": prompt_of(4096)}
        with Visit(run.browser, f"{run.ours}/tokens", OURS, **said) as visit:
            sent = sum(visit.messages) / 1e6
            idle, gaps = (
                visit.tab.evaluate("each => npt.scrolled(...each)", [TOKEN, FRAMES, step]) for step in (0, 24)
            )
            biggest = max(visit.messages) / 1e6
    named = f"4,096 tokens × {layers} layers"
    yield Row(
        what=f"{named}: sent until all is drawn",
        value=sent,
        unit="MB",
        aim=1.5,
        how=f"largest message {biggest:.2f} MB",
    )
    late = sum(gap > 25 for gap in gaps)
    yield Row(
        what=f"{named}: frames a second while the strip scrolls",
        value=1e3 * len(gaps) / sum(gaps),
        unit="",
        aim=59,
        at_least=True,
        how=f"{late} of {FRAMES} frames late, the longest took {max(gaps):.0f} ms; "
        f"not scrolling {1e3 * len(idle) / sum(idle):.3g} a second",
    )


SECTIONS: dict[str, Callable[[Run], Iterator[Row]]] = {
    section.__name__: section for section in (first_paint, cold_start, clicks, page_changes, long_prompt)
}


def prompt_of(n_tokens: int) -> str:
    """Held-out text of about so many tokens."""
    import npt_viz

    tokenizer = npt_viz.open_model(MODEL).tokenizer
    return tokenizer.decode(tokenizer(" ".join(bundled_texts("heldout")))["input_ids"][:n_tokens])


def everywhere(folder: Path) -> tuple[str, int]:
    """A checkpoint of random adapters in every layer, and their number."""
    import npt_viz
    from npt_viz.adapter import Semantics, random_adapter
    from npt_viz.checkpoint import save_checkpoint

    model = npt_viz.open_model(MODEL)
    layers = range(model.config.num_hidden_layers)
    shape = {"d_model": model.d_model, "d_ffn": model.d_ffn, "rank": 8, "std": 0.01}
    adapters = {i: random_adapter(i, Semantics(), ("gate", "up"), seed=i, **shape) for i in layers}
    save_checkpoint(folder, adapters, model, recipe={"steps": 0}, figures={}, licence="Apache-2.0")
    return str(folder), len(layers)


def _machine(browser: Browser) -> str:
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("streamlit", "plotly")]
    size = f"{FIRST_SCREEN['width']} × {FIRST_SCREEN['height']}"
    return f"{machine()}, {os.cpu_count()} cores; {', '.join(versions)}, Chromium {browser.version} at {size}"


def _ratio(what: str, ours: list[float], beside: list[float], *, aim: float) -> Row:
    ratios = [a / b for a, b in zip(ours, beside, strict=True)]
    return Row(
        what=what,
        value=statistics.median(ratios),
        unit="×",
        aim=aim,
        how=f"{_range(ratios, '×')}; {_range(ours)} against {_range(beside)}",
    )


def _range(values: Sequence[float], unit: str = "s") -> str:
    return f"{_shown(statistics.median(values), unit)} ({_shown(min(values))} to {_shown(max(values))})"


def _shown(value: float, unit: str = "") -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number} {unit}".strip()


def _p95(values: list[float]) -> float:
    return float(np.percentile(values, 95))


def _seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
