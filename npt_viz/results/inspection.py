"""What one prompt shows of every NPT layer, token by token."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from npt_viz.question import Mode, Positions
from npt_viz.results.shown import Shown


class Token(NamedTuple):
    """A token as people see it."""

    glyph: str
    """Visible text: ␣ for a space, ↵ for a newline, ⟨0xE2⟩ for a byte that is no character by itself."""
    kind: str
    """text, special or bytes."""
    id: int
    raw: str
    """repr of the exact text, or of the bytes."""


class Metric(NamedTuple):
    """How to read one number a token: its unit or formula, what it means, and what to hold it against."""

    label: str
    unit: str
    meaning: str
    reference: float | None
    """The value that means 'nothing happens' or 'perfect'; None where there is none."""
    signed: bool
    good: str = ""
    """Values to expect of a healthy layer, or what to compare with."""
    source: str = ""
    """Where that, and the formula, comes from: a section of the documents."""


METRICS: dict[str, Metric] = {
    "scalar": Metric(
        "scalar v_a·z",
        "",
        "what the layer multiplies v_b by: how strongly the token turns its own modulation on (component 0)",
        0.0,
        True,
        good="varies from token to token; one value for all tokens makes the update static",
        source="docs/mathematics.md §1, docs/health.md scalar_constant",
    ),
    "v_a_dot_h": Metric(
        "v_a·h",
        "",
        "the scalar as the documents write it, before the norm; the layer's own is v_a·z with z = h/rms(h) ⊙ weight, equal "
        "where rms(h) and the weights are 1 (component 0)",
        0.0,
        True,
        good="no range of its own; it multiplies nothing in the layer",
        source="docs/mathematics.md §1",
    ),
    "update_norm": Metric(
        "‖ΔW‖ of the gate",
        "Frobenius",
        "size of the weight change that the token receives",
        0.0,
        False,
        good="no absolute range; compare tokens and layers of one checkpoint",
        source="docs/mathematics.md §4",
    ),
    "gate_change": Metric(
        "relative gate change",
        "‖δ‖ / ‖W_g z‖",
        "how far the gate moves against its own size",
        0.0,
        False,
        good="above 0.002, half a bfloat16 step, below which rounding swallows it",
        source="docs/mathematics.md §12, docs/health.md vanishing",
    ),
    "relative_error": Metric(
        "relative error",
        "‖ŷ−target‖ / ‖target‖",
        "distance of the modulated MLP from its target",
        0.0,
        False,
        good="below that of no modulation, which the share recovered compares with; 0 is perfect",
        source="docs/mathematics.md §3",
    ),
    "cosine": Metric(
        "cosine",
        "cos(ŷ, target)",
        "whether the output points the right way; 1 is perfect",
        1.0,
        True,
        good="near 1",
        source="docs/mathematics.md §3",
    ),
    "magnitude_ratio": Metric(
        "magnitude ratio",
        "‖ŷ‖ / ‖target‖",
        "whether the output has the right size; 1 is perfect",
        1.0,
        False,
        good="near 1",
        source="docs/mathematics.md §3",
    ),
    "recovered": Metric(
        "share recovered",
        "1 − ‖ŷ−target‖² / ‖MLP(z)−target‖²",
        "share of the attention effect that the modulation replaces; 0 is no modulation, 1 is perfect",
        0.0,
        True,
        good="held-out medians of the demo checkpoints: 0.42 for the gate alone, 0.81 for gate and up, 0.82 to 0.94 for gate, up and down; below 0 is worse than no modulation",
        source="docs/mathematics.md §3, checkpoints/README.md",
    ),
    "hidden_norm": Metric(
        "‖h‖",
        "",
        "size of the residual stream entering the layer",
        None,
        False,
        good="no range; a token above ten times the median of its sequence is an attention sink",
        source="docs/mathematics.md §8",
    ),
    "attention_norm": Metric(
        "‖a‖",
        "",
        "size of the attention output that is to be replaced",
        None,
        False,
        good="no range; it belongs to the base model",
        source="docs/mathematics.md §1",
    ),
}
"""The columns of a layer's inspection that a page can colour by."""

