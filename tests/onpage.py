"""A tiny base model and a checkpoint in files, for tests that open them through the app."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from conftest import specimen, tiny_model
from streamlit.testing.v1 import AppTest

from npt_viz.checkpoint import save_checkpoint
from npt_viz.ui.nav import ROOT

LAYERS = (1, 3)
"""The NPT layers of the checkpoint."""


class OnDisk(NamedTuple):
    """Two folders, as strings a user would type."""

    model: str
    checkpoint: str


def written(folder: Path, *, context: int = 97) -> OnDisk:
    """Save the tiny Llama and an N5 checkpoint with two components for two of its layers."""
    model = tiny_model()
    model.hf.config.max_position_embeddings = context
    model.hf.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    adapters = {layer: specimen(model, "N5", layer, components=2, seed=layer) for layer in LAYERS}
    checkpoint = folder / "npt-tiny"
    save_checkpoint(checkpoint, adapters, model, recipe={"steps": 0}, figures={}, licence="Apache-2.0")
    return OnDisk(str(folder / "model"), str(checkpoint))


def opener(on_disk: OnDisk) -> Callable[..., AppTest]:
    """Opens the app as a browser would: a page, and what its address says."""

    def opened(page: str = "home", **params: str) -> AppTest:
        test = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
        for name, value in ({"model": on_disk.model, "checkpoint": on_disk.checkpoint} | params).items():
            test.query_params[name] = value
        test.run()
        return test if page == "home" else test.switch_page(f"pages/{page}.py").run()

    return opened
