"""Run the base model with some layers changed, and see inside: hooks that are always taken off again.

A lane is one version of the prompt: which layers are changed and how. Lanes share everything below the first
changed layer, which runs once; from there on they are rows of one batch, all texts of one lane before the next.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from npt_viz.adapter import pooled_over
from npt_viz.capture.finite import first_overflow, source
from npt_viz.errors import NotFiniteError, NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.memory import activation_bytes, check_fits
from npt_viz.question import Positions, check_positions
from npt_viz.shapes import Hidden, TokenIds


@runtime_checkable
class LayerChange(Protocol):
    """What can be done to one layer: a LayerAdapter, or anything else with these three.

    One that needs all tokens of a text has `of_text` as well (see LayerAdapter).
    """

    @property
    def targets(self) -> Sequence[str]: ...

    @property
    def attention(self) -> str:
        """withheld, beside, standard or mlp_only (see Semantics)."""
        ...

    def change(self, target: str, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class NoAttention:
    """The layer with its attention output dropped: the fair baseline of every NPT layer."""

    targets: tuple[str, ...] = ()
    attention: str = "withheld"

    def change(self, target: str, attention: Tensor, x: Tensor, unmodulated: Tensor) -> Tensor:
        raise AssertionError("there is nothing to change")


Lane = Mapping[int, LayerChange]
"""Layer -> what is done to it; a layer that is absent runs as in the base model."""


@dataclass
class LayerRecord:
    """What one layer saw and wrote, for every lane."""

    hidden: Hidden = field(init=False)
    """h, the stream entering the layer."""
    attention: Hidden = field(init=False)
    """a, before any of it is withheld."""
    mlp_output: Hidden = field(init=False)
    """The MLP's output, modulated where the lane says so; without a where a is added beside it."""


@dataclass
class Pass:
    """One forward pass of all lanes."""

    final: Hidden
    """(lane, token, model): after the final norm, ready for the unembedding."""
    stream: Hidden
    """(lane, token, model): the residual stream before the final norm."""
    layers: dict[int, LayerRecord] = field(default_factory=dict)

    @property
    def kept_bytes(self) -> int:
        """What it takes to keep; a row that counts for several lanes counts once."""
        tensors = [t for record in self.layers.values() for t in vars(record).values() if t is not None]
        return sum(tensor.untyped_storage().nbytes() for tensor in [self.final, self.stream, *tensors])


@contextmanager
def changed(model: BaseModel, lanes: Sequence[Lane], *, positions: Positions = "deployed") -> Iterator[None]:
    """Inside the block the rows of every forward pass follow their lanes; afterwards no hook is left.

    With one lane every row follows it (generation, batches of prompts). With more, row i follows lane i.
    Holds the model's lock. Raises NptVizError for positions that do not exist, and for a layer that pools over the
    whole text, which does not exist yet where it is continued (`forward_pass` runs such a layer).
    """
    for lane in lanes:
        refuse_pooled(
            lane.values(), "continues a text token by token with a cache, where the mean is not known"
        )
    with _changed(model, lanes, positions=positions):
        yield


def refuse_pooled(changes: Iterable[LayerChange], why: str) -> None:
    """Raise NptVizError where a layer reads the mean attention of the whole text. why: what the caller does instead."""
    for change in changes:
        if getattr(change, "is_pooled", False):
            raise NptVizError(
                f"S0-pooled reads the mean attention of the whole text, and this {why}; "
                "choose another reading of the file (semantics S0 or S0-residual), or another page"
            )


@contextmanager
def _changed(
    model: BaseModel, lanes: Sequence[Lane], *, positions: Positions, n_texts: int = 1
) -> Iterator[None]:
    check_positions(positions)
    with model.lock, ExitStack() as stack:
        if positions == "trained":
            stack.callback(_without_rope(model).remove)
        for layer in sorted({layer for lane in lanes for layer in lane}):
            rows = [
                (slice(None) if len(lanes) == 1 else slice(i * n_texts, (i + 1) * n_texts), lane[layer])
                for i, lane in enumerate(lanes)
                if layer in lane
            ]
            for handle in _change_layer(model, layer, rows):
                stack.callback(handle.remove)
        yield


