"""Adapters of the real base model for the validation of health: trained well, too short, without RoPE, or on a changed base.

python -m benchmarks.specimens FOLDER        trains what the folder lacks; one thread, about half an hour
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch

import npt_viz
from benchmarks.bases import planar
from npt_viz.adapter import Semantics
from npt_viz.adapter.semantics import VARIANTS
from npt_viz.checkpoint import save_checkpoint
from npt_viz.model.base import BaseModel
from npt_viz.texts import bundled_texts
from npt_viz.training.data import corpus_of
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.streams import Captures
from npt_viz.training.trainer import train

LAYERS = (2, 5, 9, 12, 15, 19, 23, 28)
TOKENS = 8_000
STEPS = 300
LOSS = "direct_robust=1"
"""Named, so that a new default does not make other specimens."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is trained at every layer of LAYERS."""

    name: str
    targets: tuple[str, ...] = ("gate", "up")
    rank: int = 64
    components: int = 1
    semantics: Semantics = field(default_factory=Semantics)
    positions: str = "deployed"
    steps: int = STEPS
    losses: str | None = LOSS
    """None: the default ones."""
    seed: int = 0
    is_planar: bool = False
    """On bases.planar."""


TRIPLE = ("gate", "up", "down")
RECIPES = (
    Recipe(name="N1-r8", targets=("gate",), rank=8),
    Recipe(name="N4-r64"),
    Recipe(name="N5-r64", targets=TRIPLE),
    Recipe(name="N4-r64-30-steps", steps=30),
    Recipe(name="T1-r64", targets=("gate",), semantics=VARIANTS["T1"].semantics),
    Recipe(name="S1-r64", targets=("gate",), semantics=VARIANTS["S1-later"].semantics),
    Recipe(name="N3-r64", semantics=Semantics(attention="beside")),
    Recipe(name="N1-r64-no-rope", targets=("gate",), positions="trained"),
    Recipe(name="N4-r64-no-rope", positions="trained"),
    Recipe(name="N5-r32-no-rope", targets=TRIPLE, rank=32, positions="trained"),
    Recipe(name="N4-r32-k4", rank=32, components=4),
    Recipe(name="N5-r256", targets=TRIPLE, rank=256),
    Recipe(name="N1-r128-k8", targets=("gate",), rank=128, components=8),
    # As health's floor is fitted, with another seed: a fresh fit cannot do better.
    Recipe(name="N1-r64-400-steps", targets=("gate",), steps=400, losses=None, seed=1),
    Recipe(name="N1-r64-planar", targets=("gate",), is_planar=True),
)


def train_all(folder: Path) -> None:
    torch.set_num_threads(1)
    model = npt_viz.open_model("smollm2-135m")
    captures = Captures(keep=1)
    for recipe in RECIPES[: int(sys.argv[2]) if len(sys.argv) > 2 else None]:
        if not (folder / recipe.name / "npt_config.json").exists():
            print(recipe.name, flush=True)
            base = planar(model, LAYERS) if recipe.is_planar else model
            _train(base, recipe, folder / recipe.name, captures)


def _train(model: BaseModel, recipe: Recipe, out: Path, captures: Captures) -> None:
    spec = AdapterSpec(
        layers=LAYERS,
        targets=recipe.targets,
        rank=recipe.rank,
        components=recipe.components,
        semantics=recipe.semantics,
    )
    corpus = corpus_of(model, bundled_texts(), tokens=TOKENS)
    # The floor's fit has the defaults of the trainer in everything.
    settings = {} if recipe.losses is None else {"losses": recipe.losses, "warmup": 20}
    training = train(
        model, spec, corpus, steps=recipe.steps, evaluate_every=recipe.steps, seed=recipe.seed,
        positions=recipe.positions, captures=captures, **settings,
    )  # fmt: skip
    last = None
    for step in training:
        last = step
    shares = {layer: round(held.recovered, 3) for layer, held in (last.heldout or {}).items()}
    print("  ", shares, f"{last.seconds:.0f} s", flush=True)
    save_checkpoint(
        out, training.adapters, model, recipe=training.described(), figures={}, licence="Apache-2.0"
    )


if __name__ == "__main__":
    train_all(Path(sys.argv[1]))