NO_V_A_DOT_H = "down has no v_a·h: its v_a has the width of m, and no stream before a norm has that"
"""Why a row, a column or a cell of v_a·h is a dash."""

TOKEN_METRICS: dict[str, Metric] = {
    "kl": Metric(
        "KL(base ‖ NPT)",
        "nats",
        "how far the next-token prediction moves; 0 is unchanged",
        0.0,
        False,
        good="medians of the demo checkpoints run for real: 0.01 to 0.05, with attention dropped 0.07 for layer 15",
        source="docs/mathematics.md §9, checkpoints/README.md",
    ),
    "nll_change": Metric(
        "ΔNLL",
        "nats",
        "extra surprise of the NPT model at the token that really follows",
        0.0,
        True,
        good="near 0; positive is worse than the base",
        source="docs/mathematics.md §9",
    ),
}
"""The columns that belong to the whole NPT model."""


@dataclass(frozen=True, kw_only=True)
class TopTokens:
    """The k most probable next tokens after every token."""

    ids: np.ndarray
    """(token, k) vocabulary ids"""
    probabilities: np.ndarray
    """(token, k), descending"""
    glyphs: tuple[tuple[str, ...], ...]
    """(token, k)"""

    def __len__(self) -> int:
        return len(self.glyphs)

    def rows(self, token: int) -> list[tuple[str, int, float]]:
        """(glyph, id, probability) after one token, most probable first."""
        return [
            (glyph, int(id_), float(p))
            for glyph, id_, p in zip(
                self.glyphs[token], self.ids[token], self.probabilities[token], strict=True
            )
        ]


@dataclass(frozen=True, kw_only=True)
class LayerInspection:
    """One NPT layer. Every array has the token as first axis; float32 unless said otherwise."""

    layer: int
    variant: str
    """N1 … T1, or a description."""
    scalars: Mapping[str, np.ndarray]
    """Target -> (token, component), the modulation scalars v_a·x; no columns where the rule has none."""
    dots_with_h: Mapping[str, np.ndarray]
    """Target -> (token, component) v_a·h with h the stream that enters the layer, before its norm. It multiplies nothing;
    gate and up only, because v_a of the down target has the width of m."""
    update_norms: Mapping[str, np.ndarray]
    """Target -> (token,) ‖ΔW‖_F; NaN where the rule is no weight change."""
    component_norms: Mapping[str, np.ndarray]
    """Target -> (token, component) ‖v_a,j‖‖v_b,j‖, the size of each rank-1 part."""
    component_effects: Mapping[str, np.ndarray]
    """Target -> (token, component) ‖s_j v_b,j‖, what each component adds to the projection's output."""
    changes: Mapping[str, np.ndarray]
    """Target -> (token,) ‖what the modulation adds‖ / ‖the projection's own output‖."""
    relative_error: np.ndarray
    """(token,) ‖ŷ − target‖ / ‖target‖"""
    cosine: np.ndarray
    """(token,) cos(ŷ, target)"""
    magnitude_ratio: np.ndarray
    """(token,) ‖ŷ‖ / ‖target‖"""
    recovered: np.ndarray
    """(token,) 1 − ‖ŷ − target‖² / ‖MLP(z) − target‖²; NaN where attention changes nothing"""
    hidden_norm: np.ndarray
    """(token,) ‖h‖"""
    attention_norm: np.ndarray
    """(token,) ‖a‖"""

    @property
    def targets(self) -> tuple[str, ...]:
        return tuple(self.scalars)

    @property
    def main_target(self) -> str:
        """gate, or the first target where the gate has no modulation: what `scalar` and `gate_change` are of."""
        return _main(self.targets)

    @property
    def scalar(self) -> np.ndarray:
        """(token, component) of the gate, or of the first target where the gate has none."""
        return self.scalars[_main(self.targets)]

    @property
    def v_a_dot_h(self) -> np.ndarray:
        """(token, component) of the same target as `scalar`; no columns where it reads m and not h."""
        return self.dots_with_h.get(_main(self.targets), np.empty((len(self.cosine), 0), np.float32))

    @property
    def update_norm(self) -> np.ndarray:
        """(token,) ‖ΔW‖_F of the gate, or of the first target."""
        return self.update_norms[_main(self.targets)]

    @property
    def gate_change(self) -> np.ndarray:
        """(token,) relative change of the gate, or of the first target."""
        return self.changes[_main(self.targets)]

    def strongest_component(self, target: str, token: int) -> int:
        """The component that adds most to the target's output at a token; 0 where there is none."""
        effects = self.component_effects[target][token]
        return int(np.argmax(effects)) if effects.size else 0

    def values(self, metric: str) -> np.ndarray:
        """(token,) one column of METRICS; NaN everywhere where this variant has no such number."""
        values = getattr(self, metric)
        if values.ndim == 1:
            return values
        return values[:, 0] if values.shape[1] else np.full(len(values), np.nan, np.float32)


