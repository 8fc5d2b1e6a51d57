"""Leakage: the effect of an update on tokens of ordinary text, for several keys with the same effect at the source."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from npt_viz.capture.inspection import layers_of
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.cases import leakage_texts
from npt_viz.editing.making.from_source import Tokens, source_readings, update_from
from npt_viz.editing.making.readings import ReferenceInputs, reference_inputs
from npt_viz.editing.making.rules import UpdateRule, effects_at_source, rule_of
from npt_viz.editing.updates import Factors, Place, Update
from npt_viz.model.base import BaseModel
from npt_viz.results.editing import HitToken, Leakage
from npt_viz.shapes import Float

RULES_COMPARED = ("npt", "minimum_norm", "whitened")
CONTEXT = 6
"""Tokens shown in front of one that is hit."""


@torch.no_grad()
def leakage(
    model: BaseModel,
    checkpoint: Checkpoint,
    source: str | Sequence[int],
    *,
    layer: int,
    token: Tokens = -1,
    rule: UpdateRule | str = "npt",
    rules: Sequence[str] = RULES_COMPARED,
    texts: Sequence[str] = (),
    whitening: ReferenceInputs | None = None,
    top: int = 8,
) -> list[Leakage]:
    """Effect on other texts as a share of the effect at the source, for each rule and edited projection of one layer.

    rule: the settings that all rules share; texts: the bundled sample's by default, and never those that whiten.
    """
    shared = rule_of(rule)
    adapter = checkpoint.adapter(*layers_of(checkpoint, [layer]))
    places = [Place(layer, target) for target in adapter.targets]
    texts = texts or leakage_texts()
    reference = reference_inputs(model, texts, places, reads=shared.reads, positions=shared.positions)
    reading = source_readings(model, checkpoint, source, [layer], token, shared)[layer]
    at_source = {target: x for target, (x, _) in effects_at_source(model, adapter, reading, shared).items()}
    results = []
    for name in rules:
        update = update_from(
            model,
            checkpoint,
            source,
            layer=layer,
            token=token,
            rule=replace(shared, name=name),
            reference=whitening,
        )
        results += [
            _leakage(name, place, update, at_source[place.target], reference, top)
            for place in update.places
            if place.target in at_source
        ]
    return results


def _leakage(
    rule: str,
    place: Place,
    update: Update,
    source: Float[Tensor, "token inp"],
    reference: ReferenceInputs,
    top: int,
) -> Leakage:
    along, size = effects_elsewhere(update.factors[place], source.cpu(), reference.inputs[place])
    hit = torch.as_tensor(size).topk(min(top, len(size))).indices.tolist()
    return Leakage(
        rule=rule,
        parameter=place.parameter,
        leakage=along,
        effect=size,
        update_norm=update.factors[place].norm(),
        hit_most=tuple(_hit(reference, row, float(along[row])) for row in hit),
    )


def effects_elsewhere(
    factors: Factors, source: Float[Tensor, "token inp"], elsewhere: Float[Tensor, "n inp"]
) -> tuple[np.ndarray, np.ndarray]:
    """ΔW x′ along the effect at the source, and ‖ΔW x′‖; both (n,), as shares of the effect at the source.

    For one factor the first is v_a·x′ / v_a·x and the second its absolute value. Several source tokens count by
    their mean effect. Works on the factors' Gram matrix: no (n, out) array is made.
    """
    v_a, v_b = torch.from_numpy(factors.v_a).double(), torch.from_numpy(factors.v_b).double()
    gram = v_b @ v_b.T
    at_source = (source.double() @ v_a.T).mean(0)
    scalars = elsewhere.double() @ v_a.T
    square = at_source @ gram @ at_source
    along = scalars @ (gram @ at_source) / square
    size = ((scalars @ gram) * scalars).sum(-1).clamp_min(0).sqrt() / square.sqrt()
    return along.numpy(), size.numpy()


def _hit(reference: ReferenceInputs, row: int, value: float) -> HitToken:
    text, position = reference.tokens[row]
    pieces = reference.texts[text]
    before = "".join(piece.glyph for piece in pieces[max(0, position - CONTEXT) : position])
    return HitToken(before, pieces[position].glyph, value)
