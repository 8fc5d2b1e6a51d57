"""Does v_a point into the common directions of what the layer sees?

The common directions are the top q principal axes of h, of the projection's own input (z, or m for down), over the
prompt or over a reference text. A random vector has the share q / d of its energy there.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch

from npt_viz.analysis.directions import prompt_tokens
from npt_viz.analysis.pca import PrincipalAxes, principal_axes
from npt_viz.analysis.updates import Updates, updates_of
from npt_viz.arguments import checked
from npt_viz.capture.inspection import adapters_of
from npt_viz.capture.layer_trace import attention_sinks
from npt_viz.capture.layer_view import LayerView, layer_views, views_of
from npt_viz.capture.running import Pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import text_ids
from npt_viz.question import Mode, Positions
from npt_viz.results.directions import Baseline, Unavailable
from npt_viz.results.inspection import Inspection
from npt_viz.results.orthogonality import LayerOrthogonality, Orthogonality
from npt_viz.shapes import Float, Tensor

Of = Literal["h", "input"]
"""Whose axes: the residual stream, or what the projection reads."""

MAX_AXES = 64
"""Axes of the spectrum and of the curve that are kept."""

TOKENS_AN_AXIS = 5
"""With fewer tokens for each of the q axes these are mostly the tokens themselves; the result says so."""

MAX_REFERENCE = 2048
"""Tokens of a reference text that are used."""

WINDOW = 256
"""Tokens of the reference text that the model sees at a time."""

N_DRAWS = 64
"""Random subspaces for the reference angles."""


@checked
def orthogonality(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    run: Inspection,
    *,
    layers: Sequence[int] | None = None,
    target: str | None = None,
    of: Of = "h",
    reference: Mapping[int, Float[Tensor, "reference_token inp"]] | None = None,
    top: int = 10,
    centred: bool = True,
    keep_sinks: bool = False,
    seed: int = 0,
    kept_pass: Pass | None = None,
) -> Orthogonality:
    """v_a of every token of the prompt against the top axes of h or of the projection's input.

    layers: of the inspection, all by default. target: each layer's first one by default.
    reference: layer -> the vectors whose axes count (`reference_vectors`); the prompt's own by default.
    keep_sinks: let attention sinks count, in the axes and in the means.
    kept_pass: what `inspect` kept of the run; without it the prompt runs again.
    A layer that has no answer is an Unavailable with the reason.
    Raises NptVizError for q below 1, a layer that was not inspected, NaN.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    if top < 1:
        raise NptVizError(f"the number of axes must be at least 1, got {top}")
    _check_of(of)
    kept = np.ones(len(run.pieces), bool) if keep_sinks else ~run.is_sink

    def result(layer: int, view: LayerView) -> LayerOrthogonality:
        own = _seen(view, target, of)
        if reference is not None and layer not in reference:
            raise NptVizError(
                f"the reference has no vectors of layer {layer}; give those that npt_viz.reference_vectors finds for these layers"
            )
        axes_of = own[kept] if reference is None else reference[layer].to(own)
        return layer_orthogonality(
            view, axes_of, kept, target=target, of=of, top=top, centred=centred, seed=seed
        )

    views = layer_views(model, checkpoint, run, layers, kept_pass=kept_pass)
    return Orthogonality(
        layers={layer: Unavailable.unless(partial(result, layer, view)) for layer, view in views.items()},
        from_prompt=reference is None,
        seed=seed,
        prompt=prompt_tokens(run, keep_sinks),
    )