def forward_pass(
    model: BaseModel,
    token_ids: TokenIds,
    lanes: Sequence[Lane] = ({},),
    *,
    record: Sequence[int] = (),
    positions: Positions = "deployed",
    stop_after: int | None = None,
    gradients: bool = False,
    each_layer: Callable[[], None] | None = None,
    may_overflow: bool = False,
) -> Pass:
    """Run texts in every lane; keep what the layers in `record` saw.

    token_ids: (text, token), texts of one length; what is returned has a row for each lane and text, row
        lane · texts + text. Tokens that fill up a shorter text at its end change nothing before them.
    stop_after: run no layer above this one; `final` is then empty.
    gradients: keep the graph where autograd is on, for attribution.
    each_layer: called after every layer; what it raises ends the pass.
    may_overflow: lanes that change a layer may overflow, as the largest of many strengths may; their `final` is NaN.
    Returns float tensors in the model's dtype, on the model's devices.
    Raises NotFiniteError with the first layer and token where a value is not finite, or too large
    for the norm that follows.
    """
    recorded = _pass(
        model,
        token_ids,
        lanes,
        record=record,
        positions=positions,
        stop_after=stop_after,
        gradients=gradients,
        each_layer=each_layer,
    )
    _refuse_non_finite(model, token_ids, lanes, positions, recorded, may_overflow)
    if may_overflow and recorded.final.numel():
        lost = [i for i, stream in enumerate(recorded.stream) if first_overflow(stream) is not None]
        recorded.final[lost] = torch.nan
    return recorded


def _pass(
    model: BaseModel,
    token_ids: TokenIds,
    lanes: Sequence[Lane],
    *,
    record: Sequence[int],
    positions: Positions,
    stop_after: int | None = None,
    gradients: bool = False,
    each_layer: Callable[[], None] | None = None,
) -> Pass:
    n_lanes, (n_texts, n_tokens) = len(lanes), token_ids.shape
    check_fits(
        activation_bytes(model, n_texts * n_tokens, len(record), n_lanes),
        model.device,
        f"one pass over {n_texts * n_tokens:,} tokens with {n_lanes} versions of the model",
        "shorten the text, or choose fewer layers",
    )
    records = {layer: LayerRecord() for layer in record}
    final = torch.empty(0, 0, model.d_model)
    streams = [final]
    keep_graph = gradients and torch.is_grad_enabled()
    with model.lock, torch.set_grad_enabled(keep_graph), ExitStack() as stack:
        for layer in record:
            for handle in _record_layer(model, layer, records[layer]):
                stack.callback(handle.remove)
        first = min((layer for lane in lanes for layer in lane), default=None)
        if len(lanes) > 1:
            split = first if first is not None else 0
            for handle in _split_at(model, split, n_lanes, n_texts):
                stack.callback(handle.remove)
        stack.enter_context(_changed(model, lanes, positions=positions, n_texts=n_texts))
        if each_layer is not None:
            for layer in range(model.n_layers):
                hook = model.parts(layer).layer.register_forward_hook(lambda *_: each_layer())
                stack.callback(hook.remove)
        if stop_after is not None and stop_after + 1 < model.n_layers:
            stack.callback(model.parts(stop_after + 1).layer.register_forward_pre_hook(_stop).remove)
        stack.callback(
            model.backbone.norm.register_forward_pre_hook(lambda norm, args: streams.append(args[0])).remove
        )
        with suppress(_Stopped):
            output = model.backbone(input_ids=token_ids.to(model.device), use_cache=False)
            final = output.last_hidden_state
    for record_ in records.values():
        _fill_lanes(record_, n_lanes * n_texts)
    return Pass(final=final, stream=streams[-1], layers=records)


