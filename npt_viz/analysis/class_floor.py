"""Share recovered that one adapter shape reaches on a text, estimated by a short training."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from npt_viz.adapter import Additive, LayerAdapter, LowRank
from npt_viz.capture.layer_trace import attention_sinks, fit_of, local_trace
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.progress import CountProgress
from npt_viz.question import Positions
from npt_viz.results.reconstruction import ClassFloor
from npt_viz.training.data import Corpus
from npt_viz.training.overlap import seen_in_training
from npt_viz.training.spec import AdapterSpec
from npt_viz.training.trainer import train

STEPS = 400


def class_floor(
    model: BaseModel,
    adapter: LayerAdapter,
    texts: Sequence[str] | Corpus,
    *,
    recipe: Mapping[str, Any] | None = None,
    targets: Sequence[str] | None = None,
    steps: int = STEPS,
    seed: int = 0,
    positions: Positions = "deployed",
    progress: CountProgress | None = None,
) -> ClassFloor:
    """Train a fresh adapter of this one's rule, rank and components on most of the texts, judge both on the rest.

    recipe: of the adapter's checkpoint, which says whether it was trained on the texts it is judged on.
    targets: of another class than the adapter's own, for example gate and up for a gate-only layer.
    progress: called with (steps done, steps).
    The estimate errs on one side: more steps or more text may recover more, so what the class allows is at least this.

    Raises NptVizError where attention keeps its standard path, or the texts are too short to hold some back.
    """
    spec = spec_of(adapter, targets)
    training = train(model, spec, texts, steps=steps, seed=seed, positions=positions, evaluate_every=steps)
    for step in training:
        if progress:
            progress(step.number, steps)
    fitted = training.adapters[adapter.layer]
    is_own = set(spec.targets) == set(adapter.targets)
    heldout, train_ids = training.corpus.heldout, training.corpus.train
    on_heldout = _recovered(model, [fitted, adapter] if is_own else [fitted], heldout, positions)
    # As many tokens as are held out show how much of the fit is memory.
    on_train = _recovered(model, [fitted], train_ids[: len(heldout)], positions)
    return ClassFloor(
        layer=adapter.layer,
        targets=tuple(spec.targets),
        rank=spec.rank,
        components=spec.components,
        steps=steps,
        seed=seed,
        n_train=training.corpus.n_train,
        n_heldout=on_heldout.shape[1],
        recovered=on_heldout[0].nanmedian().item(),
        recovered_train=on_train[0].nanmedian().item(),
        adapter_recovered=on_heldout[1].nanmedian().item() if is_own else float("nan"),
        positions=positions,
        adapter_seen=seen_in_training(recipe, heldout) if is_own else None,
    )


def classes_to_try(adapter: LayerAdapter) -> list[tuple[str, ...]]:
    """Sets of targets to estimate a floor for: the adapter's own, then the next larger; none where attention stays."""
    if adapter.attention == "standard":
        return []
    own = adapter.targets
    if any(isinstance(m, (Additive, LowRank)) for m in adapter.learned.values()):
        return [own]
    larger = {("gate",): ("gate", "up"), ("gate", "up", "down"): None}.get(own, ("gate", "up", "down"))
    return [own, larger] if larger else [own]


def cost(model: BaseModel, layer: int, n_tokens: int, *, steps: int = STEPS) -> float:
    """Tokens that the base model could read in the time: capture, then steps of 256 tokens through one MLP, back too."""
    one_mlp = 3 * model.d_model * model.d_ffn / sum(p.numel() for p in model.hf.parameters())
    return 1.5 * n_tokens * (layer + 1) / model.n_layers + steps * 256 * 6 * one_mlp


def spec_of(adapter: LayerAdapter, targets: Sequence[str] | None = None) -> AdapterSpec:
    """The shape of one layer's adapter, by default with its own targets; the largest rank where targets differ."""
    if adapter.attention == "standard":
        raise NptVizError(
            f"layer {adapter.layer} ({adapter.variant}) keeps attention in its standard path, so there is nothing to "
            "recover and no floor to estimate; choose a layer that withholds it"
        )
    modulations = adapter.learned.values()
    kinds = {type(modulation) for modulation in modulations}
    return AdapterSpec(
        layers=(adapter.layer,),
        targets=tuple(targets or adapter.targets),
        rank=max(modulation.rank for modulation in modulations),
        components=1
        if any(issubclass(kind, Additive | LowRank) for kind in kinds)
        else max(m.components for m in modulations),
        semantics=adapter.semantics,
    )


def _recovered(
    model: BaseModel,
    adapters: Sequence[LayerAdapter],
    sequences: Sequence[torch.Tensor],
    positions: Positions,
) -> torch.Tensor:
    """(adapter, token) share recovered on the tokens of all sequences that are no attention sinks."""
    shares = []
    for ids in sequences:
        rows = []
        for adapter in adapters:
            trace = local_trace(model, adapter, ids.tolist(), positions=positions)
            share = fit_of(adapter, trace)["recovered"]
            rows.append(torch.from_numpy(share)[~attention_sinks(trace.hidden)])
        shares.append(torch.stack(rows))
    return torch.cat(shares, dim=1)
