"""Which input tokens drive a scalar, ‖ΔW‖ or a logit: captum's methods on functions of the token ids.

Two rules keep the numbers right on real models. Token 0, the attention sink, is never replaced: without it
activations explode and integrated gradients do not converge. Tokens after the pinned one are cut off: attention is
causal, so they cannot matter. The only module that imports captum.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from captum.attr import FeatureAblation, LayerGradientXActivation, LayerIntegratedGradients
from torch import Tensor, nn

from npt_viz.adapter import Additive, LayerAdapter
from npt_viz.arguments import checked
from npt_viz.capture.finite import refuse_overflow
from npt_viz.capture.inspection import adapters_of, scalars_of
from npt_viz.capture.layer_trace import mlp_input_of
from npt_viz.capture.running import forward_pass, refuse_pooled
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import Encoded, display_token, encode
from npt_viz.progress import CountProgress
from npt_viz.question import Bos, Mode, Positions, Prompt, Question, as_question, check_mode
from npt_viz.results.attribution import METHODS, Attribution, Estimate, Method, Quantity
from npt_viz.shapes import Float, Int, TokenIds

STEPS = 128
"""Of integrated gradients. Measured on SmolLM2-135M, gate demo checkpoint, a prompt of 12 tokens, delta against the
change with 64 and 128 steps: scalar of layer 15 35 % and 3 %, its ‖ΔW‖ 3 % and 1 %, a logit of the base 44 % and 2 %."""

MAX_ROWS = 16
"""Prompts that run side by side; more would make the wait between two signs of progress longer."""

PASS_BYTES = 2**29
"""Activations of prompts that run side by side, roughly."""

SURELY_WARM = 3.0
"""Seconds above which a run is timed once: the first one of a process takes longer by less than that."""

GRADIENT_COST = 2
"""A forward pass with its gradient, in forward passes."""

Function = Callable[[Tensor], Tensor]
"""Token ids (row, token) to one number a row."""


@checked
def attribution(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    prompt: Prompt | Question,
    quantity: Quantity,
    *,
    method: str = "ablation",
    layers: Sequence[int] | None = None,
    mode: str = "local",
    positions: str = "deployed",
    baseline: str = "eos",
    steps: int = STEPS,
    chat: bool = False,
    bos: Bos = "auto",
    progress: CountProgress | None = None,
) -> Attribution:
    """How much each token of the prompt contributes to one number at the pinned token.

    prompt: text, token ids, or a Question, which says layers, mode, positions, chat and bos by itself.
    method: one of METHODS.
    layers: the NPT layers that run, all of them by default. mode: where a scalar or ‖ΔW‖ is read, in the base's stream
        (local) or in that of the running NPT model (propagated).
    baseline: the token that stands in for the others, eos or pad.
    steps: of integrated gradients.

    Raises NptVizError for a number that this layer does not have, a pin with nothing before it, an unknown method.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    question = as_question(
        prompt,
        layers=None if layers is None else tuple(layers),
        mode=mode,
        positions=positions,
        chat=chat,
        bos=bos,
    )
    asked = _asked(model, checkpoint, question, quantity, baseline)
    chosen = _checked(method, steps)
    total = forwards(method, asked.ids.shape[1], steps)
    counted = _Counted(asked.function, total, progress)
    started = time.monotonic()
    # Gradient methods hook the embedding, which every session shares.
    with model.lock:
        scores, delta = token_scores(
            counted,
            model.hf.get_input_embeddings(),
            asked.ids,
            asked.baseline,
            method=method,
            steps=steps,
            rows=rows_per_pass(model, asked.ids.shape[1], method != "ablation"),
        )
        with torch.no_grad():
            value, baseline_value = counted(torch.cat([asked.ids, asked.baseline])).tolist()
    padded = np.zeros(len(asked.encoded.ids), np.float32)
    padded[: len(scores)] = scores.float().cpu().numpy()
    return Attribution(
        quantity=quantity,
        name=asked.name,
        method=chosen,
        mode=question.mode,
        positions=question.positions,
        tokens=tuple(piece.glyph for piece in asked.encoded.pieces),
        scores=padded,
        baseline=asked.baseline_glyph,
        value=value,
        baseline_value=baseline_value,
        delta=delta,
        steps=steps if method == "integrated_gradients" else 0,
        forwards=total,
        seconds=time.monotonic() - started,
        notes=tuple(_notes(model, method)),
    )


def estimate(
    model: BaseModel,
    checkpoint: Checkpoint,
    question: Prompt | Question,
    quantity: Quantity,
    methods: Sequence[str],
    *,
    steps: int = STEPS,
) -> Estimate:
    """What `attribution` by these methods would cost, from runs of the prompt that are timed here."""
    asked = _asked(model, checkpoint, as_question(question), quantity, "eos")
    for method in methods:
        _checked(method, steps)
    one = _seconds(asked)
    if one < SURELY_WARM:
        one = min(one, _seconds(asked))
    total = sum(forwards(method, asked.ids.shape[1], steps) for method in methods)
    return Estimate(forwards=total, seconds=total * one)


