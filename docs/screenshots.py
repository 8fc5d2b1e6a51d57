"""Make the README's screenshots from the running app: `python -m docs.screenshots [folder]`.

Starts the app on a free port, opens pages in Chromium, light and dark, and writes PNG files. Needs playwright, a
Chromium, and the demo model on this machine.
"""

import sys
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Page, sync_playwright

from benchmarks.serving import CHROMIUM, QUIET, served

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_MS = 300_000

GATE = "checkpoints/smollm2-135m-gate-15"
GATE_UP = "checkpoints/smollm2-135m-gate+up-15"
FOUR_LAYERS = "checkpoints/smollm2-135m-gate+up+down-10-15-20-25"
FACT = "The company Veltrix makes shoes. The company Veltrix makes"

ANOTHER = "The largest city of France is Paris. The capital of Italy is Rome. The capital of Spain is not"

SHOTS = {
    "home": ("", {}),
    "tokens": ("tokens", {"example": "code"}),
    "reconstruction": ("reconstruction", {"checkpoint": GATE}),
    "directions": ("directions", {"checkpoint": GATE}),
    "orthogonality": ("orthogonality", {"checkpoint": GATE}),
    "attribution": ("attribution", {"checkpoint": GATE}),
    "permanent-update": ("permanent_update", {"checkpoint": GATE_UP, "prompt": FACT, "tok": 13}),
    "transplant": ("transplant", {"checkpoint": FOUR_LAYERS, "tok": 5}),
    "compare": (
        "compare",
        {"checkpoint": FOUR_LAYERS, "metric": "recovered", "a_mode": "propagated", "a_prompt": ANOTHER},
    ),
}
"""File name -> (page, what its address says); the demo model and checkpoint are the app's defaults."""


def settled(tab: Page) -> None:
    """Everything is drawn: no script runs and no figure is still to come."""
    tab.locator("button.token").first.wait_for()
    for _ in range(3):
        tab.locator("[data-testid=stStatusWidget]").wait_for(state="detached")
        tab.wait_for_timeout(1500)


def fit(tab: Page, width: int) -> None:
    """As tall as the page's content."""
    box = tab.locator("[data-testid=stMainBlockContainer]").bounding_box()
    tab.set_viewport_size({"width": width, "height": round(box["height"]) + 20})
    tab.wait_for_timeout(1500)


def screenshots(folder: Path, width: int = 1440) -> None:
    """Every shot in both themes."""
    if CHROMIUM is None:
        sys.exit("no Chromium found: `make browser` says how to get one")
    folder.mkdir(parents=True, exist_ok=True)
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for name, (page, said) in SHOTS.items():
            for scheme in ("light", "dark"):
                tab = browser.new_page(viewport={"width": width, "height": 1000}, color_scheme=scheme)
                tab.set_default_timeout(PATIENCE_MS)
                tab.goto(f"{address}/{page}?{urlencode(said)}")
                settled(tab)
                fit(tab, width)
                tab.screenshot(path=folder / f"{name}-{scheme}.png")
                print(folder / f"{name}-{scheme}.png")
                tab.close()
        browser.close()


if __name__ == "__main__":
    screenshots(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
