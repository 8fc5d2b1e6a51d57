"""Specimens of tests/faults.py: what pages, commands and health say of each, held against the literal Llama.

`PYTHONPATH=.:tests python tests/specimen_pages.py [NAME …]` runs them all and prints how many sentences it checked and which
are false.
"""

import copy
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from types import SimpleNamespace
from typing import TypeVar

import numpy as np
import reconstruction_checker  # noqa: F401
import torch
from faults import FAULTS, HEALTHY, HELD_OUT, Specimen
from literal import LiteralLlama
from recomputed import Layer, Weights, Written
from sentence_checker import Refused, check, interval
from specimen_sentences import false_findings
from stated import Said

import npt_viz
from npt_viz.adapter import LayerAdapter
from npt_viz.analysis.ablation import ablation_table
from npt_viz.analysis.attribution import attribution as attribution_of
from npt_viz.analysis.directions import directions as directions_of
from npt_viz.analysis.downstream import downstream as downstream_of
from npt_viz.analysis.orthogonality import orthogonality as orthogonality_of
from npt_viz.analysis.reconstruction import reconstruction as reconstruction_of
from npt_viz.capture.probe import SEQUENCES, windows
from npt_viz.checkpoint import Checkpoint
from npt_viz.question import Question
from npt_viz.results.attribution import Quantity
from npt_viz.results.directions import Unavailable
from npt_viz.results.reconstruction import PositionsCompared
from npt_viz.results.sentences import Basis
from npt_viz.results.sentences.attribution import attribution
from npt_viz.results.sentences.directions import directions
from npt_viz.results.sentences.health import health
from npt_viz.results.sentences.orthogonality import orthogonality
from npt_viz.results.sentences.reconstruction import (
    ablations,
    downstream,
    kl,
    other_positions,
    positions,
    reconstruction,
)
from npt_viz.results.sentences.tokens import tokens

Made = TypeVar("Made")

ATTRIBUTED = 17
"""Tokens of the prompt whose part in a scalar is found: each is a run."""


class Literal:
    """A base model and an adapter on some texts, from the formulas alone."""

    def __init__(self, base, adapters: Mapping[int, LayerAdapter], texts: list[list[int]]) -> None:
        self.base, self.adapters, self.texts = base, adapters, texts
        self.llama = LiteralLlama(base)

    @cached_property
    def saw(self) -> dict:
        """As the probe reads it: other layers on the first text alone."""
        found = {}
        for name in ("deployed", "trained"):
            rows = []
            for i, ids in enumerate(self.texts):
                layers, _, _ = self.llama.run(torch.tensor(ids), rope=name == "deployed")
                every = i == 0 and name == "deployed"
                rows.append(
                    {n: (s.hidden, s.attention) for n, s in enumerate(layers) if every or n in self.adapters}
                )
            found[name] = rows
        return found

    def layer(self, number: int, texts: str = "the text") -> Layer:
        return Layer(self.base, self.adapters[number], self.saw, texts=texts)

    def kl(self, layers, modulated: bool) -> np.ndarray:
        """(token,) KL(base ‖ these layers as NPT layers) of all texts."""
        found = []
        for ids in self.texts:
            base, changed = (self._log_p(ids, each, modulated) for each in ((), layers))
            found.append((base.exp() * (base - changed)).sum(-1))
        return torch.cat(found).numpy()

    def _log_p(self, ids: list[int], layers, modulated: bool) -> torch.Tensor:
        llama = self.llama
        hidden = llama.weights["model.embed_tokens.weight"][torch.tensor(ids)]
        for number in range(self.base.n_layers):
            name = f"model.layers.{number}"
            if number not in layers:
                hidden = llama.layer(number, hidden).output
                continue
            a = llama.attention(number, llama.norm(hidden, f"{name}.input_layernorm"), True)
            W = {t: llama.weights[f"{name}.mlp.{t}_proj.weight"] for t in ("gate", "up", "down")}
            way = Weights(self.adapters[number])

            def norm(x, name=name):
                return llama.norm(x, f"{name}.post_attention_layernorm")

            written = Written(way, W, norm, hidden, a)
            keeps = way.semantics.attention in ("standard", "beside")
            hidden = hidden + (a if keeps else 0) + (written.output if modulated else written.unmodulated)
        return (llama.norm(hidden, "model.norm") @ llama.weights["lm_head.weight"].T).log_softmax(-1)


def opened(specimen: Specimen) -> tuple[Checkpoint, dict[int, LayerAdapter]]:
    found = seeded(specimen.opened)
    if isinstance(found, dict):
        found = Checkpoint.from_adapters(found, specimen.base(), specimen.name)
    return found, {layer: found.adapter(layer) for layer in found.layers}


def seeded(made: Callable[[], Made]) -> Made:
    """Some specimens are drawn anew at each opening."""
    torch.manual_seed(0)
    return made()


