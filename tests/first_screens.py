"""Faults of a page's first screen that a browser can see: cut text, overlaps, what is out of view, shifts, themes, axe.

`PYTHONPATH=. python tests/first_screens.py` walks all pages and prints what it finds; `--pages tokens home`, `--axe-off`.
"""

import argparse
import collections
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from playwright.sync_api import TimeoutError as PlaywrightTimeout

from benchmarks import onscreen, serving
from npt_viz.ui.shell import nav

SIZES = ((1280, 720), (1920, 1080))
THEMES = ("light", "dark")

MOST_SHIFT = 0.1
"""Layout shift while a page loads, as browsers sum it; above 0.1 a page counts as jumping."""

MARKED = (onscreen.ANSWER_KEY, onscreen.MAIN_FIGURE, onscreen.TOKEN_VIEW)
"""What has to be wholly on the first screen where a page has it."""

SIDEBAR = ("[data-testid=stSidebarNavItems]", ".st-key-sidebar_memory")
"""The same of the sidebar: the names of all pages, and what stands below them."""

AXE = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]},
    "resultTypes": ["violations"],
}

_SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something on a screen that should not be so."""

    page: str
    size: tuple[int, int]
    theme: str
    rule: str
    selector: str
    text: str
    numbers: dict[str, float]

    @property
    def what(self) -> str:
        """The fault without the screen it is on."""
        return f"{self.page}: {self.rule}: {self.selector}: {self.text!r}"

    @property
    def where(self) -> str:
        """The screen, and the numbers on it."""
        numbers = " ".join(f"{name} {number}" for name, number in self.numbers.items())
        return f"{self.size[0]} {self.theme}" + f" ({numbers})" * bool(numbers)

    def __str__(self) -> str:
        return f"{self.what}: {self.where}"


def required(group: str, page: str) -> tuple[str, ...]:
    """Marked parts that a page must have."""
    if group in ("Inspect", "Edit") or page == "compare":
        return MARKED
    if page == "home":
        return (onscreen.ANSWER_KEY, onscreen.TOKEN_VIEW)
    return (onscreen.MAIN_FIGURE,) if group else ()


def prepared(context) -> None:
    """Make every tab of a browser context ready to be asked for faults: before its first page."""
    context.add_init_script(f"{onscreen.SCRIPT};\nnpt.watch({{}});\n{_SCRIPT}")


def truncated(tab) -> list[dict]:
    """Visible text that its box cuts off, to the right, below or by an ellipsis."""
    return tab.evaluate("nptFaults.truncated()")


def overlapping(tab) -> list[dict]:
    """Pairs of texts, in HTML or SVG, that lie on each other."""
    return [
        {
            "selector": each["selector"],
            "text": f"{each['text']} × {each['over']} [{each['overSelector']}]",
            "numbers": each["numbers"],
        }
        for each in tab.evaluate("nptFaults.overlapping()")
    ]


def out_of_view(tab, wanted: Sequence[str] = ()) -> list[dict]:
    """Marked parts that are not wholly on the first screen, and wanted ones that are not on the page."""
    return tab.evaluate("each => nptFaults.outOfView(...each)", [list(wanted), [*MARKED, *SIDEBAR]])


def shifted(tab) -> list[dict]:
    """What moved while the page was loaded, where it was more than MOST_SHIFT in all."""
    return tab.evaluate("most => nptFaults.shifted(most)", MOST_SHIFT)


def off_theme(tab, theme: str) -> list[dict]:
    """The page itself, where it is not dark on light in the light theme or light on dark in the dark one."""
    background, text = tab.evaluate(
        """() => { const style = getComputedStyle(document.querySelector("[data-testid=stApp]"))
        return [style.backgroundColor, style.color] }"""
    )
    brightness = {"background": _brightness(background), "text": _brightness(text)}
    if (brightness["background"] > brightness["text"]) == (theme == "light"):
        return []
    return [{"selector": "[data-testid=stApp]", "text": f"not {theme}", "numbers": brightness}]


def _brightness(rgb: str) -> int:
    return sum(map(int, re.findall(r"\d+", rgb)[:3]))


def inaccessible(tab) -> list[dict]:
    """Violations that axe finds."""
    if not tab.evaluate("'axe' in window"):
        tab.evaluate(resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    return tab.evaluate("options => nptFaults.inaccessible(options)", AXE)


def walk(browser, server: str, pages: Sequence[str] = (), *, with_axe: bool = True) -> Iterator[Fault]:
    """Faults of the first screens of all pages, or of these, in both sizes and themes.

    A page is loaded twice, so that each size and each theme is once what it is loaded in, and then brought to the other
    size. Shifts and axe are asked of the two as loaded: no rule of theirs turns on a size together with a theme.
    """
    screens = [(_tab(browser, size, theme), size, theme) for size, theme in zip(SIZES, THEMES, strict=True)]
    for group, entries in nav._PAGES.items():
        for name, *_ in entries:
            if pages and name not in pages:
                continue
            # Both are loaded side by side: the walk is to be quick.
            for tab, size, _ in screens:
                tab.set_viewport_size(_viewport(size))
                tab.goto(f"{server}/{name if group else ''}", wait_until="commit")
            wanted = required(group, name)
            for tab, size, theme in screens:
                at = {"page": name, "size": size, "theme": theme}
                yield from _faults(at, _of_loaded(tab, theme, wanted, with_axe) | _of_shown(tab, wanted))
            for (tab, _, theme), size in zip(screens, reversed(SIZES), strict=True):
                at = {"page": name, "size": size, "theme": theme}
                tab.set_viewport_size(_viewport(size))
                # What follows a size does so a moment later.
                tab.wait_for_timeout(onscreen.QUIET)
                _settle(tab)
                yield from _faults(at, _of_shown(tab, wanted))
    for tab, *_ in screens:
        tab.context.close()


def _faults(at: dict, found: dict[str, list[dict]]) -> Iterator[Fault]:
    for rule, faults in found.items():
        for fault in faults:
            yield Fault(**at, rule=rule, **fault)


def _viewport(size: tuple[int, int]) -> dict[str, int]:
    return dict(zip(("width", "height"), size, strict=True))


def _tab(browser, size: tuple[int, int], theme: str):
    context = browser.new_context(viewport=_viewport(size), color_scheme=theme)
    prepared(context)
    tab = context.new_page()
    tab.set_default_timeout(onscreen.PATIENCE)
    return tab


def _of_loaded(tab, theme: str, wanted: Sequence[str], with_axe: bool) -> dict[str, list[dict]]:
    _settle(tab)
    for mark in wanted:
        # Figures wait for the first paint, of which a busy machine tells late.
        with contextlib.suppress(PlaywrightTimeout):
            tab.wait_for_function("mark => npt.all(mark).length", arg=mark, timeout=20_000)
    _settle(tab)
    jumps = shifted(tab)
    if jumps:
        # On a busy machine parts come in another order once in a while; a page that jumps does so again.
        tab.reload(wait_until="commit")
        _settle(tab)
        jumps = shifted(tab)
    return {
        "theme": off_theme(tab, theme),
        "layout shift": jumps,
        "axe": inaccessible(tab) if with_axe else [],
    }


def _of_shown(tab, wanted: Sequence[str]) -> dict[str, list[dict]]:
    return {
        "cut off": truncated(tab),
        "overlap": overlapping(tab),
        "out of view": out_of_view(tab, wanted),
    }


def _settle(tab) -> None:
    # A cold deep link is at rest for a moment before its page is framed and begins.
    tab.wait_for_function(
        "selector => npt.all(selector).length", arg=f"{onscreen.HEADING}, {onscreen.TOKEN_VIEW}"
    )
    tab.wait_for_function("quiet => npt.isAtRest(quiet)", arg=onscreen.QUIET, polling=20)


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pages", nargs="+", default=[], help="these only")
    parser.add_argument("--axe-off", action="store_true", help="leave out axe, the slowest check")
    said = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as runs,
        serving.served(NPT_VIZ_RUNS=runs) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.QUIET)
        found = []
        for fault in walk(browser, server, said.pages, with_axe=not said.axe_off):
            print(fault, file=sys.stderr)
            found.append(fault)
        browser.close()
    print(report(found))
    print(f"\n{time.perf_counter() - start:.0f} s; load {os.getloadavg()[0]:.1f}")


def report(found: Sequence[Fault]) -> str:
    """One line for each fault with the screens it is on, then how many there are on each page."""
    screens = collections.defaultdict(list)
    for fault in found:
        screens[fault.what].append(fault.where)
    counts = collections.Counter((each.page, each.rule) for each in found)
    return "\n".join(
        [
            *(f"{what}: {', '.join(where)}" for what, where in screens.items()),
            f"\n{len(screens)} faults, {len(found)} over both sizes and themes",
            *(f"  {page:18} {rule:13} {count}" for (page, rule), count in sorted(counts.items())),
        ]
    )


if __name__ == "__main__":
    main()
