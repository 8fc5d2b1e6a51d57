"""Scores of rules and strengths over a set of facts, each fact written on the untouched base."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from npt_viz.checkpoint import Checkpoint
from npt_viz.editing.cases import NEUTRAL_TEXTS, Case, whitening_texts
from npt_viz.editing.judging.preview import preview
from npt_viz.editing.judging.scorecard import answers, scorecards
from npt_viz.editing.judging.sweep import continuation_ids
from npt_viz.editing.making.from_source import Tokens, update_from
from npt_viz.editing.making.readings import reference_inputs
from npt_viz.editing.making.rules import UpdateRule
from npt_viz.editing.updates import Place
from npt_viz.model.base import BaseModel
from npt_viz.results.editing import Scorecard


class Trial(NamedTuple):
    """Scores of one fact written by one rule at one strength."""

    case: Case
    rule: str
    alpha: float
    card: Scorecard
    update_norm: float
    """‖α ΔW‖_F over all projections"""
    recovered: float
    """1 − KL(with context ‖ updated) / KL(with context ‖ plain) at the prompt's last token"""


def trials(
    model: BaseModel,
    checkpoint: Checkpoint,
    cases: Sequence[Case],
    *,
    layer: int | Sequence[int],
    token: Tokens = -1,
    rules: Sequence[UpdateRule],
    alphas: Sequence[float],
    neutral: Sequence[str] = NEUTRAL_TEXTS,
) -> Iterator[Trial]:
    """Trials of every case × rule × alpha; the source of an update is the case's context and prompt."""
    layers = [layer] if isinstance(layer, int) else list(layer)
    places = [Place(each, target) for each in layers for target in checkpoint.adapter(each).targets]
    references = {
        (rule.reads, rule.positions, rule.reference): reference_inputs(
            model, rule.reference or whitening_texts(), places, reads=rule.reads, positions=rule.positions
        )
        for rule in rules
        if rule.name == "whitened"
    }
    for case in cases:
        for rule in rules:
            reference = references.get((rule.reads, rule.positions, rule.reference))
            update = update_from(
                model, checkpoint, case.source, layer=layers, token=token, rule=rule, reference=reference
            )
            updates = [update.at(alpha) for alpha in alphas]
            cards = scorecards(model, [], [[each] for each in updates], case, neutral=neutral)
            for each, card in zip(updates, cards, strict=True):
                recovery = preview(model, each, case.prompt, context=case.source).recovery
                yield Trial(
                    case,
                    rule.name,
                    float(each.alpha),
                    card,
                    each.norm(),
                    recovery.recovered if recovery else float("nan"),
                )


class Reference(NamedTuple):
    """Answer of the base to a fact's prompt, with its context in front or without: bounds for what an edit can do."""

    case: Case
    told: bool
    """Whether the context stands before the prompt."""
    hit: bool
    """The new continuation is the most probable one."""
    margin: float
    """log p(new) − log p(old), nats; old is by default what the base says without the context"""


def references(model: BaseModel, cases: Sequence[Case]) -> Iterator[Reference]:
    """References of every case, without and with its context."""
    for case in cases:
        new = continuation_ids(model, case.new)
        if case.old:
            old = continuation_ids(model, case.old)
        else:
            old = [int(answers(model, [{}], case.prompt, [new])[0].top[0])]
        for told, prompt in ((False, case.prompt), (True, case.source)):
            new_answer, old_answer = answers(model, [{}], prompt, [new, old])
            yield Reference(
                case, told, bool(new_answer.is_top[0]), float(new_answer.log_p[0] - old_answer.log_p[0])
            )
