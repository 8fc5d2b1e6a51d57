"""A tiny base model and a checkpoint in files, for tests that open them through the app."""

import html
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from conftest import specimen, tiny_model
from streamlit.testing.v1 import AppTest

from npt_viz.checkpoint import save_checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.places import ROOT

LAYERS = (1, 3)
"""The NPT layers of the checkpoint."""


class OnDisk(NamedTuple):
    """Folders, as strings a user would type."""

    model: str
    checkpoint: str
    """N5 with two components."""


def written(folder: Path, *, context: int = 97) -> OnDisk:
    """Save the tiny Llama and an N5 checkpoint with two components for two of its layers."""
    model = tiny_model()
    model.hf.config.max_position_embeddings = context
    model.hf.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    checkpoint = save_variant(folder / "npt-tiny", model, "N5")
    return OnDisk(str(folder / "model"), checkpoint)


def save_variant(folder: Path, model: BaseModel, variant: str) -> str:
    """A checkpoint of random adapters of one variant in LAYERS."""
    components = 1 if variant.startswith(("S", "T")) else 2
    adapters = {layer: specimen(model, variant, layer, components=components, seed=layer) for layer in LAYERS}
    save_checkpoint(folder, adapters, model, recipe={"steps": 0}, figures={}, licence="Apache-2.0")
    return str(folder)


def opener(on_disk: OnDisk) -> Callable[..., AppTest]:
    """Opens the app as a browser would: a page, and what its address says."""

    def opened(page: str = "home", **params: str) -> AppTest:
        test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for name, value in ({"model": on_disk.model, "checkpoint": on_disk.checkpoint} | params).items():
            test.query_params[name] = value
        test.run()
        return test if page == "home" else test.switch_page(f"pages/{page}.py").run()

    return opened


def html_tables(app: AppTest) -> dict[str, list[dict[str, str]]]:
    """Label -> rows of every table that widgets/tables.py drew, as text."""
    found = {}
    for each in app.get("html"):
        for label, body in re.findall(r'<table aria-label="([^"]*)">(.*?)</table>', each.value, re.S):
            head, *rows = (
                [
                    html.unescape(re.sub(r"<[^>]*>", "", cell))
                    for cell in re.findall(r"<t[hd].*?</t[hd]>", row)
                ]
                for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)
            )
            found[html.unescape(label)] = [dict(zip(head, row, strict=True)) for row in rows]
    return found


def tables(page: AppTest, label: str) -> list[str]:
    """HTML of the page's tables of this name."""
    bodies = [each.proto.body for each in page.get("html")]
    return [body for body in bodies if f'aria-label="{label}"' in body]


def at_rest(tab) -> None:
    """In a browser: wait until no run of the page is under way; what is typed while it is drawn anew may be lost."""
    time.sleep(0.5)
    tab.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
