"""The map of one set of vectors over tokens: principal axes, spread, and the spreads to hold it against."""

import numpy as np
import torch

from npt_viz.analysis.directions import compared_tokens
from npt_viz.analysis.pca import effective_rank, participation_ratio, principal_axes, singular_values
from npt_viz.analysis.updates import Factored, Updates, factors, redrawn, updates_of
from npt_viz.capture.layer_view import layer_views
from npt_viz.capture.running import Pass
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.results.directions import QUANTITIES, Baseline, DirectionMap, Spread, SpreadReference
from npt_viz.results.estimate import sd
from npt_viz.results.inspection import Inspection
from npt_viz.shapes import Float, Tensor

N_DRAWS = 8
"""Random draws of the reference spreads; their sd is a few per cent of their mean."""


def direction_map(
    model: BaseModel,
    checkpoint: Checkpoint,
    run: Inspection,
    layer: int,
    *,
    target: str | None = None,
    quantity: str = "s·v_b",
    component: int | None = None,
    keep_sinks: bool = False,
    seed: int = 0,
    kept_pass: Pass | None = None,
) -> DirectionMap:
    """PCA of one of QUANTITIES over the tokens, with two references drawn from `seed`.

    component: None is the sum over components, which only s·v_b has; for v_b and v_a it means component 0.
    kept_pass: what `inspect` kept of the run; without it the prompt runs again.
    Raises NptVizError where there is no such set, where all its vectors are equal, and as `directions` does.
    """
    tokens, _ = compared_tokens(run, keep_sinks=keep_sinks)
    view = layer_views(model, checkpoint, run, [layer], kept_pass=kept_pass)[layer].rows(tokens)
    target, modulation = view.weight_change(target)
    updates = updates_of(view, target)
    vectors, component = chosen_vectors(updates, quantity, component)
    coordinates = vectors.coordinates()
    principal = principal_axes(coordinates)
    centred = coordinates - principal.mean
    plane = torch.zeros(len(tokens), 2, dtype=torch.float64)
    plane[:, : len(principal.axes)] = centred @ principal.axes[:2].T
    norms = coordinates.norm(dim=-1)
    generator = torch.Generator().manual_seed(seed)
    random, random_sds = _random(norms, vectors.right.shape[1], generator)
    return DirectionMap(
        layer=layer,
        target=target,
        quantity=quantity,
        component=component,
        tokens=tokens,
        coordinates=plane.numpy(),
        mean_norm=principal.mean.norm().item(),
        explained=principal.explained.numpy(),
        random_sds=random_sds,
        norms=norms.numpy(),
        spread=spread(coordinates),
        ceiling=min(len(tokens), *vectors.right.shape),
        references=(
            random,
            *_shuffled(updates, quantity, component, generator),
            _redrawn(modulation, view, target, quantity, component, norms, generator),
            _of_attention(view.attention),
        ),
    )


def chosen_vectors(updates: Updates, quantity: str, component: int | None) -> tuple[Factored, int | None]:
    """(one vector a token, the component that it belongs to)."""
    if quantity not in QUANTITIES:
        raise NptVizError(f"there is no map of {quantity!r}; choose {', '.join(QUANTITIES)}")
    if component is not None and not 0 <= component < updates.n_components:
        raise NptVizError(
            f"component {component} does not exist; this target has {updates.n_components}, counted from 0"
        )
    if quantity == "s·v_b":
        return updates.effects(component), component
    component = component or 0
    if quantity == "v_b" and updates.fixed_outputs:
        raise NptVizError(
            "the tanh rule has the same v_b,i = B_i for every token, only its strength differs; look at s·v_b"
        )
    return (updates.outputs if quantity == "v_b" else updates.inputs)(component), component


def spread(vectors: Float[Tensor, "token dim"]) -> Spread:
    """Effective rank and participation ratio of the vectors as they are, not centred."""
    singular = singular_values(vectors)
    return Spread(effective_rank(singular), participation_ratio(singular))


def _random(
    norms: Float[Tensor, "token"], dim: int, generator: torch.Generator
) -> tuple[SpreadReference, np.ndarray]:
    """(their spread, their standard deviations along their own first two axes)."""
    spreads, variances = [], []
    for _ in range(N_DRAWS):
        unit = torch.nn.functional.normalize(
            torch.randn(len(norms), dim, generator=generator, dtype=torch.float64), dim=-1
        )
        spreads.append(spread(norms[:, None] * unit))
        variances.append(principal_axes(norms[:, None] * unit, at_most=2).variances)
    return _reference("same norms, random directions", spreads), torch.stack(variances).mean(0).sqrt().numpy()


def _shuffled(updates: Updates, quantity: str, component: int | None, generator) -> list[SpreadReference]:
    """Only s·v_b depends on which token meets which attention; v_a and v_b are the same set in another order."""
    if quantity != "s·v_b":
        return []
    draws = []
    for _ in range(N_DRAWS):
        others = torch.randperm(len(updates.a), generator=generator).to(updates.a.device)
        draws.append(spread(updates.with_attention_of(others).effects(component).coordinates()))
    return [_reference("same adapter, attention shuffled over tokens", draws)]


def _redrawn(modulation, view, target, quantity, component, norms, generator) -> SpreadReference:
    """As diverse as this rank and these tokens allow without training; with the measured norms."""
    draws = []
    for _ in range(N_DRAWS):
        other = factors(redrawn(modulation, generator), view.attention, view.read_by(target))
        vectors = chosen_vectors(other, quantity, component)[0].coordinates()
        draws.append(spread(norms[:, None] * torch.nn.functional.normalize(vectors, dim=-1)))
    return _reference("same norms, same adapter with redrawn weights", draws)


def _of_attention(attention: Float[Tensor, "token model"]) -> SpreadReference:
    measured = spread(attention)
    return SpreadReference(
        name="the attention outputs a, from which the vectors are made",
        effective_rank=Baseline(measured.effective_rank, 0.0, 0),
        participation_ratio=Baseline(measured.participation_ratio, 0.0, 0),
    )


def _reference(name: str, draws: list[Spread]) -> SpreadReference:
    columns = [
        Baseline(float(np.mean(column)), sd(column), len(draws)) for column in zip(*draws, strict=True)
    ]
    return SpreadReference(name=name, effective_rank=columns[0], participation_ratio=columns[1])
