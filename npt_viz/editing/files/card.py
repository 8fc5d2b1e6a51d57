"""Cards of exports: what a LoRA adapter or a merged model holds, where it comes from, and what to beware of."""

import json
from collections.abc import Sequence
from pathlib import Path

from npt_viz.checkpoint.card import CARD, front_matter, hub_id_of, plain, shown_base, table
from npt_viz.editing.updates import Update

BASES_CARD = "README-of-the-base.md"
"""What a card in the base's folder is called beside ours."""

_RELATION = {"lora": "adapter", "merged": "finetune"}
_WHAT = {
    "lora": "A LoRA adapter that makes a permanent weight update of {base}: one prompt's NPT modulation, added to the "
    "weights for every token of every text.",
    "merged": "{base} with a permanent weight update added to some of its MLP weights: one prompt's NPT modulation, for every "
    "token of every text. All other weights are the base's.",
}
_LOAD = {
    "lora": "from transformers import AutoModelForCausalLM\nfrom peft import PeftModel\n\n"
    "base = AutoModelForCausalLM.from_pretrained({base})\nmodel = PeftModel.from_pretrained(base, {name})",
    "merged": "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
    "model = AutoModelForCausalLM.from_pretrained({name})\ntokenizer = AutoTokenizer.from_pretrained({name})",
}


def write_card(
    folder: Path, name: str, kind: str, base: str, updates: Sequence[Update], notes: Sequence[str]
) -> None:
    """Write the card of an export into its folder; one that came with the base is kept under another name.

    kind: lora or merged. base: the base model's name; notes: what was checked, in sentences.
    """
    if (folder / CARD).exists():
        (folder / CARD).rename(folder / BASES_CARD)
    (folder / CARD).write_text(export_card(name, kind, base, updates, notes), encoding="utf-8")


def export_card(name: str, kind: str, base: str, updates: Sequence[Update], notes: Sequence[str]) -> str:
    """The card's text."""
    library = "peft" if kind == "lora" else "transformers"
    matter = front_matter(
        base_model=base,
        relation=_RELATION[kind],
        licence=None,
        tags=["npt", "npt_viz", "model-editing"],
        library=library,
    )
    shown = plain(shown_base(base))
    parts = [
        matter,
        f"# {plain(name)}",
        _WHAT[kind].format(base=shown),
        "> **Beware:** the change acts at every token of every text, not only at the prompt that it was taken from. What it "
        "does elsewhere shows in npt_viz on the page Permanent update, or by `npt-viz score`; measure before use.",
        "## Edits",
        table(("edit", "strength α", "matrix", "factors", "‖α ΔW‖"), _rows(updates)),
        table(("edit", "source", "prompt", "checkpoint", "weight"), _origins(updates)),
        "## Load",
        "```python\n"
        + _LOAD[kind].format(
            base=json.dumps(hub_id_of(base) or f"path/to/{shown_base(base)}"), name=json.dumps(name)
        )
        + "\n```",
        "`npt_edits.json` beside it holds the factors of every edit and its origin: npt_viz makes them again bit for bit "
        f"on {shown}.",
        "\n".join(f"- {plain(note)}" for note in notes),
        "The licence is that of the base model."
        + (f" The base's own card is {BASES_CARD}." if kind == "merged" else ""),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rows(updates: Sequence[Update]) -> list[tuple[object, ...]]:
    return [
        (
            number,
            float(update.alpha),
            place.parameter,
            len(factors),
            abs(float(update.alpha)) * factors.norm(),
        )
        for number, update in enumerate(updates, 1)
        for place, factors in sorted(update.factors.items())
    ]


def _origins(updates: Sequence[Update]) -> list[tuple[object, ...]]:
    return [
        (number, str(origin), _short(origin.prompt), Path(origin.checkpoint).name, origin.weight)
        for number, update in enumerate(updates, 1)
        for origin in update.origins
    ]


def _short(prompt: str) -> str:
    return prompt if len(prompt) <= 200 else f"{prompt[:200]}…"
