"""Semantics of the layers in a file: read from it, inferred from key names, or chosen by the user."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import get_args

from npt_viz.adapter import VARIANTS, Semantics
from npt_viz.adapter.semantics import AttentionPath, Factor, Rule, variant_name
from npt_viz.checkpoint.layout import LayerPlan
from npt_viz.errors import NptVizError

Choice = str | Semantics
"""A variant's name (N1 … T1), an attention path (withheld, beside, standard), or the semantics itself."""

_S0_DOUBT = (
    "A_proj and B_proj have three meanings, and the file cannot tell which; read as S0 (public code at ed740ce: "
    "gate + B(A a), the MLP reads norm(h + a), out = h + MLP′). The others: S0-pooled (the same code at fa8c51e: the gate "
    "weight W + B diag(A ā) A with ā the mean of a over the text, out = h + MLP′(z)) and S0-residual (the design "
    "document: out = h + a + MLP′(z_C)). Choose the one whose code made the file"
)
_PATHS = get_args(AttentionPath)
_SCALED = ("S2", "T1")
"""Variants whose scale belongs to the file; the others fix theirs."""


def inferred(plan: LayerPlan, scale: float | None) -> Semantics:
    """Semantics inferred from the key names, with the file's modulation_scale where it has one."""
    match plan.rule:
        case "rank_one_sum" if plan.format == "A":
            return VARIANTS["N1"].semantics
        case "rank_one_sum":
            name = "S2"
        case "additive":
            name = "S1-add" if "B_add" in plan.roles else "S0"
        case "multiplicative":
            name = "S1-mult-later"
        case "additive_multiplicative":
            name = "S1-later"
        case "low_rank_tanh":
            name = "T1"
        case "low_rank_pooled":
            raise AssertionError("no tensors have this rule alone")
    return _with_scale(name, scale)


def chosen(choice: Choice, plan: LayerPlan, known: Semantics, scale: float | None, where: str) -> Semantics:
    """Semantics that the user chose, checked against the layer's tensors.

    A name stands for its forward pass, not for its targets: N2 on a file with two targets keeps attention beside.
    Raises NptVizError for an unknown name, or a rule that the tensors do not have.
    """
    if isinstance(choice, Semantics):
        semantics = choice
    elif choice.lower() in _PATHS:
        semantics = replace(known, attention=choice.lower())
    else:
        name = {known_name.lower(): known_name for known_name in VARIANTS}.get(choice.lower())
        if choice.lower() == "probe":
            raise NptVizError(
                "semantics probe runs the model on all layers; choose it where the checkpoint is opened "
                "(npt_viz.open_checkpoint, --semantics)"
            )
        if name is None:
            raise NptVizError(
                f"semantics {choice!r} is unknown; choose one of {', '.join(VARIANTS)}, {', '.join(_PATHS)} or probe"
            )
        semantics = _with_scale(name, scale)
    if semantics.rule not in plan.rules:
        raise NptVizError(
            f"{where}: semantics {choice if isinstance(choice, str) else semantics.rule!r} needs the rule "
            f"{semantics.rule}, but layer {plan.layer} has the tensors of {plan.rule}; choose one of "
            f"{', '.join(readings(plan))}"
        )
    return semantics


def readings(plan: LayerPlan) -> tuple[str, ...]:
    """Variants as which the tensors of a layer can be read."""
    return tuple(name for name, variant in VARIANTS.items() if variant.semantics.rule in plan.rules)


def from_fields(settings: object, where: str) -> Semantics:
    """Semantics from the fields of npt_config.json; raises NptVizError for a field that is not understood."""
    allowed = {"rule": get_args(Rule), "attention": _PATHS, "factor": (*get_args(Factor), None)}
    known = {field.name for field in fields(Semantics)}
    if not isinstance(settings, dict) or not {"rule", "attention"} <= settings.keys() <= known:
        raise NptVizError(
            f"{where}: semantics is {settings!r}; it needs rule and attention, and may have scale and factor: correct it"
        )
    for name, values in allowed.items():
        if settings.get(name) not in values:
            raise NptVizError(
                f"{where}: semantics {name} is {settings.get(name)!r}; it is one of "
                f"{', '.join(map(str, values))}: correct it or update npt_viz"
            )
    if isinstance(settings.get("scale", 1.0), bool) or not isinstance(
        settings.get("scale", 1.0), int | float
    ):
        raise NptVizError(f"{where}: semantics scale is {settings['scale']!r}, not a number; correct it")
    return Semantics(**settings)


def doubts(plans: Iterable[LayerPlan], known: Mapping[int, Semantics], scale: float | None) -> list[str]:
    """Warnings about semantics inferred from key names: what is uncertain and how to settle it."""
    by_variant: dict[str, list[int]] = {}
    for plan in plans:
        name = variant_name(known[plan.layer], tuple(plan.targets))
        by_variant.setdefault(name, []).append(plan.layer)
    sentences = []
    for name, layers in by_variant.items():
        where = f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
        if name in ("N1", "N4"):
            other = {"N1": "N2", "N4": "N3"}[name]
            sentences.append(
                f"{where}: {name} and {other} share all key names; read as {name} (attention withheld, NPT's "
                f"definition). If the run kept the attention residual choose {other}, or probe to let the weights say"
            )
        elif name == "S0":
            sentences.append(f"{where}: {_S0_DOUBT}")
        elif name == "S1-add":
            sentences.append(
                f"{where}: there is no B_mult; read as {name} ({VARIANTS[name].summary}; the safe mode of the public code "
                "at 30d9710). If B_mult was lost, copy the complete file"
            )
        elif name.startswith("S1"):
            lost = " There is no B_add; if it was lost, copy the complete file." if "mult" in name else ""
            rule = VARIANTS[name].semantics.rule
            others = [n for n, v in VARIANTS.items() if v.semantics.rule == rule and n != name]
            sentences.append(
                f"{where}: three recipes of S1 share all key names; read as {name} "
                f"({VARIANTS[name].summary}).{lost} The others: {', '.join(others)}"
            )
        elif name in _SCALED and scale is None:
            default = VARIANTS[name].semantics.scale
            sentences.append(
                f"{where}: the file has no modulation_scale; {name}'s default {default:g} is used. "
                "Put training_info.pt beside the weights, or give the semantics with its scale"
            )
    return sentences


def _with_scale(name: str, scale: float | None) -> Semantics:
    semantics = VARIANTS[name].semantics
    return replace(semantics, scale=float(scale)) if name in _SCALED and scale is not None else semantics
