"""How well the modulated MLP replaces attention, in both modes from one pass."""

from collections.abc import Sequence

import numpy as np
import torch

from npt_viz.adapter import LayerAdapter
from npt_viz.analysis.activations import Activations, LayerActivations, activations
from npt_viz.analysis.references import exact_patch
from npt_viz.capture.inspection import fit_columns, layers_of
from npt_viz.capture.running import Pass, Positions
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.results.reconstruction import LayerFit, Reconstruction
from npt_viz.shapes import Float, Tensor


def reconstruction(
    model: BaseModel,
    checkpoint,
    prompt: str | Sequence[int],
    *,
    layers: Sequence[int] | None = None,
    positions: Positions = "deployed",
    chat: bool = False,
    bos: bool | str = "auto",
    seen: Pass | None = None,
) -> Reconstruction:
    """Every NPT layer on every token of the prompt, whatever its length: one pass of base and NPT model.

    seen: what `inspect` kept of the same prompt and layers; then no pass is run.
    Raises NptVizError as `inspect` does.
    """
    encoded = encode(model, prompt, chat=chat, bos=bos)
    adapters = {layer: checkpoint.adapter(layer) for layer in layers_of(checkpoint, layers)}
    with model.lock:
        found = activations(model, adapters, encoded.ids, positions=positions, seen=seen)
        glyphs = [piece.glyph for piece in encoded.pieces]
        return reconstructed(model, adapters, found, glyphs, positions, encoded.notes)


@torch.no_grad()
def reconstructed(
    model: BaseModel,
    adapters: dict[int, LayerAdapter],
    seen: Activations,
    tokens: Sequence[str],
    positions: Positions = "deployed",
    notes: Sequence[str] = (),
) -> Reconstruction:
    """The same from activations that are at hand."""
    return Reconstruction(
        tokens=tuple(tokens),
        is_sink=seen.is_sink.numpy(),
        positions=positions,
        local={i: layer_fit(model, adapters[i], layer) for i, layer in seen.local.items()},
        propagated={i: layer_fit(model, adapters[i], layer) for i, layer in seen.propagated.items()},
        notes=tuple(notes),
    )


def layer_fit(model: BaseModel, adapter: LayerAdapter, seen: LayerActivations) -> LayerFit:
    """One layer in one mode."""
    size, nothing = seen.target.norm(dim=-1), seen.unmodulated - seen.target
    along, beside = split_along(seen.output - seen.target, seen.base_attention)
    return LayerFit(
        layer=adapter.layer,
        variant=adapter.variant,
        reconstructs=adapter.semantics.reconstructs,
        **fit_of(adapter, seen, seen.output),
        error_along=_numpy(along / size),
        error_beside=_numpy(beside / size),
        unmodulated_error=_numpy(nothing.norm(dim=-1) / size),
        unmodulated_along=_numpy(split_along(nothing, seen.base_attention)[0] / size),
        exact_error=_numpy(exact_error(model, adapter, seen)),
    )


def fit_of(
    adapter: LayerAdapter, seen: LayerActivations, output: Float[Tensor, "token model"]
) -> dict[str, np.ndarray]:
    """fit_columns of any output of this layer; no share recovered where attention keeps its standard path."""
    fit = fit_columns(output, seen.unmodulated, seen.target)
    if adapter.attention == "standard":
        # With its modulation off such a layer is the base's own, so that what is left is rounding.
        fit["recovered"][:] = np.nan
    return fit


def split_along(
    error: Float[Tensor, "token model"], direction: Float[Tensor, "token model"]
) -> tuple[Float[Tensor, "token"], Float[Tensor, "token"]]:
    """(signed length along the direction, length of the orthogonal rest); all of it is rest where there is none."""
    length = direction.norm(dim=-1, keepdim=True)
    unit = torch.where(length > 0, direction / length, torch.zeros_like(direction))
    along = (error * unit).sum(-1)
    return along, (error - along[:, None] * unit).norm(dim=-1)


def exact_error(model: BaseModel, adapter: LayerAdapter, seen: LayerActivations) -> Float[Tensor, "token"]:
    """Relative error of the exact patch, run like any adapter: what rounding alone costs."""
    parts = model.parts(adapter.layer)
    dtype = parts.mlp_norm.weight.dtype
    hidden, attention, mlp_input = (t.to(dtype) for t in (seen.hidden, seen.attention, seen.mlp_input))
    patch = exact_patch(model, adapter.layer, hidden, attention, adapter.attention)
    output = patch.mlp(parts.mlp, attention, mlp_input).output.to(seen.target)
    # In a cascade h and a are not the base's, and the patch restores what the layer itself would write.
    target = parts.mlp(parts.mlp_norm(hidden + attention)).to(seen.target)
    if adapter.attention == "withheld":
        target = target + seen.attention
    return (output - target).norm(dim=-1) / target.norm(dim=-1)


def _numpy(values: Tensor) -> np.ndarray:
    return values.float().cpu().numpy()