def of_health(specimen: Specimen) -> tuple[int, list[str]]:
    """(sentences checked, false ones) of what health says."""
    specimen.opened()  # Whatever it trains is kept, and takes no random number the next time.
    base, (checkpoint, adapters), report = specimen.base(), opened(specimen), seeded(specimen.report)
    lines = specimen.lines() if specimen.floor else specimen.lines()[-HELD_OUT:]
    literal = Literal(base, adapters, windows(base, lines, SEQUENCES))
    finite = not any(row.n_nan or row.n_inf for row in checkpoint.report.layers)
    measured = [SimpleNamespace(layer=n, probe=each, floor=None) for n, each in report.probes.items()]
    # A floor is a training, held against another fit elsewhere (tests/analysis/test_class_floor.py).
    findings = [each for each in report.findings if each.rule not in ("rank_floor", "undertrained")]
    n, false = false_findings(
        base, adapters, literal.saw if finite else {}, SimpleNamespace(load=checkpoint.report, layers=measured),
        findings, texts="your text", thorough=True, kl=literal.kl,
    )  # fmt: skip
    data = {
        "texts": "your text", "severities": [each.severity for each in report.findings], "layers": report.layers,
        "lengths": [len(ids) for ids in literal.texts] if finite else [],
        "n_sinks": int(literal.layer(min(adapters)).is_sink.sum()) if finite else 0,
    }  # fmt: skip
    return n + 1, false + refused([Said("health", specimen.name, health(report), data)])


def of_pages(specimen: Specimen) -> Iterator[Said]:
    """Sentences about one prompt, with their data recomputed."""
    base, (checkpoint, adapters) = specimen.base(), opened(specimen)
    if any(row.n_nan or row.n_inf for row in checkpoint.report.layers):
        return
    ids = list(windows(base, specimen.lines()[-1:], 1)[0])
    literal = Literal(base, adapters, [ids])
    run = npt_viz.inspect(base, checkpoint, ids)
    layers = {number: literal.layer(number) for number in adapters}
    is_sink = np.any([each.is_sink for each in layers.values()], axis=0)
    shares = {number: np.concatenate([w.recovered for w in each.own]) for number, each in layers.items()}
    for each in layers.values():
        if each.weights.semantics.attention == "standard":
            shares[each.layer][:] = np.nan
    about = {"is_sink": is_sink, "with_sinks": False, "mode": "local", "positions": "deployed"}
    both = [
        reconstruction_of(base, checkpoint, Question(prompt=tuple(ids), positions=p))
        for p in ("deployed", "trained")
    ]
    predicted = downstream_of(base, checkpoint, [ids])
    for number, layer in layers.items():
        first = next(iter(layer.weights.tensors))
        (w,) = layer.own
        change = (w.added[first].norm(dim=-1) / w.plain[first].norm(dim=-1)).numpy()
        data = about | {
            "layer": number, "recovered": shares[number], "gate_change": change, "target": first, "tokens": run.tokens,
            "kl": literal.kl(tuple(adapters), True), "recovered_of": shares,
        }  # fmt: skip
        yield Said("tokens", specimen.name, tokens(run, number), data)
        keeps = layer.weights.semantics.attention in ("standard", "beside")
        data |= {
            "reconstructs": "MLP(z_C)" if keeps else "a + MLP(z_C)",
            "floors": (),
            "variant": adapters[number].variant,
        }
        yield Said("reconstruction", specimen.name, reconstruction(both[0], number), data)
        without = np.concatenate([w.recovered for w in layer.written(layer.weights.used("without RoPE"))])
        compared = PositionsCompared(deployed=both[0], trained=both[1])
        data = about | {"layer": number, "deployed": shares[number], "trained": without}
        if np.isfinite(shares[number]).any():
            yield Said("positions", specimen.name, positions(compared, number, Basis(is_sink=is_sink)), data)
            short = other_positions(compared, number, Basis(is_sink=is_sink))
            yield Said("other positions", specimen.name, short, data)
        moved = about | {"recovered_of": shares, "kl": literal.kl(tuple(adapters), True)}
        yield Said("kl", specimen.name, kl(run, Basis(is_sink=is_sink)), moved)
        yield from of_vectors(specimen, base, checkpoint, run, layer, about)
        yield of_ablations(specimen, base, adapters[number], ids, layer)
        yield from of_attribution(specimen, base, checkpoint, ids[:ATTRIBUTED], layer)
    for arm in {predicted.whole.layers, *((number,) for number in adapters)}:
        data = {
            "layers": arm, "on": literal.kl(arm, True), "off": literal.kl(arm, False), "text": "reference text",
            "positions": "deployed", "attention": {n: each.weights.semantics.attention for n, each in layers.items()},
        }  # fmt: skip
        sentence = downstream(predicted, predicted.arm(arm), text="reference text")
        yield Said("downstream", specimen.name, sentence, data)