def _refuse_non_finite(
    model: BaseModel,
    token_ids: TokenIds,
    lanes: Sequence[Lane],
    positions: Positions,
    recorded: Pass,
    may_overflow: bool,
) -> None:
    n_texts = len(token_ids)
    end = recorded.layers[max(recorded.layers)] if recorded.layers else None
    ends = [recorded.stream] if recorded.stream.numel() else [*vars(end).values()] if end else []
    for state in ends:
        # A state that every lane shares is that of the first.
        checked = [i for i in range(len(state)) if not (may_overflow and lanes[i // n_texts])]
        if checked and (bad := first_overflow(state[checked])) is not None:
            row = checked[bad[0]]
            lane, ids = lanes[row // n_texts], token_ids[row % n_texts][None]
            seen = _pass(model, ids, [lane], record=range(model.n_layers), positions=positions)
            raise NotFiniteError(source(model, lane, seen.layers, ids[0]))


class _Stopped(Exception):
    """Raised to end a forward pass after the last recorded layer."""


def _stop(module, args):
    raise _Stopped


def _fill_lanes(record: LayerRecord, n_rows: int) -> None:
    """A layer below the split ran once; its record counts for every lane."""
    for name in ("hidden", "attention", "mlp_output"):
        value = getattr(record, name)
        if value.shape[0] != n_rows:
            setattr(record, name, _in_every_lane(value, n_rows // value.shape[0]))


def _in_every_lane(texts: Tensor, n_lanes: int) -> Tensor:
    """The rows of all texts once for each lane; one text takes no memory for it."""
    return texts.expand(n_lanes, *texts.shape[1:]) if len(texts) == 1 else texts.repeat(n_lanes, 1, 1)


def _split_at(model: BaseModel, layer: int, n_lanes: int, n_texts: int):
    def expand(module, args, kwargs):
        hidden = _in_every_lane(args[0] if args else kwargs["hidden_states"], n_lanes)
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    def expand_mask(module, args, kwargs):
        mask = kwargs.get("attention_mask")
        if isinstance(mask, Tensor) and len(mask) == n_texts:
            kwargs["attention_mask"] = mask.repeat(n_lanes, *[1] * (mask.ndim - 1))
        return args, kwargs

    yield model.parts(layer).layer.register_forward_pre_hook(expand, with_kwargs=True)
    for above in range(layer, model.n_layers) if n_texts > 1 else ():
        # Eager attention has a mask for each text; others have none, or one for all.
        yield model.parts(above).layer.register_forward_pre_hook(expand_mask, with_kwargs=True)


def _without_rope(model: BaseModel):
    """Identity position embeddings (cos = 1, sin = 0), as the public training code ran attention."""

    def identity(module, args, output):
        cos, sin = output
        return torch.ones_like(cos), torch.zeros_like(sin)

    return model.backbone.rotary_emb.register_forward_hook(identity)


def _record_layer(model: BaseModel, layer: int, record: LayerRecord):
    parts = model.parts(layer)

    def hidden(module, args, kwargs):
        record.hidden = args[0] if args else kwargs["hidden_states"]

    def attention(module, args, output):
        record.attention = output[0]

    def mlp_output(module, args, output):
        record.mlp_output = output

    # `prepend`: what is recorded is what the module made, before any change of it.
    yield parts.layer.register_forward_pre_hook(hidden, with_kwargs=True)
    yield parts.attention.register_forward_hook(attention, prepend=True)
    yield parts.mlp.register_forward_hook(mlp_output, prepend=True)


def _change_layer(model: BaseModel, layer: int, rows: Sequence[tuple[slice, LayerChange]]):
    parts = model.parts(layer)
    outputs: dict[str, Tensor] = {}
    running: list[tuple[slice, LayerChange]] = []
    into_mlp = [row for row, change in rows if change.attention == "mlp_only"]

    def hide_attention(module, args, output):
        outputs["attention"] = attention = output[0]
        running[:] = [(row, pooled_over(change, attention[row])) for row, change in rows]
        hiding = [row for row, change in rows if change.attention != "standard"]
        if not hiding:
            return None
        stream = attention.clone()
        for row in hiding:
            stream[row] = 0
        return (stream, *output[1:])

    def show_mlp_attention(module, args):
        # To the norm's input and not to the stream: the residual that the MLP is added to stays h.
        stream = args[0].clone()
        for row in into_mlp:
            stream[row] = args[0][row] + outputs["attention"][row]
        return (stream, *args[1:])

    def add_attention_beside(module, args, output):
        beside = [row for row, change in rows if change.attention == "beside"]
        if not beside:
            return None
        output = output.clone()
        for row in beside:
            output[row] = output[row] + outputs["attention"][row]
        return output

    def modulate(target: str):
        def hook(module, args, output):
            modulated = output.clone()
            for row, change in running:
                if target in change.targets:
                    # From the output as it was: autograd refuses to look back at a row that was overwritten.
                    modulated[row] = output[row] + change.change(
                        target, outputs["attention"][row], args[0][row], output[row]
                    )
            return modulated

        return hook

    yield parts.attention.register_forward_hook(hide_attention)
    if into_mlp:
        yield parts.mlp_norm.register_forward_pre_hook(show_mlp_attention)
    projections: dict[str, nn.Module] = {"gate": parts.gate, "up": parts.up, "down": parts.down}
    for target, projection in projections.items():
        if any(target in change.targets for _, change in rows):
            yield projection.register_forward_hook(modulate(target))
    yield parts.mlp.register_forward_hook(add_attention_beside)
