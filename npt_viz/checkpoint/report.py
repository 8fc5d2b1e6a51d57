"""Load report of a checkpoint: its tensors, read once each, compared with what its config claims."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TypeGuard

from npt_viz.adapter import NOT_CAUSAL, Semantics, variant_name
from npt_viz.adapter.semantics import Provenance, Rule
from npt_viz.checkpoint import base_match, meaning
from npt_viz.checkpoint.initialisation import untouched_rule
from npt_viz.checkpoint.keys import is_numbered, parsed_key
from npt_viz.checkpoint.layout import LayerPlan, Layout, TargetPlan
from npt_viz.checkpoint.native import tensor_hash
from npt_viz.checkpoint.source import CheckpointFiles
from npt_viz.model.base import BaseModel
from npt_viz.results.load_report import BaseMatch, Claim, LayerReport, LoadReport, PastEdits


def load_report(
    files: CheckpointFiles,
    layout: Layout,
    semantics: Mapping[int, Semantics],
    provenance: Mapping[int, Provenance],
    *,
    name: str,
    format: str,
    model: BaseModel | None,
) -> LoadReport:
    """Read all adapter tensors and report what they hold; a NaN is reported, not raised."""
    layers = tuple(
        _layer_report(files, plan, semantics[layer], provenance[layer])
        for layer, plan in layout.layers.items()
    )
    edits = [base_match.past_edits(files.store, layer) for layer in layout.layers]
    edits = tuple(edit for edit in edits if edit is not None)
    claims = tuple(_claims(files, layout, {layer: semantics[layer].rule for layer in layout.layers}))
    match = _base_match(files, tuple(layout.layers), model)
    used = sum(len(plan.keys) for plan in layout.layers.values())
    unused = (*layout.unused, *files.left_over)
    inferred = [
        plan for plan in layout.layers.values() if provenance[plan.layer] == "inferred from key names"
    ]
    doubts = meaning.doubts(inferred, semantics, files.scale)
    return LoadReport(
        name=name,
        format=format,
        tensors_total=used + len(unused),
        tensors_used=used,
        unused=unused,
        base_tensors=len(layout.base),
        aliases=layout.aliases,
        others=tuple(map(str, files.others)),
        layers=layers,
        warnings=(
            *_naming(layout),
            *_warnings(files, doubts, layers, claims, match, edits, unused, len(layout.base)),
        ),
        claims=claims,
        base_match=match,
        past_edits=edits,
        stated_fault=str((files.native or {}).get("fault") or ""),
    )


def _layer_report(
    files: CheckpointFiles, plan: LayerPlan, semantics: Semantics, provenance: Provenance
) -> LayerReport:
    store = files.store
    recorded = (files.native or {}).get("initial_hashes") or {}
    n_nan = n_inf = 0
    zero, untouched = [], {}
    for key in plan.keys:
        stored = store.mapped(key)
        tensor = stored.float()
        # One pass for all three questions: a NaN anywhere makes both extremes NaN.
        low, high = (float(extreme) for extreme in tensor.aminmax())
        is_finite = math.isfinite(low) and math.isfinite(high)
        if not is_finite:
            n_nan += int(tensor.isnan().sum())
            n_inf += int(tensor.isinf().sum())
        if low == high == 0:
            zero.append(key)
        if key in recorded:
            rule = "equal to its recorded initial value" if tensor_hash(stored) == recorded[key] else None
        else:
            rule = untouched_rule(tensor, low, high) if is_finite else None
        if rule is not None:
            untouched[key] = rule
    return LayerReport(
        layer=plan.layer,
        variant=variant_name(semantics, tuple(plan.targets)),
        semantics=asdict(semantics),
        provenance=provenance,
        targets=tuple(plan.targets),
        ranks={target: sizes.rank for target, sizes in plan.targets.items()},
        components_of={target: sizes.components(semantics.rule) for target, sizes in plan.targets.items()},
        dtype="+".join(sorted({store.infos[key].dtype for key in plan.keys})),
        bytes=sum(store.infos[key].bytes for key in plan.keys),
        n_nan=n_nan,
        n_inf=n_inf,
        zero_tensors=tuple(zero),
        at_initialisation=untouched,
        readings=meaning.readings(plan),
    )


def _base_match(files: CheckpointFiles, layers: tuple[int, ...], model: BaseModel | None) -> BaseMatch:
    if model is None:
        return BaseMatch(status="unknown", sentence="no base model is open; dimensions were not compared")
    base = (files.native or {}).get("base")
    if isinstance(base, dict):
        if isinstance(base.get("fingerprint"), dict):
            return base_match.match_by_fingerprint(base["fingerprint"], str(base.get("name")), model, layers)
        return base_match.match_by_name({"base_model_name": base.get("name")}, model)
    by_weights = base_match.match_by_weights(files.store, layers, model)
    return by_weights or base_match.match_by_name(files.claims, model)


def _claims(files: CheckpointFiles, layout: Layout, rules: Mapping[int, Rule]) -> Iterator[Claim]:
    """Fields of a config compared with the weights; only fields whose meaning is known."""
    plans: list[tuple[TargetPlan, Rule]] = [
        (target, rules[layer]) for layer, plan in layout.layers.items() for target in plan.targets.values()
    ]
    measured = {
        ("np_rank", "rank"): _one({plan.rank for plan, _ in plans}),
        ("num_ranks",): _one({plan.components(rule) for plan, rule in plans}),
        ("d_model", "hidden_size"): layout.d_model,
        ("d_ffn", "intermediate_size"): layout.d_ffn,
        ("npt_layer_indices", "npt_layers"): list(layout.layers),
    }
    for keys, value in measured.items():
        for key in keys:
            if key in files.claims:
                claimed = files.claims[key]
                claimed = sorted(claimed) if _is_numbers(claimed) else claimed
                yield Claim(key=key, claimed=claimed, found=value)
    for layer, described in ((files.native or {}).get("layers") or {}).items():
        plan = layout.layers.get(int(layer)) if str(layer).isdigit() else None
        targets = described.get("targets") if isinstance(described, dict) else None
        if plan is not None and isinstance(targets, dict):
            rule = rules[plan.layer]
            sizes = {t: {"rank": p.rank, "components": p.components(rule)} for t, p in plan.targets.items()}
            yield Claim(key=f"layers.{layer}.targets", claimed=targets, found=sizes)


def _naming(layout: Layout) -> Iterator[str]:
    """What is unusual about the names of the tensors."""
    prefixes = [prefix for prefix in layout.prefixes if prefix]
    if prefixes and len(layout.prefixes) == 1:
        yield f"the names of the tensors begin with {prefixes[0]}, and are read without it"
    elif prefixes:
        bare = (
            [f"no prefix ({', '.join(map(str, _layers_with(layout, '')))})"] if "" in layout.prefixes else []
        )
        named = [f"{p} ({', '.join(map(str, _layers_with(layout, p)))})" for p in prefixes]
        yield (
            f"the names of the tensors begin in several ways, by layer: {'; '.join(bare + named)}; the file was put together "
            "from several: check that they belong to one training"
        )
    for plan in layout.layers.values():
        groups = [keys for target in plan.targets.values() for keys in target.roles.values()]
        bare = [keys for keys in groups if len(keys) > 1 and not is_numbered(keys[0])]
        if bare:
            yield (
                f"layer {plan.layer}: {bare[0][0]} has no number beside {bare[0][1]}, and is read as component 0; if it is "
                "what another run left, keep the tensors of one run"
            )
    if layout.aliases:
        yield f"{len(layout.aliases)} names are other names of tensors that are counted already: {', '.join(layout.aliases[:3])}"


def _layers_with(layout: Layout, prefix: str) -> list[int]:
    """Layers of which a tensor has this prefix."""
    return [
        layer
        for layer, plan in layout.layers.items()
        if any((parsed := parsed_key(key)) is not None and parsed.prefix == prefix for key in plan.keys)
    ]


def _warnings(
    files: CheckpointFiles,
    doubts: Iterable[str],
    layers: tuple[LayerReport, ...],
    claims: tuple[Claim, ...],
    match: BaseMatch,
    edits: tuple[PastEdits, ...],
    unused: tuple[str, ...],
    n_base: int,
) -> Iterator[str]:
    if fault := (files.native or {}).get("fault"):
        yield f"the file states its own fault: {fault}"
    yield from files.notes
    yield from doubts
    if match.status == "mismatch":
        yield match.sentence
    for claim in claims:
        if not claim.agrees:
            yield f"the config says {claim.key} {claim.claimed}, the weights say {claim.found}; the weights count"
    if unused:
        entries = (
            "1 entry of the file belongs" if len(unused) == 1 else f"{len(unused)} entries of the file belong"
        )
        yield f"{entries} to no NPT layer and {'was' if len(unused) == 1 else 'were'} left: {', '.join(unused[:5])}"
    if n_base:
        yield (
            f"{n_base} tensors of a base model lie beside the adapters and are not used: "
            "the adapters run on the model that you opened"
        )
    pooled = [str(report.layer) for report in layers if report.semantics["rule"] == "low_rank_pooled"]
    if pooled:
        yield f"layer {', '.join(pooled)}: {NOT_CAUSAL}"
    for report in layers:
        yield from _layer_warnings(report)
    for edit in edits:
        if edit.singular_values:
            values = ", ".join(f"{value:.3g}" for value in edit.singular_values[:8])
            yield (
                f"layer {edit.layer}: gate_proj was edited permanently (singular values of the change {values}); "
                "open the folder as the base model to run it with its edits"
            )
        elif edit.note:
            yield f"layer {edit.layer}: past edits cannot be seen, original_gate_weight is a {edit.note}"


def _layer_warnings(report: LayerReport) -> Iterator[str]:
    if not report.finite:
        yield (
            f"layer {report.layer}: {report.n_nan} NaN and {report.n_inf} infinite values; it cannot run: "
            "open an earlier checkpoint of the run"
        )
    if report.zero_tensors:
        yield (
            f"layer {report.layer}: {', '.join(report.zero_tensors)} zero everywhere; "
            "a modulation whose output factor is zero does nothing"
        )
    for key, rule in report.at_initialisation.items():
        if key not in report.zero_tensors:
            yield f"layer {report.layer}: {key} looks untrained: {rule}"


def _one(values: set[int]) -> object:
    return next(iter(values)) if len(values) == 1 else sorted(values)


def _is_numbers(value: object) -> TypeGuard[list[int] | tuple[int, ...]]:
    return isinstance(value, list | tuple) and all(isinstance(item, int) for item in value)
