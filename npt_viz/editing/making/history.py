"""Replay the injection_history.json of published NPT tools, with notes on what cannot be replayed.

Such a file says which text was injected into which layer, at which position and strength, and how large ΔW was; it
has no weights. So ΔW is made again from the checkpoint and held against what was recorded. The published tool read
v_a and v_b of a layer while the NPT layers below it ran as NPT layers, on the weights that it had edited so far.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from npt_viz.adapter import RankOneSum
from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.making.from_source import checkpoint_fingerprint
from npt_viz.editing.making.readings import layer_readings
from npt_viz.editing.making.recorded import Recorded, tolerance_of
from npt_viz.editing.making.ways import PUBLISHED, Way, other_ways, without_mask
from npt_viz.editing.updates import Factors, Number, Origin, Place, Update, check_alpha
from npt_viz.errors import NptVizError
from npt_viz.identity import text_in
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import Encoded, encode
from npt_viz.places import typed_path
from npt_viz.shapes import Float, Tensor


class Replayed(NamedTuple):
    """Updates replayed from a history, and notes."""

    updates: tuple[Update, ...]
    """In the order in which they were injected."""
    notes: tuple[str, ...]
    """What differs from the recorded edit and what could not be replayed, in sentences."""


def updates_from_history(path: str | Path, model: BaseModel, checkpoint: Checkpoint) -> Replayed:
    """Replay a history file: its edits as updates of this model and checkpoint, in the order of their injection.

    Raises NptVizError where the file is no injection history.
    """
    path = typed_path(path)
    text = text_in(path, "an injection_history.json")
    return updates_from_history_text(text, str(path), model, checkpoint)


@torch.no_grad()
def updates_from_history_text(text: str, where: str, model: BaseModel, checkpoint: Checkpoint) -> Replayed:
    """Replay the content of a history file. where: its name, for messages."""
    content = _content(text, where)
    entries = sorted(_entries(content, where), key=lambda entry: entry.time)
    session = _Session(model, checkpoint, _npt_layers(content, checkpoint))
    for entry in entries:
        session.replay(entry)
    return Replayed(tuple(session.updates), (*session.notes, *session.closing_notes(content)))


class _Entry(NamedTuple):
    number: int
    """In the file, 1 for the first."""
    layer: int
    """-1 where it is not said."""
    values: Mapping[str, Any]

    @property
    def time(self) -> str:
        """ISO times sort as text; entries without one keep their order in the file, before the others."""
        time = self.values.get("timestamp")
        return time if isinstance(time, str) else ""


@dataclass
class _Session:
    """The tool's model while a history is replayed: the base, its NPT layers and the edits so far."""

    model: BaseModel
    checkpoint: Checkpoint
    npt_layers: Sequence[int]
    """Layers that ran as NPT layers."""
    updates: list[Update] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    undecided: bool = False
    """Whether an edit was added to an earlier one of its layer without a record that says so."""
    timeless: bool = False
    """Whether an edit was read on top of edits of other layers without a record of their order."""

    def replay(self, entry: _Entry) -> None:
        """Make the update of one entry, and note what differs from what was recorded."""
        try:
            request = _request(entry, self.checkpoint)
        except NptVizError as error:
            self.notes.append(f"entry {entry.number} cannot be replayed: {error}")
            return
        published = self._made(request, PUBLISHED)
        recorded = Recorded.of(entry.values, published)
        chosen, told = self._fitting(request, published, recorded)
        earlier = [update for update in self.updates if request.layer in update.layers]
        added = recorded.says_added(self.model, earlier, chosen) if earlier else True
        self.undecided |= added is None
        self.timeless |= not entry.time and any(update.layers[0] < request.layer for update in self.updates)
        if added is False:
            told.append(
                "its recorded weight change fits the weights without the earlier edits of this layer, which it "
                "replaced; undo those"
            )
        told += recorded.direction_notes(self.model, earlier if added is not False else [], chosen)
        self.notes += [f"entry {entry.number}: {note}" for note in told]
        self.updates.append(chosen)

    def closing_notes(self, content: object) -> Iterator[str]:
        """What holds for the whole file."""
        if self.undecided:
            yield (
                "the file does not say whether an injection was added to the earlier ones of its layer or replaced "
                "them; all are replayed: undo those that were replaced"
            )
        if self.timeless:
            yield (
                "the entries have no time, so they are replayed in the order of the file; in another order the later "
                "layers read other states"
            )
        named = _layers_of(content)
        edited = max((update.layers[0] for update in self.updates), default=-1)
        if missing := [layer for layer in named if layer < edited and layer not in self.checkpoint.layers]:
            yield (
                f"the tool ran layers {', '.join(map(str, named))} as NPT layers and {self.checkpoint.name} has no "
                f"{', '.join(map(str, missing))}; open the checkpoint with all of them"
            )

    def _fitting(
        self, request: "_Request", published: Update, recorded: Recorded
    ) -> tuple[Update, list[str]]:
        """The update whose sizes were recorded, and notes: the published way first, others where it does not fit."""
        tolerance = tolerance_of(recorded.figures.values(), self.model.dtype)
        differing = recorded.differences(published, tolerance)
        told = list(recorded.place_notes(published))
        if not differing:
            return published, told
        has_below = any(each < request.layer for each in self.npt_layers)
        told_way = PUBLISHED.said(has_below)
        tried = []
        for way in other_ways(has_below):
            update = self._made(request, way)
            if not recorded.differences(update, tolerance):
                cosine = min(published.factors[p].cosine(update.factors[p]) for p in update.places)
                told.append(
                    f"what was recorded fits a source that ran {way.said(has_below)}, not {told_way} (cosine of both "
                    f"ΔW {cosine:.3f}); it is replayed so"
                )
                return update, told
            tried.append(way.said(has_below))
        told += [f"{difference} when replayed {told_way}" for difference in differing]
        told.append(f"it is not reached either {'; '.join(tried)}")
        told += recorded.causes(self.model, published, tolerance)
        return published, told

    def _made(self, request: "_Request", way: Way) -> Update:
        """ΔW of one entry with the source run in one way."""
        layer, encoded = request.layer, request.encoded(self.model)
        below = [each for each in self.npt_layers if each < layer]
        lane = edited_lane(
            self.model,
            [update for update in self.updates if update.layers[0] < layer],
            way.lane({each: self.checkpoint.adapter(each) for each in below}),
        )
        with self.model.lock, without_mask(self.model, len(encoded.ids), not way.causal):
            reading = layer_readings(
                self.model, torch.tensor([encoded.ids]), [layer], lane=lane, positions=way.positions
            )[layer]
        return Update(
            factors=_factors(self.checkpoint, layer, reading.attention, request.where),
            alpha=request.alpha,
            base=self.model.fingerprint([layer]),
            origins=(_origin(self.checkpoint, request, encoded, below, way),),
        )