def of_vectors(specimen, base, checkpoint, run, layer: Layer, about: dict) -> Iterator[Said]:
    """Directions and orthogonality of the first target: vectors written out."""
    from health_checker import lost_on_one

    basis = Basis(is_sink=about["is_sink"])
    found = Unavailable.unless(lambda: directions_of(base, checkpoint, run, layer.layer))
    if isinstance(found, Unavailable):
        return
    kept = torch.tensor(~layer.is_sink)
    (w,) = layer.own
    added = w.added[found.target][kept]
    singular = torch.linalg.svdvals(added)
    p = singular / singular.sum()
    lost = interval(lost_on_one(layer, found.target))
    verdicts = []
    for verdict in found.verdicts:
        evidence = dict(verdict.evidence)
        if verdict.name == "s·v_b":
            evidence |= {
                "effective rank": float((-p * p.clamp_min(1e-300).log()).sum().exp()),
                "left out by one direction": float(1 - singular[0] ** 2 / (singular**2).sum()),
                "lost with one direction": lost[0], "lost, at least": lost[1], "lost, at most": lost[2],
            }  # fmt: skip
        verdicts.append(replace(verdict, evidence=evidence))
    exact = found.exact
    if not isinstance(exact, Unavailable):
        block = base.hf.model.layers[layer.layer].mlp
        needed = (
            w.a
            if found.target == "down"
            else (z_C(base, layer) - w.z) @ getattr(block, f"{found.target}_proj").weight.double().T
        )
        exact = replace(exact, cosines=torch.cosine_similarity(added, needed[kept], dim=-1).numpy())
    data = about | {
        "result": replace(found, verdicts=tuple(verdicts), exact=exact),
        "redrawn": redrawn(layer, found.target),
        "others": None if isinstance(exact, Unavailable) else with_other_tokens(layer, found.target, needed),
    }
    yield Said("directions", specimen.name, directions(found, basis), data)
    t = layer.weights.tensors[found.target]
    if layer.weights.semantics.rule != "rank_one_sum" or found.target == "down":
        return
    along = orthogonality_of(base, checkpoint, run, layers=[layer.layer], target=found.target, top=3).layers[
        layer.layer
    ]
    v_a = w.a @ t["W_down"][0] @ t["W_a_up"][0]
    h = layer.saw["deployed"][0][layer.layer][0].double()[kept]
    energy, mean = v_a.square().sum(-1), h.mean(0)
    axes = torch.linalg.svd(h - mean, full_matrices=False).Vh[:3]
    result = replace(
        along, mean_shares=((v_a @ mean) ** 2 / mean.square().sum() / energy).numpy(),
        shares=((v_a @ axes.T).square().sum(-1) / energy).numpy(),
    )  # fmt: skip
    data = about | {"result": result, "axes_from": "this prompt"}
    yield Said("orthogonality", specimen.name, orthogonality(along, basis), data)


DRAWS = 32


def redrawn(layer: Layer, target: str) -> tuple[float, float]:
    """(mean, sd) of the effective rank of what is added, with weights of the same sizes from other random numbers."""
    draw, (w,), way = np.random.default_rng(1729), layer.own, copy.deepcopy(layer.weights)
    kept = torch.tensor(~layer.is_sink)
    norms = w.added[target][kept].norm(dim=-1, keepdim=True)
    x = w.intermediate if target == "down" else w.x
    found = []
    for _ in range(DRAWS):
        for name, t in layer.weights.tensors[target].items():
            way.tensors[target][name] = torch.from_numpy(
                draw.normal(0, float(t.square().mean().sqrt()), t.shape)
            )
        added = way.added(target, w.a, x, w.plain[target])[kept]
        singular = torch.linalg.svdvals(norms * torch.nn.functional.normalize(added, dim=-1))
        p = singular / singular.sum()
        found.append(float((-p * p.clamp_min(1e-300).log()).sum().exp()))
    return float(np.mean(found)), float(np.std(found, ddof=1))


def with_other_tokens(layer: Layer, target: str, needed: torch.Tensor) -> tuple[float, float]:
    """(mean, sd) of the median cosine with the exact change where each token has the ΔW of another one, drawn anew."""
    draw, (w,) = np.random.default_rng(1729), layer.own
    kept = torch.tensor(~layer.is_sink)
    a, x, plain = w.a[kept], (w.intermediate if target == "down" else w.x)[kept], w.plain[target][kept]
    found = []
    while len(found) < DRAWS:
        others = draw.permutation(len(a))
        if (others == np.arange(len(a))).any():
            continue
        added = layer.weights.added(target, a[others], x, plain)
        found.append(float(torch.cosine_similarity(added, needed[kept], dim=-1).median()))
    return float(np.mean(found)), float(np.std(found, ddof=1))