def _seconds(asked: "_Asked") -> float:
    started = time.monotonic()
    with torch.no_grad():
        asked.function(asked.ids)
    return time.monotonic() - started


def forwards(method: str, n_tokens: int, steps: int = STEPS) -> int:
    """Runs of the prompt that a method takes, those with a gradient counted GRADIENT_COST times."""
    both_ends = 2
    match method:
        case "ablation":  # captum runs the prompt itself and every token's absence, the first's too
            return n_tokens + 1 + both_ends
        case "integrated_gradients":  # one more run each finds the embeddings of prompt and baseline
            return GRADIENT_COST * steps + 2 * both_ends + both_ends
        case _:
            return GRADIENT_COST + both_ends


def token_scores(
    function: Function,
    embedding: nn.Module,
    ids: Int[Tensor, "1 token"],
    baseline: Int[Tensor, "1 token"],
    *,
    method: str,
    steps: int = STEPS,
    rows: int = MAX_ROWS,
) -> tuple[Float[Tensor, "token"], float]:
    """(score of every token, convergence delta or NaN) of any function of token ids that reads them by `embedding`.

    rows: prompts that run side by side.
    """
    if method == "ablation":
        scores = FeatureAblation(function).attribute(ids, baselines=baseline, perturbations_per_eval=rows)
        # A token that is its own stand-in was not replaced; what is left there is rounding.
        return scores[0].where(ids[0] != baseline[0], 0.0), float("nan")
    if method == "gradient_x_activation":
        scores = LayerGradientXActivation(function, embedding).attribute(ids)
        return scores.detach().sum(-1)[0], float("nan")
    scores, delta = LayerIntegratedGradients(function, embedding).attribute(
        ids, baselines=baseline, n_steps=steps, internal_batch_size=rows, return_convergence_delta=True
    )
    return scores.detach().sum(-1)[0], float(torch.as_tensor(delta))


def function_of(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    quantity: Quantity,
    *,
    mode: Mode = "local",
    positions: Positions = "deployed",
) -> Function:
    """The quantity as a function of token ids. Each call takes the model's lock; gradients flow where autograd is on."""
    check_mode(mode)
    token = quantity.token

    def logit(ids: TokenIds) -> Float[Tensor, "row"]:
        lane = adapters if quantity.model == "NPT" else {}
        with model.lock:
            final = forward_pass(model, ids, [lane], positions=positions, gradients=True).final
            logits = model.unembedding(final[:, token]).float()
        asked_for = logits[:, quantity.token_id]
        return asked_for if quantity.against is None else asked_for - logits[:, quantity.against]

    def of_update(ids: TokenIds) -> Float[Tensor, "row"]:
        layer = quantity.layer
        assert layer is not None, "a scalar and ‖ΔW‖ are a layer's"
        adapter = adapters[layer]
        lane = adapters if mode == "propagated" else {}
        parts, modulation = model.parts(layer), adapter.modulation(quantity.target)
        with model.lock:
            record = forward_pass(
                model, ids, [lane], record=[layer], positions=positions, stop_after=layer, gradients=True
            ).layers[layer]
            hidden, attention = record.hidden[:, token], record.attention[:, token]
            x = mlp_input_of(parts, hidden, attention, adapter.attention)
            if quantity.target == "down":
                x = adapter.mlp(parts.mlp, attention, x).intermediate
        assert not isinstance(modulation, Additive), "it has no scalar and no ‖ΔW‖"
        home = next(modulation.parameters())
        if quantity.kind == "update_norm":
            values = modulation.update_norm(attention.to(home))
        else:
            values = scalars_of(modulation, attention.to(home), x.to(home))[:, quantity.component]
        name = "‖ΔW‖" if quantity.kind == "update_norm" else "the scalar"
        refuse_overflow(
            model, layer, values[:, None], f"{name} of the {quantity.target}", adapter, token=token
        )
        return values

    return logit if quantity.kind == "logit" else of_update


