"""The other ways to use one layer's adapter: what a file, a script or a hand may have got wrong about it.

Everything shares the adapter's tensors; nothing is copied.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from typing import NamedTuple, get_args

from torch import Tensor, nn

from npt_viz.adapter import (
    VARIANTS,
    Additive,
    LayerAdapter,
    LowRank,
    LowRankPooled,
    Modulation,
    RankOneSum,
    Semantics,
)
from npt_viz.adapter.amplified import Amplified
from npt_viz.adapter.semantics import AttentionPath
from npt_viz.question import Positions
from npt_viz.results.better import Kind

FACTORS = (
    *(4.0**step for step in range(-4, -1)),
    0.1,
    *(2 ** (step / 2) for step in range(-6, 7) if step),
    10.0,
    *(4.0**step for step in range(2, 8)),
)
"""Sizes of the whole modulation that are tried, besides ×1: steps of √2 up to eight times, steps of 4 down to 1/256 and up to
16,384 times (a modulation that vanishes may be all there), and the modulation_scale that gets lost."""

FACTORS_OF_ONE = (0.1, 0.25, 0.5, 2.0, 4.0, 10.0)
"""Sizes that are tried of one target's modulation alone."""


class Trial(NamedTuple):
    """One way to use an adapter."""

    kind: Kind
    name: str
    adapter: LayerAdapter
    positions: Positions = "deployed"
    value: float | str | None = None
    target: str | None = None
    """Where the way is about one target alone."""


def trials(adapter: LayerAdapter, n_layers: int) -> Iterator[Trial]:
    """As it is, and every alternative; the first is the adapter as it is."""
    yield Trial("as it is", "as it stands", adapter)
    yield Trial("positions", "without RoPE", adapter, positions="trained")
    yield from _signs(adapter)
    yield from _sizes(adapter)
    yield from _swaps(adapter)
    yield from _readings(adapter)
    for layer in range(n_layers):
        if layer != adapter.layer:
            yield Trial("layer", f"in layer {layer}", _elsewhere(adapter, layer), value=layer)


def _signs(adapter: LayerAdapter) -> Iterator[Trial]:
    yield Trial("sign", "with the sign of what it adds turned", _amplified(adapter, -1.0), value=-1.0)
    if len(adapter.targets) > 1:
        for target in adapter.targets:
            turned = _amplified(adapter, -1.0, (target,))
            name = f"with the sign of what it adds to {target} turned"
            yield Trial("sign", name, turned, value=-1.0, target=target)


def _sizes(adapter: LayerAdapter) -> Iterator[Trial]:
    for factor in FACTORS:
        yield Trial(
            "size", f"with {factor:.3g} times what it adds", _amplified(adapter, factor), value=factor
        )
    if len(adapter.targets) > 1:
        for target in adapter.targets:
            for factor in FACTORS_OF_ONE:
                sized = _amplified(adapter, factor, (target,))
                name = f"with {factor:g} times what it adds to {target}"
                yield Trial("size", name, sized, value=factor, target=target)


def _swaps(adapter: LayerAdapter) -> Iterator[Trial]:
    """Whole modulations, and single factors, exchanged between targets; W_down also in a circle of three."""
    learned: dict[str, Modulation] = {**adapter.learned}
    for order in permutations(learned):
        if order == tuple(learned) or not _fit(learned, order):
            continue
        pairs = ", ".join(f"{new} for {old}" for old, new in zip(learned, order, strict=True) if old != new)
        exchanged = {old: learned[new] for old, new in zip(learned, order, strict=True)}
        yield Trial("swapped", f"with the weights of {pairs}", _with(adapter, exchanged))
    for name in ("W_down", "W_a_up", "W_b_up"):
        for order in permutations(learned):
            if order == tuple(learned):
                continue
            exchanged = _factor_exchanged(learned, name, order)
            if exchanged is not None:
                pairs = ", ".join(f"{n} for {o}" for o, n in zip(learned, order, strict=True) if o != n)
                yield Trial("swapped", f"with {name} of {pairs}", _with(adapter, exchanged))
    for target, modulation in learned.items():
        if isinstance(modulation, Additive) and _both_there(modulation):
            turned = Additive(
                modulation.W_down, modulation.W_mult, modulation.W_add,
                factor=adapter.semantics.factor, scale=modulation.scale,
            )  # fmt: skip
            yield Trial(
                "swapped",
                "with its additive and its multiplicative part exchanged",
                _with(adapter, {target: turned}),
            )


