"""Replay the injection_history.json of published NPT tools, with notes on what cannot be replayed.

Such a file says which text was injected into which layer, at which position and strength, and how large ΔW was; it
has no weights. So ΔW is made again from the checkpoint and held against the recorded size.
"""

import json
import math
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from npt_viz.adapter import RankOneSum
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.making.from_source import checkpoint_fingerprint, update_from
from npt_viz.editing.making.readings import layer_readings
from npt_viz.editing.making.rules import UpdateRule
from npt_viz.editing.updates import Factors, Origin, Place, Update, check_alpha
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode

SAME_SIZE = 0.05
"""Relative difference of recorded and replayed ‖ΔW‖ up to which they count as the same edit."""

NORM_KEYS = {"gate": ("gate_delta_norm", "delta_norm"), "up": ("up_delta_norm",)}


class Replayed(NamedTuple):
    """Updates replayed from a history, and notes."""

    updates: tuple[Update, ...]
    notes: tuple[str, ...]
    """What differs from the recorded edit and what could not be replayed, in sentences."""


def updates_from_history(path: str | Path, model: BaseModel, checkpoint: Checkpoint) -> Replayed:
    """Replay a history file: its edits as updates of this model and checkpoint, in the order of the file.

    Raises NptVizError where the file is no injection history.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NptVizError(f"{path} does not exist; give an injection_history.json") from None
    except (OSError, UnicodeDecodeError) as error:
        raise NptVizError(f"{path} cannot be read ({error}); give an injection_history.json") from None
    return updates_from_history_text(text, str(path), model, checkpoint)


def updates_from_history_text(text: str, where: str, model: BaseModel, checkpoint: Checkpoint) -> Replayed:
    """Replay the content of a history file. where: its name, for messages."""
    updates, notes, per_layer = [], [], dict[int, int]()
    for number, (layer, entry) in enumerate(_entries(text, where), 1):
        try:
            update = _replayed(model, checkpoint, layer, entry)
        except NptVizError as error:
            notes.append(f"entry {number} cannot be replayed: {error}")
            continue
        updates.append(update)
        per_layer[layer] = per_layer.get(layer, 0) + 1
        notes += [f"entry {number}: {note}" for note in _differences(update, entry)]
    if any(count > 1 for count in per_layer.values()):
        notes.append(
            "the file does not say whether an injection was added to the earlier ones of its layer or replaced them; "
            "all are replayed: undo those that were replaced"
        )
    return Replayed(tuple(updates), tuple(notes))


def _entries(text: str, where: str) -> Iterator[tuple[int, Mapping]]:
    """(layer, entry): either a flat list, or under injected_facts a list for each layer."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NptVizError(f"{where}: is no JSON ({error}); save it again") from None
    by_layer = content.get("injected_facts") if isinstance(content, dict) else {"": content}
    if not isinstance(by_layer, dict) or not all(isinstance(entries, list) for entries in by_layer.values()):
        raise NptVizError(
            f"{where}: is no injection history: it has neither a list nor injected_facts by layer"
        )
    for key, entries in by_layer.items():
        for entry in entries:
            if not isinstance(entry, dict):
                raise NptVizError(f"{where}: an entry is {entry!r:.40}, not an object; save it again")
            layer = entry.get("layer_idx", key)
            yield (int(layer) if str(layer).isdecimal() else -1), entry


def _replayed(model: BaseModel, checkpoint: Checkpoint, layer: int, entry: Mapping) -> Update:
    fact, alpha, where = entry.get("fact"), entry.get("alpha", 1.0), entry.get("position", "last")
    if not isinstance(fact, str) or not fact:
        raise NptVizError("it has no fact, the text that was injected")
    check_alpha(alpha)
    if layer < 0:
        if len(checkpoint.layers) != 1:
            raise NptVizError("it does not say which layer, and the checkpoint has several")
        layer = checkpoint.layers[0]
    if layer not in checkpoint.layers:
        raise NptVizError(f"layer {layer} is no NPT layer of {checkpoint.name}")
    if not all(isinstance(part, RankOneSum) for part in checkpoint.adapter(layer).learned.values()):
        raise NptVizError(f"layer {layer} of {checkpoint.name} is no sum of rank-1 updates")
    if where not in ("last", "first", "all"):
        raise NptVizError(f"position {where!r} is none of last, first, all")
    if where == "all":
        return _mean_of_vectors(model, checkpoint, layer, fact, alpha)
    rule = UpdateRule(positions="trained")
    token = -1 if where == "last" else 0
    return update_from(model, checkpoint, fact, layer=layer, token=token, alpha=alpha, rule=rule)


@torch.no_grad()
def _mean_of_vectors(model: BaseModel, checkpoint: Checkpoint, layer: int, fact: str, alpha: float) -> Update:
    """As the published tool does it for all positions: mean v_a times mean v_b, which is not the mean of ΔW."""
    encoded, adapter = encode(model, fact), checkpoint.adapter(layer)
    reading = layer_readings(model, torch.tensor([encoded.ids]), [layer], positions="trained")[layer]
    factors = {}
    for target, part in adapter.learned.items():
        assert isinstance(part, RankOneSum), "_replayed refuses the other rules"
        attention = reading.attention.to(next(part.parameters()))
        v_a, v_b = part.v_a(attention).mean(0), part.v_b(attention).mean(0)
        factors[Place(layer, target)] = Factors(v_a.cpu().numpy(), v_b.cpu().numpy())
    origin = Origin(
        rule="npt",
        prompt=fact,
        layers=(layer,),
        tokens=tuple(range(len(encoded.ids))),
        glyphs=tuple(piece.glyph for piece in encoded.pieces),
        checkpoint=checkpoint.name,
        checkpoint_fingerprint=checkpoint_fingerprint(checkpoint, [layer]),
        combine="mean",
        positions="trained",
        details=(
            "mean of v_a times mean of v_b, as the published tool did; the mean of ΔW is another matrix",
        ),
    )
    return Update(factors=factors, alpha=alpha, base=model.fingerprint([layer]), origins=(origin,))


def _differences(update: Update, entry: Mapping) -> Iterator[str]:
    norms = {place.target: norm for place, norm in update.norms().items()}
    recorded_places = entry.get("projections_modified") or ["gate"]
    modified = (
        list(map(str, recorded_places)) if isinstance(recorded_places, list) else [str(recorded_places)]
    )
    if set(modified) != set(norms):
        yield (
            f"it recorded an edit of {' and '.join(modified)}, the checkpoint edits {' and '.join(norms)}; "
            "it may come from another checkpoint"
        )
    for target, norm in norms.items():
        recorded = next((entry[key] for key in NORM_KEYS.get(target, ()) if key in entry), None)
        if not isinstance(recorded, int | float) or not abs(recorded) <= sys.float_info.max:
            continue
        if not math.isclose(norm, recorded, rel_tol=SAME_SIZE):
            yield (
                f"‖ΔW‖ of {target} was {recorded:.4g} and is {norm:.4g} when replayed; the published code ran attention "
                "without RoPE, in some versions without a causal mask, and perhaps in another precision"
            )