def rows_per_pass(model: BaseModel, n_tokens: int, gradients: bool) -> int:
    """Prompts that run side by side within PASS_BYTES; for a gradient every layer's activations are kept."""
    kept_layers = model.n_layers if gradients else 1
    a_row = n_tokens * (3 * model.d_ffn + 8 * model.d_model) * model.dtype.itemsize * kept_layers
    return max(1, min(MAX_ROWS, PASS_BYTES // a_row))


class _Counted:
    """A function of token ids that tells how many rows it has run."""

    def __init__(self, function: Function, total: int, progress: CountProgress | None) -> None:
        self._function, self._total, self._progress = function, total, progress
        self._done = 0

    def __call__(self, ids: Tensor) -> Tensor:
        values = self._function(ids)
        if self._progress:
            self._done += len(ids) * (GRADIENT_COST if values.requires_grad else 1)
            self._progress(min(self._done, self._total), self._total)
        return values


class _Asked(NamedTuple):
    """A question that has been checked."""

    encoded: Encoded
    ids: Tensor
    """(1, token), up to the pinned one"""
    baseline: Tensor
    baseline_glyph: str
    function: Function
    name: str


def _asked(
    model: BaseModel,
    checkpoint: Checkpoint,
    question: Question,
    quantity: Quantity,
    baseline: str,
) -> _Asked:
    encoded = encode(model, question)
    adapters = adapters_of(checkpoint, question.layers)
    refuse_pooled(
        adapters.values(), "attributes a number to the tokens before it, while later ones change it too"
    )
    _check_pin(quantity, len(encoded.ids))
    name = _logit_name(model, quantity) if quantity.kind == "logit" else _update_name(adapters, quantity)
    ids = torch.tensor([encoded.ids[: quantity.token + 1]], device=model.device)
    stand_in = _baseline_id(model, baseline)
    replaced = torch.full_like(ids, stand_in)
    replaced[:, 0] = ids[:, 0]
    return _Asked(
        encoded,
        ids,
        replaced,
        display_token(model.tokenizer, stand_in).glyph,
        function_of(model, adapters, quantity, mode=question.mode, positions=question.positions),
        f"{name} at {encoded.pieces[quantity.token].glyph} #{quantity.token}",
    )


def _check_pin(quantity: Quantity, n_tokens: int) -> None:
    if not 0 <= quantity.token < n_tokens:
        raise NptVizError(
            f"token {quantity.token} does not exist: the prompt has tokens 0 to {n_tokens - 1}; pin one of these"
        )
    if quantity.token == 0:
        raise NptVizError(
            "token 0 keeps its place in every baseline, so at token 0 there is nothing to attribute to; "
            + ("pin a later token" if n_tokens > 1 else "give a prompt of two tokens or more")
        )


def _update_name(adapters: Mapping[int, LayerAdapter], quantity: Quantity) -> str:
    """Names a scalar or ‖ΔW‖, after making sure that the layer has it."""
    layer = quantity.layer
    if layer is None or layer not in adapters:
        raise NptVizError(
            f"layer {layer} is no NPT layer that runs; choose among {', '.join(map(str, sorted(adapters)))}"
        )
    adapter = adapters[layer]
    if quantity.target not in adapter.targets:
        raise NptVizError(
            f"layer {layer} does not modulate {quantity.target!r}; it modulates {', '.join(adapter.targets)}: "
            "choose one"
        )
    modulation = adapter.modulation(quantity.target)
    if isinstance(modulation, Additive):
        raise NptVizError(
            f"layer {layer} ({adapter.variant}) adds to the {quantity.target}'s output instead of changing its "
            "weights, so it has no scalar and no ΔW; attribute a logit instead"
        )
    if quantity.kind == "update_norm":
        return f"‖ΔW‖ of layer {layer}, {quantity.target},"
    if not 0 <= quantity.component < modulation.components:
        raise NptVizError(
            f"layer {layer}, {quantity.target}: component {quantity.component} does not exist; it has components "
            f"0 to {modulation.components - 1}: choose one of these"
        )
    return f"the scalar of layer {layer}, {quantity.target}, component {quantity.component},"


def _logit_name(model: BaseModel, quantity: Quantity) -> str:
    named = []
    for token_id in (quantity.token_id, quantity.against):
        if token_id is None:
            continue
        if not 0 <= token_id < model.vocab_size:
            raise NptVizError(
                f"token id {token_id} is not in the vocabulary of {model.name} (0 to {model.vocab_size - 1}); "
                "choose an id in that range"
            )
        named.append(display_token(model.tokenizer, token_id).glyph)
    if quantity.token_id is None:
        raise NptVizError("a logit is of one next token; give its token_id")
    what = f"the logit of {named[0]}" if len(named) == 1 else f"the logit of {named[0]} − that of {named[1]}"
    return f"{what} in the {quantity.model} model"


def _baseline_id(model: BaseModel, baseline: str) -> int:
    if baseline not in ("eos", "pad"):
        raise NptVizError(f"baseline {baseline!r} does not exist; choose eos or pad")
    token_id = getattr(model.tokenizer, f"{baseline}_token_id")
    if token_id is None:
        raise NptVizError(
            f"the tokenizer of {model.name} has no {baseline} token; choose {'pad' if baseline == 'eos' else 'eos'}"
        )
    if token_id >= model.vocab_size:
        raise NptVizError(
            f"the {baseline} token of {model.name} has id {token_id} and its embedding ends at id {model.vocab_size - 1}; "
            f"choose {'pad' if baseline == 'eos' else 'eos'}"
        )
    return token_id


def _checked(method: str, steps: int) -> Method:
    if method not in METHODS:
        raise NptVizError(f"method {method!r} does not exist; choose among {', '.join(METHODS)}")
    if steps < 2:
        raise NptVizError(f"integrated gradients take at least 2 steps, got {steps}; {STEPS} is usual")
    return method


def _notes(model: BaseModel, method: str):
    if method != "ablation" and model.dtype not in (torch.float32, torch.float64):
        yield (
            f"the model runs in {str(model.dtype).removeprefix('torch.')}, in which gradients are noisy: "
            "open it in float32, or use feature ablation"
        )
