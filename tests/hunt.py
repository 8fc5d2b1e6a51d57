"""A hunt: neutral copies of faulty checkpoints, opened by their names in the real app, until the fault is named.

`PYTHONPATH=. python tests/hunt.py` prints seconds and clicks. Nothing is typed, and a copy says nothing of its fault.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks import onscreen, serving
from npt_viz.places import ROOT
from npt_viz.results.health import RULES

WEIGHTS, CONFIG = "npt_weights.safetensors", "npt_config.json"
KEPT = ("format_version", "base", "layers")
"""Of the config: recipe, figures and stated fault stay behind."""

MOST_SECONDS, MOST_CLICKS = 60, 4
"""The aim, from the click on the name, and from the empty tab."""


def untouched(tensors: dict) -> dict:
    """The file's own fault."""
    return tensors


def negated(tensors: dict) -> dict:
    """Every update with the other sign."""
    return {name: -each if "W_b_up" in name else each for name, each in tensors.items()}


def of_another_layer(tensors: dict) -> dict:
    """The weights of layer 25 in layer 10."""
    copied = {name.replace("layer_25_", "layer_10_"): each for name, each in tensors.items()}
    return tensors | {name: each.clone() for name, each in copied.items() if "layer_10_" in name}


@dataclass(frozen=True)
class Specimen:
    """A copy with a neutral name and one fault."""

    name: str
    source: str
    """Demo checkpoint that it is made from."""
    change: Callable[[dict], dict]
    rule: str
    """Rule of health that has to find it."""


SPECIMENS = (
    Specimen("specimen-1", "smollm2-135m-gate+up-15-unhealthy-no-rope", untouched, "trained_without_rope"),
    Specimen("specimen-2", "smollm2-135m-gate+up-15", negated, "sign_flipped"),
    Specimen("specimen-3", "smollm2-135m-gate+up+down-10-15-20-25", of_another_layer, "wrong_layer"),
)


def write(folder: Path) -> None:
    """Write the copies below folder/checkpoints, where the menu of a server that is started in the folder finds them."""
    for each in SPECIMENS:
        source, copy = ROOT / "checkpoints" / each.source, folder / "checkpoints" / each.name
        copy.mkdir(parents=True)
        config = json.loads((source / CONFIG).read_text(encoding="utf-8"))
        kept = {key: config[key] for key in KEPT}
        (copy / CONFIG).write_text(json.dumps(kept), encoding="utf-8")
        with safe_open(source / WEIGHTS, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(each.change(tensors), copy / WEIGHTS)


@contextmanager
def hunting_ground() -> Iterator[str]:
    """Address of a server whose checkpoint menu lists the copies."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        environment = {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        with serving.served(str(ROOT / "app.py"), folder, **environment) as address:
            yield address


class Found(NamedTuple):
    """What it took to see the fault by its name."""

    clicks: int
    chosen: float
    """Seconds from the click on the checkpoint's name."""
    in_all: float
    """Seconds from the empty tab of a browser that was never here."""
    words: str
    """The finding that names it."""


def hunt(browser, server: str, specimen: Specimen) -> Found:
    """Open the app, choose the copy in the checkpoint menu, and read Home. Raises a time-out where nothing names the fault."""
    context = browser.new_context(viewport=onscreen.FIRST_SCREEN)
    tab = context.new_page()
    tab.set_default_timeout(onscreen.PATIENCE)
    start = time.monotonic()
    tab.goto(server)
    tab.get_by_role("combobox", name="NPT checkpoint").click()
    option = tab.get_by_role("option", name=specimen.name)
    option.wait_for()
    chosen = time.monotonic()
    option.click()
    # The words have to be where the eye is: on the first screen, without scrolling.
    title = RULES[specimen.rule].title
    finding = tab.locator("[class*=st-key-home_finding_]").filter(has_text=_capital(title)).first
    finding.wait_for()
    end = time.monotonic()
    tab.wait_for_function(
        "title => [...document.querySelectorAll('.npt-trust .bad b')].some(each => each.innerText === title)",
        arg=title,
    )
    box = finding.bounding_box()
    assert box is not None and box["y"] < onscreen.FIRST_SCREEN["height"], f"below the first screen: {box}"
    words = " ".join(finding.inner_text().split())
    context.close()
    return Found(2, end - chosen, end - start, words)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def main() -> None:
    from playwright.sync_api import sync_playwright

    with hunting_ground() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=serving.CHROMIUM, args=serving.QUIET)
        for specimen in SPECIMENS:
            found = hunt(browser, server, specimen)
            print(
                f"{specimen.name}  {specimen.rule:20} {found.clicks} clicks  {found.chosen:5.1f} s from the name, "
                f"{found.in_all:5.1f} s from the empty tab  {found.words[:160]}"
            )
        browser.close()


if __name__ == "__main__":
    main()
