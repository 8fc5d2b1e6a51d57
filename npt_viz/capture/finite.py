"""Activations that are not finite, traced to where they first appear: the base's own forward, an adapter, the stream.

A stream that is not finite at a token stays so in every layer above, so the end of a pass tells about all of it.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from npt_viz.adapter import LayerAdapter
from npt_viz.adapter.modulation import Modulation
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.errors import NotFiniteError
from npt_viz.model.base import BaseModel
from npt_viz.model.finite import REMEDY, bad_weight, non_finite
from npt_viz.model.tokens import display_token
from npt_viz.shapes import Float, Hidden, Int, Tensor

WHERE = {
    "hidden": "the residual stream that enters layer {}",
    "attention": "the attention output of layer {}",
    "mlp_output": "the MLP's output of layer {}",
}
"""What a layer's record holds, in the order in which it is computed."""


@runtime_checkable
class Seen(Protocol):
    """What one layer saw and wrote."""

    hidden: Hidden
    attention: Hidden
    mlp_output: Hidden


def first_bad(tensor: Float[Tensor, "*batch model"]) -> tuple[int, ...] | None:
    """Index of the first row with a value that is not finite; None where there is none."""
    return _first(~tensor.detach().isfinite().all(-1))


def first_overflow(stream: Float[Tensor, "*batch model"]) -> tuple[int, ...] | None:
    """The same for a residual stream, which must also be such that an RMS norm can square it.

    Where the squares leave float32, which norms compute in, the norm returns zeros, and no later value tells.
    """
    return _first(~stream.detach().float().square().sum(-1).isfinite())


def _first(rows: Tensor) -> tuple[int, ...] | None:
    return tuple(rows.nonzero()[0].tolist()) if rows.any() else None


def source(
    model: BaseModel, lane: Mapping[int, Any], layers: Mapping[int, Seen], token_ids: Int[Tensor, "token"]
) -> str:
    """Sentence about the first value that is not finite in a pass that recorded every layer in its only lane."""
    if (found := bad_weight(model.hf)) is not None:
        key, bad = found
        return f"{model.name}: the weight {key} holds {bad}; no layer can run on it: get the model again"
    for layer, seen in sorted(layers.items()):
        for name, words in WHERE.items():
            values = getattr(seen, name)[0]
            if (index := first_overflow(values)) is None:
                continue
            token, where = index[0], words.format(layer)
            at = f"{_kind(values[token])} at {_token(model, token, token_ids)}"
            changed = [
                each for each in sorted(lane) if each < layer or (each == layer and name == "mlp_output")
            ]
            if changed:
                return _of_changed(model, changed[-1], lane[changed[-1]], f"{where} is {at}")
            return f"{model.name} itself overflows in {_word(model)}: {where} is {at}, the first place; {_remedy(model)}"
    return f"{model.name} in {_word(model)}: the state after its last layer is not finite; {_remedy(model)}"


def refuse_overflow(
    model: BaseModel,
    layer: int,
    values: Float[Tensor, "*token axis"],
    what: str,
    adapter: LayerAdapter | None = None,
    *,
    token: int | None = None,
) -> None:
    """Raise NotFiniteError where something that a layer computes from finite inputs is not finite.

    what: the quantity in words, such as "the scalar of the gate". adapter: whose quantity it is, if not the base's.
    token: where every row belongs to this one.
    """
    if (index := first_bad(values)) is None:
        return
    sentence = (
        f"{what} of layer {layer} is {_kind(values[index])} at token {index[-1] if token is None else token}"
    )
    if adapter is not None:
        raise NotFiniteError(_of_changed(model, layer, adapter, sentence))
    raise NotFiniteError(f"{model.name} itself overflows in {_word(model)}: {sentence}; {_remedy(model)}")


def refuse_logits(model: BaseModel, probabilities: Float[Tensor, "lane token k"]) -> None:
    """Raise NotFiniteError where the logits of a finite state are not finite; probabilities: made from them."""
    if (index := first_bad(probabilities)) is not None:
        raise NotFiniteError(
            f"{model.name}: its logits after token {index[1]} are not finite in {_word(model)}, though its state there "
            f"is: the unembedding overflows; {_remedy(model)}"
        )


def _of_changed(model: BaseModel, layer: int, change: Any, what: str) -> str:
    """What went wrong at or above a layer that is changed, and the weight that is to blame where there is one."""
    if not (
        isinstance(change, LayerAdapter)
        and all(isinstance(m, Modulation) for m in change.modulations.values())
    ):
        return f"{what}, with what was changed in layer {layer}; choose a smaller change{_or_dtype(model)}"
    tensors = named_tensors(change)
    for key, tensor in tensors.items():
        if (bad := non_finite(tensor)) is not None:
            return f"{what}: {key} holds {bad}; open an earlier checkpoint of the run"
    key = max(tensors, key=lambda each: float(tensors[each].abs().max()))
    return (
        f"{what}: the modulation of NPT layer {layer} overflows, its largest weight is "
        f"{float(tensors[key].abs().max()):.3g} in {key}; open an earlier checkpoint of the run"
        + _or_dtype(model)
    )


def _kind(values: Tensor) -> str:
    if values.isfinite().all():
        return f"as large as {float(values.abs().max()):.2g}, which a norm cannot square,"
    return "NaN" if values.isnan().any() else "infinite"


def _token(model: BaseModel, token: int, token_ids: Int[Tensor, "token"]) -> str:
    glyph = display_token(model.tokenizer, int(token_ids[token])).glyph
    return f"token {token} ({glyph})"


def _word(model: BaseModel) -> str:
    return str(model.dtype).removeprefix("torch.")


def _or_dtype(model: BaseModel) -> str:
    return f", or {REMEDY[model.dtype]}" if model.dtype in REMEDY else ""


def _remedy(model: BaseModel) -> str:
    return REMEDY.get(model.dtype, "check the model's files, and get them again")
