"""Sentences about a specimen, each held against what is computed anew: which of them are false, and why.

`false_findings` is for whoever has the evidence at hand (benchmarks/health.py); nothing here needs pytest.
"""

from collections.abc import Iterable, Mapping

import health_checker  # noqa: F401
from recomputed import Layer, Saw
from sentence_checker import Refused, check

from npt_viz.adapter import LayerAdapter
from npt_viz.analysis.health.evidence import Evidence
from npt_viz.model.base import BaseModel
from npt_viz.results.health import Finding
from npt_viz.results.sentences.probe import probe


def false_findings(
    model: BaseModel,
    adapters: Mapping[int, LayerAdapter],
    saw: Saw,
    evidence: Evidence,
    findings: Iterable[Finding],
    *,
    texts: str,
    thorough: bool = False,
    kl=None,
) -> tuple[int, list[str]]:
    """(sentences checked, the false ones with the reason): each finding's meaning, and what every layer fits.

    saw: what the base's layers saw (recomputed.saw_of, or the literal Llama). thorough: all ways of a probe are computed
    anew, not only those with the largest shares. kl(layers, modulated): (token,) KL of the NPT model, for `broken_downstream`.
    """
    layers = {layer: Layer(model, adapter, saw, texts=texts) for layer, adapter in adapters.items()}
    measured = {each.layer: each for each in evidence.layers}
    shared = {"load": evidence.load, "all": [*layers.values()], "thorough": thorough, "kl": kl}
    checked = [("probe", str(probe(each.probe)), layer) for layer, each in measured.items()]
    checked += [(f"health: {each.rule}", each.meaning, each.layer) for each in findings]
    false = []
    for name, sentence, layer in checked:
        data = shared | {"layer": layers.get(layer), "measured": measured.get(layer)}
        try:
            check(name, sentence, data)
        except Refused as reason:
            false.append(f"{name}: {sentence} <- {reason}")
    return len(checked), false