def _readings(adapter: LayerAdapter) -> Iterator[Trial]:
    """Every other semantics that the same tensors can have."""
    for name, semantics in other_readings(adapter.semantics).items():
        words = f"read with attention {name}" if name in get_args(AttentionPath) else f"read as {name}"
        yield Trial("reading", words, _read_as(adapter, semantics), value=name)


def other_readings(semantics: Semantics) -> dict[str, Semantics]:
    """Name -> the other semantics that the same tensors can have: a variant's, or an attention path."""
    if semantics.rule in ("rank_one_sum", "low_rank_tanh"):
        path = {"withheld": "beside", "beside": "withheld"}.get(semantics.attention)
        return {path: replace(semantics, attention=path)} if path else {}
    return {
        name: variant.semantics
        for name, variant in VARIANTS.items()
        if variant.semantics != semantics
        and _SAME_TENSORS.get(variant.semantics.rule) == _SAME_TENSORS.get(semantics.rule)
    }


_SAME_TENSORS = {
    "additive": "one product",
    "low_rank_pooled": "one product",
    "multiplicative": "a factor",
    "additive_multiplicative": "both",
}
"""Rule -> what its tensors are; rules with the same are readings of each other."""


def _elsewhere(adapter: LayerAdapter, layer: int) -> LayerAdapter:
    return LayerAdapter(layer, adapter.semantics, dict(adapter.modulations.items()))


def _with(adapter: LayerAdapter, modulations: Mapping[str, nn.Module]) -> LayerAdapter:
    return LayerAdapter(
        adapter.layer, adapter.semantics, dict(adapter.modulations.items()) | dict(modulations)
    )


def _amplified(adapter: LayerAdapter, factor: float, targets: tuple[str, ...] | None = None) -> LayerAdapter:
    chosen = adapter.targets if targets is None else targets
    return _with(adapter, {target: Amplified(adapter.modulations[target], factor) for target in chosen})


def _fit(learned: Mapping[str, Modulation], order: tuple[str, ...]) -> bool:
    return all(
        _shapes(learned[old]) == _shapes(learned[new]) for old, new in zip(learned, order, strict=True)
    )


def _shapes(modulation: Modulation) -> tuple:
    """Without the number of components: a sum has room for any."""
    return type(modulation), tuple(
        (name, tuple(p.shape[-2:]) if name == "W_down" else p.shape[-1])
        for name, p in modulation.named_parameters()
    )


def _factor_exchanged(
    learned: Mapping[str, Modulation], name: str, order: tuple[str, ...]
) -> dict[str, Modulation] | None:
    """Every target with this factor of another one; None where a shape does not fit."""
    exchanged = {}
    for old, new in zip(learned, order, strict=True):
        own, other = getattr(learned[old], name, None), getattr(learned[new], name, None)
        if own is None or other is None or own.shape != other.shape:
            return None
        exchanged[old] = _having(learned[old], name, other)
    return exchanged


def _having(modulation: Modulation, name: str, tensor: Tensor) -> Modulation:
    """The modulation with another tensor in one place; only sums of rank-1 updates have several targets."""
    assert isinstance(modulation, RankOneSum)
    parts = dict(modulation.named_parameters()) | {name: tensor}
    return RankOneSum(parts["W_down"], parts["W_a_up"], parts["W_b_up"], scale=modulation.scale)


def _both_there(modulation: Additive) -> bool:
    return getattr(modulation, "W_mult", None) is not None and getattr(modulation, "W_add", None) is not None


def _read_as(adapter: LayerAdapter, semantics: Semantics) -> LayerAdapter:
    """The same tensors under another reading."""
    read = {target: _as_rule(modulation, semantics) for target, modulation in adapter.learned.items()}
    return LayerAdapter(adapter.layer, semantics, read)


def _as_rule(modulation: Modulation, semantics: Semantics) -> Modulation:
    match modulation:
        case Additive() if semantics.rule == "low_rank_pooled" and modulation.W_add is not None:
            return LowRankPooled(modulation.W_down, modulation.W_add, scale=semantics.scale)
        case LowRank() if semantics.rule == "additive":
            return Additive(modulation.A, modulation.B, scale=semantics.scale)
        case Additive():
            return Additive(
                modulation.W_down, modulation.W_add, modulation.W_mult,
                factor=semantics.factor, scale=semantics.scale,
            )  # fmt: skip
        case _:
            return modulation
