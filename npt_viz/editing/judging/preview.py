"""Preview of an update: predictions before and after, computed without changing a weight."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

import npt_viz.next_token as next_token
from npt_viz.arguments import checked
from npt_viz.capture.predictions import predictions
from npt_viz.capture.running import Lane, changed, forward_pass
from npt_viz.checkpoint import Checkpoint, Live, as_checkpoint
from npt_viz.editing.base_check import check_base
from npt_viz.editing.cases import in_context
from npt_viz.editing.changes import edited_lane
from npt_viz.editing.making.from_source import Tokens, update_from
from npt_viz.editing.making.readings import ReferenceInputs
from npt_viz.editing.making.rules import UpdateRule
from npt_viz.editing.updates import Applied, Number, Update, UpdateStore
from npt_viz.errors import NptVizError
from npt_viz.model.base import BaseModel, greedy
from npt_viz.model.tokens import display_token, encode
from npt_viz.question import Positions
from npt_viz.results.editing import Continuation, NextToken, Outcome, Recovery, rank_changes
from npt_viz.results.inspection import Token, TopTokens
from npt_viz.shapes import Float, Int, TokenIds


@dataclass(frozen=True, kw_only=True, eq=False)
class UpdatePreview:
    """Predictions for one prompt before and after an update; both have the earlier edits of the ledger."""

    update: Update
    prompt: str
    pieces: tuple[Token, ...]
    before: Outcome
    after: Outcome
    npt_before: Outcome | None
    """The edited layers as NPT layers on the weights before the edit; None without a checkpoint."""
    npt_after: Outcome | None
    """The same on the edited weights: at its source token the modulation counts twice, once from the weights and
    once from the adapter."""
    recovery: Recovery | None
    """None where source and prompt are the same text, so that there is no context to do without."""
    notes: tuple[str, ...] = ()

    @property
    def kl(self) -> float:
        """KL(before ‖ after) at the last token, nats."""
        return float(self.after.kl[-1])

    @property
    def next_tokens(self) -> list[NextToken]:
        """Probabilities and ranks before and after, at the last token."""
        return rank_changes(self.before, self.after)

    def apply_to(self, ledger: UpdateStore[Applied]) -> Applied:
        """Put the update on a ledger; the base model stays as it is."""
        return ledger.apply(self.update)


@checked
def preview_update(
    model: BaseModel,
    checkpoint: Checkpoint | Live,
    source: str | Sequence[int],
    layer: int | Sequence[int],
    token: Tokens = -1,
    alpha: Number = 1.0,
    *,
    prompt: str | None = None,
    rule: UpdateRule | str = "npt",
    ledger: UpdateStore | None = None,
    reference: ReferenceInputs | None = None,
    top_k: int = 10,
) -> UpdatePreview:
    """Make an update from a token's modulation and preview it on a prompt.

    source: the text whose token's modulation is written; prompt: where the effect is looked at, the source by default.
    token: a position, several, or 'all'; rule: npt, exact, minimum_norm, whitened, or an UpdateRule with settings.
    ledger: earlier edits that both sides have.
    Raises NptVizError for a layer, token or component that does not exist, and an alpha that is not finite.
    """
    checkpoint = as_checkpoint(checkpoint, model)
    update = update_from(
        model, checkpoint, source, layer=layer, token=token, alpha=alpha, rule=rule, reference=reference
    )
    if prompt is None:
        prompt = update.origins[0].prompt if isinstance(source, str) else str(model.tokenizer.decode(source))
    return preview(
        model,
        update,
        prompt,
        checkpoint=checkpoint,
        context=source if isinstance(source, str) else None,
        ledger=ledger,
        top_k=top_k,
    )


@torch.no_grad()
def preview(
    model: BaseModel,
    update: Update,
    prompt: str,
    *,
    checkpoint: Checkpoint | None = None,
    context: str | None = None,
    ledger: UpdateStore | None = None,
    top_k: int = 10,
) -> UpdatePreview:
    """Preview an existing update on one prompt.

    context: a text that states what the prompt asks for; recovery compares with the prompt behind it. It may contain the
    prompt at its end already.
    """
    check_base(model, update)
    earlier = list(ledger.updates) if ledger else []
    edited = [*earlier, update]
    lanes = [edited_lane(model, earlier), edited_lane(model, edited)]
    names = ["before", "after"]
    adapters = {}
    if checkpoint is not None:
        adapters = {each: checkpoint.adapter(each) for each in update.layers if each in checkpoint.layers}
    if adapters:
        lanes += [edited_lane(model, earlier, adapters), edited_lane(model, edited, adapters)]
        names += ["NPT on, before", "NPT on, after"]
    encoded = encode(model, prompt)
    with model.lock:
        sides = outcomes(model, torch.tensor([encoded.ids]), lanes, names, top_k)
        recovery = _recovery(model, prompt, context, lanes[0], sides[:2], top_k)
    return UpdatePreview(
        update=update,
        prompt=prompt,
        pieces=encoded.pieces,
        before=sides[0],
        after=sides[1],
        npt_before=sides[2] if adapters else None,
        npt_after=sides[3] if adapters else None,
        recovery=recovery,
        notes=(*encoded.notes, *(note for origin in update.origins for note in origin.details)),
    )


def continuations(
    model: BaseModel,
    before: Sequence[Update],
    after: Sequence[Update],
    prompt: str,
    *,
    tokens: int = 40,
    temperature: float = 0.8,
    seed: int = 0,
) -> list[Continuation]:
    """Text after the prompt before and after an update, greedy and sampled with the same random numbers."""
    ids = torch.tensor([encode(model, prompt).ids])
    room = model.context_length - ids.shape[1]
    if room < 1:
        raise NptVizError(
            f"the prompt fills the context of {model.context_length} tokens; shorten it to see a continuation"
        )
    written = []
    for name, updates in (("before", before), ("after", after)):
        lane = edited_lane(model, updates)
        for style, heat in (
            ("greedy", 0.0),
            (f"sampled, temperature {temperature:g}, seed {seed}", temperature),
        ):
            token_ids = continued(model, lane, ids, min(tokens, room), temperature=heat, seed=seed)
            text = model.tokenizer.decode(token_ids, skip_special_tokens=False)
            written.append(Continuation(name, style, text, tuple(token_ids)))
    return written


def continued(
    model: BaseModel, lane: Lane, token_ids: TokenIds, steps: int, *, temperature: float = 0.0, seed: int = 0
) -> list[int]:
    """Token ids of a continuation, up to end-of-text; temperature 0 takes the most probable token.

    Sampling inverts the cumulative distribution at uniform numbers, so that two models with the same seed differ
    only where their predictions do.
    """
    uniform = iter(torch.rand(steps, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))

    def sampled(logits: Float[Tensor, "batch vocab"]) -> Int[Tensor, "batch"]:
        cumulative = (logits.cpu().double() / temperature).softmax(-1).cumsum(-1)
        drawn = torch.searchsorted(cumulative, next(uniform).expand(len(logits), 1))[:, 0]
        return drawn.clamp_max(logits.shape[-1] - 1)

    with changed(model, [lane]):
        return model.decode(token_ids, steps, sampled if temperature else greedy, stop_at_end=True)[
            0
        ].tolist()


def last_logits(model: BaseModel, final: Float[Tensor, "lane token model"]) -> Float[Tensor, "lane vocab"]:
    """Logits after the last token of every lane, float32."""
    return model.unembedding(final[:, -1]).float()


def outcomes(
    model: BaseModel,
    token_ids: TokenIds,
    lanes: Sequence[Lane],
    names: Sequence[str],
    top_k: int,
    positions: Positions = "deployed",
) -> list[Outcome]:
    """Predictions for one prompt in several lanes; the first is the reference of every KL."""
    final = forward_pass(model, token_ids, lanes, positions=positions).final
    predicted = predictions(model, final, token_ids[0], top_k=top_k)
    logits = last_logits(model, final).cpu().numpy()
    return [
        Outcome(
            name=name,
            logits=logits[lane],
            top=TopTokens(
                ids=predicted.top_ids[lane],
                probabilities=predicted.top_probabilities[lane],
                glyphs=tuple(
                    tuple(display_token(model.tokenizer, i).glyph for i in row)
                    for row in predicted.top_ids[lane].tolist()
                ),
            ),
            nll=predicted.nll[lane],
            kl=predicted.kl[lane],
        )
        for lane, name in enumerate(names)
    ]


def top_rows(model: BaseModel, log_p: Float[Tensor, "vocab"], top_k: int) -> list[tuple[str, int, float]]:
    """Most probable tokens as (glyph, id, probability)."""
    most_probable = next_token.top_k(log_p, top_k)
    return [
        (display_token(model.tokenizer, i).glyph, i, p)
        for i, p in zip(*(column.tolist() for column in most_probable), strict=True)
    ]


def _recovery(
    model: BaseModel, prompt: str, context: str | None, before: Lane, sides: list[Outcome], top_k: int
) -> Recovery | None:
    if context is None or context == prompt:
        return None
    text = context if context.endswith(prompt) else in_context(context, prompt)
    final = forward_pass(model, torch.tensor([encode(model, text).ids]), [before]).final
    informed = last_logits(model, final)[0].cpu().double().log_softmax(-1)
    plain, updated = (torch.from_numpy(side.logits).double().log_softmax(-1) for side in sides)
    return Recovery(
        with_context=text,
        kl_plain=float(next_token.kl(informed, plain)),
        kl_updated=float(next_token.kl(informed, updated)),
        top=top_rows(model, informed, top_k),
    )