class _Request(NamedTuple):
    """What an entry asks for."""

    layer: int
    fact: str
    alpha: Number
    where: str
    """last, first or all"""

    def encoded(self, model: BaseModel) -> Encoded:
        return encode(model, self.fact)

    def tokens(self, n: int) -> tuple[int, ...]:
        """Positions whose vectors are read."""
        return {"last": (n - 1,), "first": (0,)}.get(self.where, tuple(range(n)))


def _request(entry: _Entry, checkpoint: Checkpoint) -> _Request:
    """The entry as the tool would take it; NptVizError where it cannot be replayed."""
    values, layer = entry.values, entry.layer
    fact, alpha, where = values.get("fact"), values.get("alpha", 1.0), values.get("position", "last")
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
    return _Request(layer, fact, alpha, where)


def _factors(
    checkpoint: Checkpoint, layer: int, attention: Float[Tensor, "token model"], where: str
) -> dict[Place, Factors]:
    """v_a and v_b at the last or first token; for all, the mean of each, which is not the mean of ΔW."""
    factors = {}
    for target, part in checkpoint.adapter(layer).learned.items():
        assert isinstance(part, RankOneSum), "_request refuses the other rules"
        seen = attention.to(next(part.parameters()))
        seen = {"last": seen[-1:], "first": seen[:1]}.get(where, seen)
        v_a, v_b = part.v_a(seen).mean(0), part.v_b(seen).mean(0)
        factors[Place(layer, target)] = Factors(v_a.cpu().numpy(), v_b.cpu().numpy())
    return factors


def _origin(
    checkpoint: Checkpoint, request: _Request, encoded: Encoded, below: Sequence[int], way: Way
) -> Origin:
    tokens = request.tokens(len(encoded.ids))
    details = []
    if request.where == "all":
        details.append(
            "mean of v_a times mean of v_b, as the published tool did; the mean of ΔW is another matrix"
        )
    if below:
        details.append(f"the source ran {way.said(True)}: {', '.join(map(str, below))}")
    return Origin(
        rule="npt",
        prompt=request.fact,
        layers=(request.layer,),
        tokens=tokens,
        glyphs=tuple(encoded.pieces[t].glyph for t in tokens),
        checkpoint=checkpoint.name,
        checkpoint_fingerprint=checkpoint_fingerprint(checkpoint, [request.layer]),
        combine="mean",
        positions=way.positions,
        mode="propagated" if below and way.below != "base" else "local",
        details=tuple(details),
    )


def _content(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NptVizError(f"{where}: is no JSON ({error}); save it again") from None


def _entries(content: object, where: str) -> Iterator[_Entry]:
    """Either a flat list, or under injected_facts a list for each layer."""
    by_layer: Any = content.get("injected_facts") if isinstance(content, dict) else {"": content}
    if not isinstance(by_layer, dict) or not all(isinstance(entries, list) for entries in by_layer.values()):
        raise NptVizError(
            f"{where}: is no injection history: it has neither a list nor injected_facts by layer"
        )
    number = 0
    for key, entries in by_layer.items():
        for values in entries:
            if not isinstance(values, dict):
                raise NptVizError(f"{where}: an entry is {values!r:.40}, not an object; save it again")
            number += 1
            layer = values.get("layer_idx", key)
            yield _Entry(number, int(layer) if str(layer).isdecimal() else -1, values)


def _layers_of(content: object) -> list[int]:
    """The NPT layers that the tool's model had, as far as the file says."""
    info = content.get("model_info") if isinstance(content, dict) else None
    for holder, key in ((content, "available_layers"), (info, "npt_layers")):
        layers = holder.get(key) if isinstance(holder, dict) else None
        if isinstance(layers, list) and all(type(layer) is int for layer in layers):
            return sorted(layers)
    return []


def _npt_layers(content: object, checkpoint: Checkpoint) -> list[int]:
    """Layers that ran as NPT layers: those that the file names and the checkpoint has, else all of the checkpoint."""
    named = _layers_of(content)
    return [layer for layer in checkpoint.layers if not named or layer in named]