@checked
def reference_vectors(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    texts: Sequence[str],
    *,
    layers: Sequence[int] | None = None,
    target: str | None = None,
    of: Of = "h",
    mode: Mode = "local",
    positions: Positions = "deployed",
    keep_sinks: bool = False,
) -> dict[int, Float[Tensor, "reference_token inp"]]:
    """What every layer that has such a target sees in the first MAX_REFERENCE tokens of some texts.

    Raises NptVizError where the texts have no token, and for activations that are not finite.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    _check_of(of)
    adapters = adapters_of(checkpoint, layers)
    rows: dict[int, list[Tensor]] = {}
    for ids in _windows(model, texts):
        for layer, view in views_of(model, adapters, ids, mode=mode, positions=positions).items():
            parts = rows.setdefault(layer, [])
            vectors = Unavailable.unless(partial(_seen, view, target, of))
            if not isinstance(vectors, Unavailable):
                parts.append((vectors if keep_sinks else vectors[~attention_sinks(view.hidden)]).cpu())
    if not rows:
        raise NptVizError(
            "the reference text has no tokens; give some text, or take the axes from the prompt"
        )
    return {layer: torch.cat(parts) for layer, parts in rows.items() if parts}


@torch.no_grad()
def layer_orthogonality(
    view: LayerView,
    reference: Float[Tensor, "reference_token inp"],
    kept: np.ndarray,
    *,
    target: str | None = None,
    of: Of = "h",
    top: int = 10,
    centred: bool = True,
    seed: int = 0,
) -> LayerOrthogonality:
    """One layer. reference: the vectors whose principal axes count. kept: (token,) bool, tokens of the means.

    Raises NptVizError where there are fewer than `top` axes, and where the layer has no weight change.
    """
    target, _ = view.weight_change(target)
    updates = updates_of(view, target)
    both = {flag: _axes(reference, flag, top) for flag in (True, False)}
    basis = both[centred].axes[: max(MAX_AXES, top)]
    dim, n_reference = reference.shape[1], reference.shape[0]
    squares, energies = _projections(updates, basis)
    shares = squares.cumsum(-1) / energies[:, None].where(energies[:, None] > 0, torch.nan)
    angles, random_angles = _angles(updates, torch.as_tensor(kept), basis[:top], seed)
    return LayerOrthogonality(
        layer=view.layer,
        target=target,
        of=name_of(target, of),
        centred=centred,
        top=top,
        dim=dim,
        n_reference=n_reference,
        explained=both[centred].explained[:MAX_AXES].numpy(),
        isotropic_edge=(1 + (dim / n_reference) ** 0.5) ** 2 / dim,
        shares=shares[:, top - 1].numpy(),
        curve=shares[torch.as_tensor(kept)].nanmean(0).numpy(),
        left_out=~kept,
        angles=angles,
        random_angles=random_angles,
        published=_published(updates, both[True].axes[:top], kept),
        published_uncentred=_published(updates, both[False].axes[:top], kept),
        mean_shares=_mean_shares(updates, reference).numpy(),
        published_random=_mean_square_norm(updates, kept) / dim,
        notes=_notes(n_reference, top),
    )


def _check_of(of: str) -> None:
    if of not in get_args(Of):
        raise NptVizError(f"axes of {of!r} do not exist; choose {' or '.join(get_args(Of))}")


def name_of(target: str, of: Of) -> str:
    """h, z or m."""
    return "h" if of == "h" else "m" if target == "down" else "z"


def _seen(view: LayerView, target: str | None, of: Of) -> Float[Tensor, "token inp"]:
    target, _ = view.weight_change(target)
    if of == "h" and target == "down":
        raise NptVizError(
            f"v_a of the down target has {view.intermediate.shape[1]} dimensions and h has {view.hidden.shape[1]}; "
            "compare it with m, its own input"
        )
    return view.hidden if of == "h" else view.read_by(target)


def _axes(reference: Float[Tensor, "token inp"], centred: bool, top: int) -> PrincipalAxes:
    n_tokens, dim = reference.shape
    if top >= dim:
        raise NptVizError(f"{top} axes are all of the {dim} dimensions; choose fewer")
    # A centred set of n vectors has n − 1 axes; the uncentred axes are needed too, for the published number.
    if n_tokens - 1 < top:
        raise NptVizError(
            f"{n_tokens} token{'s have' if n_tokens != 1 else ' has'} at most {max(n_tokens - 1, 0)} principal axes and "
            f"{top} are asked for; "
            "choose fewer axes, a longer prompt or a reference text"
        )
    principal = principal_axes(reference, centred=centred)
    if len(principal.axes) < top:
        raise NptVizError(
            f"these {n_tokens} tokens have {len(principal.axes)} principal axes and {top} are asked for; "
            "choose fewer axes or a more varied text"
        )
    return principal


def _projections(
    updates: Updates, basis: Float[Tensor, "axis inp"]
) -> tuple[Float[Tensor, "token axis"], Float[Tensor, "token"]]:
    """(Σ_j w_j (v_a,j · axis)², Σ_j w_j ‖v_a,j‖²) with w_j = ‖v_b,j‖²: only ΔW counts, not the gauge."""
    squares = torch.zeros(len(updates.a), len(basis), dtype=torch.float64)
    energies = squares.new_zeros(len(updates.a))
    for j in range(updates.n_components):
        weight = _weight(updates, j)
        squares = squares + weight[:, None] * _along(updates, j, basis).square()
        energies = energies + weight * updates.inputs(j).norms().square()
    return squares, energies


def _weight(updates: Updates, component: int) -> Float[Tensor, "token"]:
    """‖v_b,j‖²; ones for the only component of an adapter at its initialisation, whose v_a can already be read."""
    squares = updates.outputs(component).norms().square()
    return torch.ones_like(squares) if updates.n_components == 1 and not squares.any() else squares


def _along(updates: Updates, component: int, basis: Float[Tensor, "axis inp"]) -> Float[Tensor, "token axis"]:
    """v_a · axis, without v_a."""
    left, right = updates.inputs(component)
    return (left @ (right @ basis.T.to(right))).cpu().double()


def _angles(
    updates: Updates, kept: Tensor, axes: Float[Tensor, "axis inp"], seed: int
) -> tuple[np.ndarray, tuple[Baseline, ...]]:
    main = _main_inputs(updates, kept, len(axes))
    angles = _degrees(torch.linalg.svdvals(axes @ main))
    # The frame may be turned at will, so the fixed subspace is the first q coordinates.
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(N_DRAWS, *main.shape, generator=generator, dtype=torch.float64)
    random = _degrees(torch.linalg.svdvals(torch.linalg.qr(drawn).Q[:, : len(axes)]))
    return angles.numpy(), tuple(
        Baseline(mean.item(), sd.item(), N_DRAWS)
        for mean, sd in zip(random.mean(0), random.std(0), strict=True)
    )


def _main_inputs(updates: Updates, kept: Tensor, at_most: int) -> Float[Tensor, "inp direction"]:
    """Orthonormal columns: the directions in which the v_a of all kept tokens have most energy, weighted by ‖v_b‖²."""
    ranks = updates.W_a.shape[1]
    frame, R = torch.linalg.qr(updates.W_a.flatten(0, 1).T.double().cpu())
    moment = R.new_zeros(len(R), len(R))
    for j in range(updates.n_components):
        rows = updates.a[:, j].cpu().double()[kept] * _weight(updates, j)[kept].sqrt()[:, None]
        block = rows @ R[:, j * ranks : (j + 1) * ranks].T
        moment += block.T @ block
    values, vectors = torch.linalg.eigh(moment)
    n = min(at_most, int((values > 1e-12 * values[-1].clamp_min(1e-300)).sum()))
    if n == 0:
        raise NptVizError("every ΔW is zero: the adapter is at its initialisation; train it first")
    return frame @ vectors.flip(-1)[:, :n]


def _degrees(cosines: Tensor) -> Tensor:
    return cosines.clamp(0, 1).arccos().rad2deg()


def _published(updates: Updates, axes: Float[Tensor, "axis inp"], kept: np.ndarray) -> float:
    along = [_along(updates, j, axes)[kept] for j in range(updates.n_components)]
    return torch.stack(along).square().mean().item()


def _mean_shares(updates: Updates, reference: Float[Tensor, "reference_token inp"]) -> Float[Tensor, "token"]:
    mean = torch.nn.functional.normalize(reference.double().cpu().mean(0, keepdim=True), dim=-1)
    squares, energies = _projections(updates, mean)
    return squares[:, 0] / energies.where(energies > 0, torch.nan)


def _mean_square_norm(updates: Updates, kept: np.ndarray) -> float:
    norms = [updates.inputs(j).norms()[kept] for j in range(updates.n_components)]
    return torch.stack(norms).square().mean().item()


def _windows(model: BaseModel, texts: Sequence[str]) -> Iterator[list[int]]:
    """The first MAX_REFERENCE tokens of the texts, in windows that the model sees one at a time."""
    left = MAX_REFERENCE
    for text in texts:
        ids = text_ids(model, text)[:left] if text else []
        left -= len(ids)
        size = min(WINDOW, model.context_length)
        for start in range(0, len(ids), size):
            yield ids[start : start + size]


def _notes(n_reference: int, top: int) -> tuple[str, ...]:
    if n_reference >= TOKENS_AN_AXIS * top:
        return ()
    return (
        f"The top {top} axes are from {n_reference} tokens, fewer than {TOKENS_AN_AXIS} an axis: they follow these "
        "tokens rather than the language. A reference text gives steadier axes.",
    )