def _main(targets: tuple[str, ...]) -> str:
    return "gate" if "gate" in targets else targets[0]


@dataclass(frozen=True, kw_only=True)
class Inspection(Shown):
    """One prompt through the base model and the NPT model.

    `layers` follow `mode`: local (every NPT layer is fed the base model's own h and a) or propagated (the NPT
    model runs and errors add up; ŷ is what the NPT layer writes, the target is what the base's layer writes).
    `kl`, `nll` and the top-k tables are always those of the NPT model run for real with all of `layers`.
    """

    prompt: str
    model: str
    checkpoint: str
    mode: Mode
    positions: Positions
    pieces: tuple[Token, ...]
    """The tokens as people see them."""
    layers: Mapping[int, LayerInspection]
    is_sink: np.ndarray
    """(token,) bool: attention sinks, whose residual norm dwarfs the others; left out of means by default"""
    kl: np.ndarray | None = None
    """(token,) KL(base ‖ NPT) of the next-token distribution, nats"""
    nll_base: np.ndarray | None = None
    """(token,) −log p of the token that follows, nats; NaN at the last token"""
    nll_npt: np.ndarray | None = None
    base_top: TopTokens | None = None
    npt_top: TopTokens | None = None
    base: str = ""
    """Layers, widths and vocabulary of the base model: what two runs must share to be compared layer by layer."""
    n_edits: int = 0
    """Permanent updates that lie beneath both models: the base is then the edited one."""
    notes: tuple[str, ...] = field(default=())
    """What a reader must know, in sentences."""

    def __post_init__(self):
        for layer, found in self.layers.items():
            if found.relative_error.shape != (len(self.pieces),):
                raise ValueError(
                    f"layer {layer}: {found.relative_error.shape} does not fit {len(self.pieces)} tokens"
                )

    @property
    def tokens(self) -> tuple[str, ...]:
        """The glyphs."""
        return tuple(piece.glyph for piece in self.pieces)

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(piece.id for piece in self.pieces)

    @property
    def nll_change(self) -> np.ndarray | None:
        """(token,) NLL(NPT) − NLL(base), nats"""
        if self.nll_base is None or self.nll_npt is None:
            return None
        return self.nll_npt - self.nll_base

    def to_frame(self):
        """pandas: one row a layer and token; scalars as scalar_{target}_{component}, v_a·h likewise."""
        import pandas as pd

        return pd.DataFrame(list(self._rows()))

    def _rows(self) -> Iterator[dict]:
        for layer, found in self.layers.items():
            for i, piece in enumerate(self.pieces):
                row = {
                    "layer": layer,
                    "token": i,
                    "glyph": piece.glyph,
                    "id": piece.id,
                    "is_sink": bool(self.is_sink[i]),
                }
                row |= {name: float(found.values(name)[i]) for name in METRICS}
                for target, scalars in found.scalars.items():
                    row |= {f"scalar_{target}_{j}": float(s) for j, s in enumerate(scalars[i])}
                    if target in found.dots_with_h:
                        dots = found.dots_with_h[target][i]
                        row |= {f"v_a_dot_h_{target}_{j}": float(dot) for j, dot in enumerate(dots)}
                    row[f"update_norm_{target}"] = float(found.update_norms[target][i])
                    row[f"change_{target}"] = float(found.changes[target][i])
                if self.kl is not None:
                    row["kl"] = float(self.kl[i])
                    row["nll_change"] = float(self.nll_change[i])
                yield row