def z_C(base, layer: Layer) -> torch.Tensor:
    h, a = layer.saw["deployed"][0][layer.layer]
    norm = base.hf.model.layers[layer.layer].post_attention_layernorm
    x = h.double() + a.double()
    return x / torch.sqrt(x.square().mean(-1, keepdim=True) + base.config.rms_norm_eps) * norm.weight.double()


def of_attribution(specimen, base, checkpoint, ids: list[int], layer: Layer) -> Iterator[Said]:
    """The first scalar at the last token, with each token before it replaced in a run of its own."""
    target = next(iter(layer.weights.tensors))
    if layer.weights.semantics.rule != "rank_one_sum" or target == "down":
        return
    last, stand_in = len(ids) - 1, base.tokenizer.eos_token_id
    asked = Quantity(kind="scalar", token=last, layer=layer.layer, target=target)
    result = attribution_of(base, checkpoint, tuple(ids), asked)

    def scalar(tokens: list[int]) -> float:
        literal = Literal(base, {layer.layer: checkpoint.adapter(layer.layer)}, [tokens])
        (own,) = literal.layer(layer.layer).own
        return float(layer.weights.scalars(target, own.a, own.x)[0][0][last])

    value = scalar(ids)
    scores = [0.0] + [value - scalar([*ids[:i], stand_in, *ids[i + 1 :]]) for i in range(1, last + 1)]
    data = {"result": replace(result, value=value, scores=np.array(scores))}
    yield Said("attribution", specimen.name, attribution(result), data)


def of_ablations(specimen, base, adapter: LayerAdapter, ids: list[int], layer: Layer) -> Said:
    """The mean scalar and the mean direction, written out."""
    table = ablation_table(base, adapter, ids, logits=False)
    shares = {"as it is": np.concatenate([w.recovered for w in layer.own])}
    for name in ("mean scalar", "mean direction"):
        if any(row.name == name for row in table.rows):
            shares[name] = ablated(layer, name)
    data = {
        "layer": layer.layer, "shares": shares, "is_sink": layer.is_sink, "with_sinks": False, "mode": "local",
        "positions": "deployed",
    }  # fmt: skip
    return Said("ablations", specimen.name, ablations(table), data)


def ablated(layer: Layer, name: str) -> np.ndarray:
    (own,) = layer.own
    kept = torch.tensor(~layer.is_sink)
    way, m_own = layer.weights, own.intermediate

    def added(target: str, a, x, plain):
        if target not in way.tensors:
            return torch.zeros_like(plain)
        scale, read = way.scales[target], m_own if target == "down" else own.x
        total = torch.zeros_like(plain)
        for s_own, v, s in zip(
            *way.scalars(target, own.a, read), way.scalars(target, own.a, x)[0], strict=True
        ):
            if name == "mean scalar":
                total = total + scale * s_own[kept].mean() * v
            else:
                effect = scale * s_own[:, None] * v
                size = effect.norm(dim=-1, keepdim=True)
                mean = torch.where(size > 0, effect / size, 0.0)[kept].mean(0)
                now = (scale * s[:, None] * v).norm(dim=-1, keepdim=True)
                total = total + now * mean / mean.norm().clamp_min(1e-30)
        untouched = way.added(target, a, x, plain)
        return torch.where(kept[:, None], total, untouched)

    changed = {t: added(t, own.a, own.x, own.plain[t]) for t in ("gate", "up")}
    m = own.m(changed)
    plain_down = m @ own.down_weight.T
    output = plain_down + added("down", own.a, m, plain_down)
    error, nothing = (x.square().sum(-1) for x in (output - own.target, own.unmodulated - own.target))
    return (1 - error / nothing).numpy()


def refused(said: list[Said]) -> list[str]:
    false = []
    for each in said:
        try:
            check(each.name, each.sentence, each.data)
        except Refused as reason:
            false.append(f"{each.name} of {each.case!r}: {each.sentence} <- {reason}")
    return false


def judged(specimen: Specimen) -> tuple[int, list[str]]:
    """(sentences checked, false ones) of everything that is said of a specimen."""
    n, false = of_health(specimen)
    said = [*of_pages(specimen)]
    return n + len(said), false + refused(said)


if __name__ == "__main__":
    torch.set_num_threads(1)
    n_checked, all_false = 0, []
    for each in (*FAULTS, *HEALTHY):
        if not sys.argv[1:] or each.name in sys.argv[1:]:
            n, false = judged(each)
            n_checked, all_false = n_checked + n, all_false + false
            print(f"{each.name}: {n} sentences, {len(false)} false", *false, sep="\n  ", flush=True)
    print(f"{n_checked} sentences, {len(all_false)} false")
