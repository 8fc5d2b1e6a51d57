"""One prompt through the base model and the NPT model, in one pass."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from npt_viz.adapter import NOT_CAUSAL, Additive, LayerAdapter, LowRank, RankOneSum
from npt_viz.arguments import checked
from npt_viz.capture.finite import refuse_overflow
from npt_viz.capture.layer_trace import (
    BASE,
    NPT,
    LayerRun,
    as_numpy,
    fit_of,
    lane_of,
    layer_run,
    sinks_of_any,
)
from npt_viz.capture.predictions import Predictions, chunk_length, predictions
from npt_viz.capture.running import Pass, forward_pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import Encoded, display_token, encode
from npt_viz.next_token import check_top_k
from npt_viz.progress import CountProgress
from npt_viz.question import Bos, Prompt, Question, as_question
from npt_viz.results.inspection import Inspection, LayerInspection, TopTokens
from npt_viz.shapes import Float, Tensor


@runtime_checkable
class Edits(Protocol):
    """Permanent updates of a base model: a Ledger."""

    def __len__(self) -> int: ...

    def beneath(self) -> AbstractContextManager[None]:
        """Block in which the base is the edited one."""
        ...


@checked
def inspect(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    prompt: Prompt | Question,
    *,
    layers: Sequence[int] | None = None,
    mode: str = "local",
    positions: str = "deployed",
    chat: bool = False,
    bos: Bos = "auto",
    edits: Edits | None = None,
    top_k: int = 10,
    logits: bool = True,
    keep: Callable[[Pass], None] | None = None,
    progress: CountProgress | None = None,
) -> Inspection:
    """What the modulation does at every token of one prompt.

    prompt: text, token ids, or a Question, which says the five settings that follow by itself.
    layers: the NPT layers that run; the others of the checkpoint stay standard. All of them by default.
    mode: local feeds every NPT layer the base model's own h and a; propagated takes what the running NPT
        model sees and writes. The prediction (kl, nll, top-k) is that of the running NPT model in both.
    edits: a ledger whose updates lie beneath: base and NPT model are then those of base + ledger.
    logits: False leaves the prediction out, and with it the unembedding and every layer above the last of `layers`;
        in local mode the NPT model does not run then at all, unless `keep` asks for its lane.
    keep: gets the pass that everything is read from, lanes BASE and NPT with every layer of `layers` recorded: what
        asks more about the same prompt takes it as `kept_pass` and need not run the prompt again.
    progress: called with (steps done, steps in all); what it raises ends the pass and leaves no hook behind.

    Raises NptVizError for an empty or too long prompt, a layer the checkpoint does not have, a mode or positions that
    do not exist, and NotFiniteError where a value of the base or of the adapter is NaN or infinite.
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
    check_top_k(top_k)
    encoded = encode(model, question)
    adapters = adapters_of(checkpoint, question.layers)
    token_ids = torch.tensor([encoded.ids])
    chunks = -(-len(encoded.ids) // chunk_length(model, n_lanes=2)) if logits else 0
    top = max(adapters)
    # Without a prediction the layers above are not needed, and in local mode no lane but the base's.
    lanes = [{}] if not logits and question.mode == "local" and keep is None else [{}, adapters]
    step = _counted(progress, (model.n_layers if logits else top + 1) + chunks)
    with model.lock, torch.no_grad(), edits.beneath() if edits else nullcontext():
        recorded = forward_pass(
            model,
            token_ids,
            lanes,
            record=list(adapters),
            positions=question.positions,
            stop_after=None if logits else top,
            each_layer=step,
        )
        inspected = {
            layer: _layer(
                model, adapter, layer_run(model, adapter, recorded.layers[layer], lane_of(question.mode))
            )
            for layer, adapter in adapters.items()
        }
        predicted = (
            predictions(model, recorded.final, token_ids[0], top_k=top_k, each_chunk=step) if logits else None
        )
    if keep is not None:
        keep(recorded)
    return Inspection(
        prompt=prompt_text(question, encoded),
        model=model.name,
        checkpoint=checkpoint.name,
        mode=question.mode,
        positions=question.positions,
        pieces=tuple(encoded.pieces),
        layers=inspected,
        # Of the base's stream in both modes, so that a mode does not change which tokens count.
        is_sink=sinks_of_any(record.hidden[BASE] for record in recorded.layers.values()).numpy(),
        base=f"{model.size}, vocabulary {model.vocab_size:,}",
        n_edits=len(edits) if edits else 0,
        notes=(*encoded.notes, *pooling_notes(adapters)),
        **_prediction_columns(model, predicted),
    )


def prompt_text(question: Question, encoded: Encoded) -> str:
    """The prompt as text; the glyphs of its tokens where it was given as ids."""
    prompt = question.prompt
    return prompt if isinstance(prompt, str) else "".join(piece.glyph for piece in encoded.pieces)


def pooling_notes(adapters: Mapping[int, LayerAdapter]) -> list[str]:
    """What every result of layers that pool over the text has to say; nothing where there is none."""
    pooled = [str(layer) for layer, adapter in adapters.items() if adapter.is_pooled]
    return [f"layer {', '.join(pooled)}: {NOT_CAUSAL}"] if pooled else []


def _counted(progress: CountProgress | None, in_all: int) -> Callable[[], None]:
    steps = count(1)
    return (lambda: progress(next(steps), in_all)) if progress else (lambda: None)


def layers_of(checkpoint: Checkpoint, layers: Sequence[int] | None) -> list[int]:
    """The asked-for layers, each of which the checkpoint must have; all of them for None."""
    if layers is None:
        return sorted(checkpoint.layers)
    if missing := sorted(set(layers) - set(checkpoint.layers)):
        raise NptVizError(
            f"layer {missing[0]} is no NPT layer of {checkpoint.name}; it has layers "
            f"{', '.join(map(str, sorted(checkpoint.layers)))}: choose among these"
        )
    if not layers:
        raise NptVizError("no layer was chosen; name at least one NPT layer")
    return sorted(set(layers))


def adapters_of(checkpoint: Checkpoint, layers: Sequence[int] | None) -> dict[int, LayerAdapter]:
    """Layer -> adapter of the NPT layers that run, lowest first; see `layers_of`."""
    return {layer: checkpoint.adapter(layer) for layer in layers_of(checkpoint, layers)}


def _layer(model: BaseModel, adapter: LayerAdapter, run: LayerRun) -> LayerInspection:
    trace = run.trace
    fit = fit_of(adapter, trace)
    return LayerInspection(
        layer=adapter.layer,
        variant=adapter.variant,
        **_modulation_columns(model, run),
        relative_error=fit["relative_error"],
        cosine=fit["cosine"],
        magnitude_ratio=fit["magnitude_ratio"],
        recovered=fit["recovered"],
        hidden_norm=as_numpy(trace.hidden.norm(dim=-1)),
        attention_norm=as_numpy(trace.attention.norm(dim=-1)),
    )


def _modulation_columns(model: BaseModel, run: LayerRun) -> dict:
    names = ("scalars", "dots_with_h", "update_norms", "component_norms", "component_effects", "changes")
    columns = {name: {} for name in names}
    trace, plain, modulated, adapter = run
    n_tokens = len(trace.attention)
    for target, modulation in adapter.learned.items():
        home = next(modulation.parameters())
        a = trace.attention.to(home)
        x = (modulated.intermediate if target == "down" else trace.mlp_input).to(home)
        if isinstance(modulation, Additive):
            scalars = dots = norms = effects = a.new_zeros(n_tokens, 0)
            update_norm = a.new_full((n_tokens,), torch.nan)
        else:
            scalars = scalars_of(modulation, a, x)
            # v_a of the down target has the width of m, and there is no h of that width.
            dots = None if target == "down" else scalars_of(modulation, a, trace.hidden.to(home))
            norm_a, norm_b = modulation.norms(a)
            norms = norm_a * norm_b
            # norm_b has the scale in it.
            effects = scalars.abs() * norm_b
            update_norm = modulation.update_norm(a)
            for what, values in {
                "v_a·x": scalars,
                "v_a·h": dots,
                "‖ΔW_j‖": norms,
                "‖ΔW‖": update_norm[:, None],
            }.items():
                if values is not None:
                    refuse_overflow(model, adapter.layer, values, f"{what} of the {target}", adapter)
        if target == "down":
            # The intermediate differs too, so the change is held against W_d of the modulated intermediate.
            after = modulated.output.to(home)
            # NaN: no rule of a down target reads its unmodulated output, and one that did must not show numbers.
            change = modulation.change(a, x, torch.full_like(after, torch.nan))
            before = after - change
        else:
            before = getattr(plain, target).to(home)
            change = getattr(modulated, target).to(home) - before
        columns["scalars"][target] = as_numpy(scalars)
        if dots is not None:
            columns["dots_with_h"][target] = as_numpy(dots)
        columns["update_norms"][target] = as_numpy(update_norm)
        columns["component_norms"][target] = as_numpy(norms)
        columns["component_effects"][target] = as_numpy(effects)
        columns["changes"][target] = as_numpy(change.norm(dim=-1) / before.norm(dim=-1))
    return columns


def scalars_of(
    modulation: RankOneSum | LowRank,
    attention: Float[Tensor, "token model"],
    x: Float[Tensor, "token inp"],
) -> Float[Tensor, "token component"]:
    """The modulation scalars v_a·x of a rule that is a weight change (all but the additive ones), without v_a."""
    if isinstance(modulation, RankOneSum):
        return modulation.scalars(modulation.bottleneck(attention), x)
    return modulation.strength(attention) * (x @ modulation.A)


def _prediction_columns(model: BaseModel, predicted: Predictions | None) -> dict:
    if predicted is None:
        return {}
    tables = []
    for lane in (BASE, NPT):
        ids = predicted.top_ids[lane]
        glyph = {int(i): display_token(model.tokenizer, int(i)).glyph for i in np.unique(ids)}
        tables.append(
            TopTokens(
                ids=ids,
                probabilities=predicted.top_probabilities[lane],
                glyphs=tuple(tuple(glyph[int(i)] for i in row) for row in ids),
            )
        )
    return {
        "kl": predicted.kl[NPT],
        "nll_base": predicted.nll[BASE],
        "nll_npt": predicted.nll[NPT],
        "base_top": tables[BASE],
        "npt_top": tables[NPT],
    }
