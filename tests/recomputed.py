"""One layer in whatever way a sentence names, computed anew in float64 from tensors and from what the base's layers saw.

Written from docs/mathematics.md and docs/variants.md, and from the words: `shares("in layer 3")` runs the adapter in layer
3. Only tensors and the settings of a variant are read; nothing of npt_viz computes here.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from npt_viz.adapter import VARIANTS, LayerAdapter
from npt_viz.model.base import BaseModel

Saw = Mapping[str, Sequence[Mapping[int, tuple[Tensor, Tensor]]]]
"""Positions -> one a text: layer -> (h, a), each (token, model)."""


def saw_of(seen) -> Saw:
    """From the records of a pass that was run anyway; tests/capture holds them against the literal Llama."""
    return {
        positions: [
            {layer: (record.hidden[0], record.attention[0]) for layer, record in text.items()}
            for text in each.records
        ]
        for positions, each in seen.items()
    }


class Weights:
    """The tensors and settings of an adapter, which a way may change."""

    def __init__(self, adapter: LayerAdapter) -> None:
        self.semantics = adapter.semantics
        self.layer = adapter.layer
        self.tensors = {
            target: {name: p.detach().double() for name, p in modulation.named_parameters()}
            for target, modulation in adapter.modulations.items()
        }
        self.times = dict.fromkeys(self.tensors, 1.0)
        self.positions = "deployed"
        self.scales = {t: getattr(m, "scale", 1.0) for t, m in adapter.modulations.items()}

    def used(self, name: str) -> "Weights":
        """As the words say: a way of the probe, literally."""
        way = copy.deepcopy(self)
        if name == "as it stands":
            return way
        if name == "without RoPE":
            way.positions = "trained"
        elif found := re.fullmatch(r"in layer (\d+)", name):
            way.layer = int(found[1])
        elif found := re.fullmatch(r"with the sign of what it adds(?: to (\w+))? turned", name):
            way._multiply(-1.0, found[1])
        elif found := re.fullmatch(r"with ([\d.e+-]+) times what it adds(?: to (\w+))?", name):
            way._multiply(_exact(float(found[1])), found[2])
        elif found := re.fullmatch(r"with (the weights|W_\w+) of (.+)", name):
            way._exchange(found[1], dict(pair.split(" for ")[::-1] for pair in found[2].split(", ")))
        elif name == "with its additive and its multiplicative part exchanged":
            for tensors in way.tensors.values():
                tensors["W_add"], tensors["W_mult"] = tensors["W_mult"], tensors["W_add"]
        elif found := re.fullmatch(r"read with attention (\w+)", name):
            way.semantics = replace(way.semantics, attention=found[1])
        elif found := re.fullmatch(r"read as (\S+)", name):
            way.semantics = VARIANTS[found[1]].semantics
            way.scales = dict.fromkeys(way.scales, way.semantics.scale)
            way._rename()
        else:
            raise AssertionError(f"{name!r} is no way to use an adapter")
        return way

    def _multiply(self, factor: float, target: str | None) -> None:
        assert target is None or target in self.times
        for each in self.times if target is None else [target]:
            self.times[each] *= factor

    def _exchange(self, what: str, taken: Mapping[str, str]) -> None:
        """taken: target -> the target whose tensor it gets."""
        old, scales = copy.deepcopy(self.tensors), dict(self.scales)
        for target, other in taken.items():
            if what == "the weights":
                self.tensors[target], self.scales[target] = old[other], scales[other]
            else:
                self.tensors[target][what] = old[other][what]

    def _rename(self) -> None:
        """A product A, B and an additive part W_down, W_add are the same two tensors."""
        for tensors in self.tensors.values():
            if self.semantics.rule == "low_rank_pooled" and "A" not in tensors:
                tensors["A"], tensors["B"] = tensors["W_down"], tensors["W_add"]
            if self.semantics.rule == "additive" and "W_down" not in tensors:
                tensors["W_down"], tensors["W_add"] = tensors["A"], tensors["B"]

    def added(self, target: str, a: Tensor, x: Tensor, plain: Tensor) -> Tensor:
        """(token, out): what the modulation of a target adds to its projection."""
        if target not in self.tensors:
            return torch.zeros_like(plain)
        t, scale = self.tensors[target], self.scales[target]
        match self.semantics.rule:
            case "rank_one_sum" | "low_rank_tanh":
                change = scale * sum(s[:, None] * v for s, v in zip(*self.scalars(target, a, x), strict=True))
            case "low_rank_pooled":
                change = (x @ t["A"] * (scale * (a.mean(0) @ t["A"]))) @ t["B"]
            case rule:
                p, change = a @ t["W_down"], torch.zeros_like(plain)
                if rule != "additive":
                    b = p @ t["W_mult"]
                    factor = {
                        "one_plus_sigmoid": 1 + torch.sigmoid(b),
                        "one_plus_tanh": 1 + torch.tanh(b),
                        "half_sigmoid": 0.5 * torch.sigmoid(b) + 0.5,
                    }[self.semantics.factor]
                    change = (factor - 1) * plain
                if rule != "multiplicative":
                    change = change + scale * (p @ t["W_add"])
        return self.times[target] * change

    def scalars(self, target: str, a: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """([(token,) v_a·x], [(token, out) v_b]) of every component, without the scale."""
        t = self.tensors[target]
        if self.semantics.rule == "low_rank_tanh":
            strength = torch.tanh(a @ t["A"]) * (x @ t["A"])
            return [*strength.T], [row.expand(len(a), -1) for row in t["B"]]
        p = [a @ W for W in t["W_down"]]
        return (
            [((p_j @ W) * x).sum(-1) for p_j, W in zip(p, t["W_a_up"], strict=True)],
            [p_j @ W for p_j, W in zip(p, t["W_b_up"], strict=True)],
        )


def _exact(shown: float) -> float:
    """0.707 is shown for a step of √2."""
    step = 2 ** (round(2 * np.log2(abs(shown))) / 2)
    return step if f"{step:.3g}" == f"{shown:.3g}" else shown


class Written:
    """What a layer's MLP writes at the tokens of a text."""

    def __init__(self, way: Weights, projections: Mapping[str, Tensor], norm, h: Tensor, a: Tensor) -> None:
        W, path = projections, way.semantics.attention
        reads, keeps = path in ("standard", "mlp_only"), path in ("standard", "beside")
        z, z_C = norm(h), norm(h + a)
        self.a, self.z, self.x = a, z, z_C if reads else z
        self.plain = {"gate": self.x @ W["gate"].T, "up": self.x @ W["up"].T}
        self.added = {t: way.added(t, a, self.x, self.plain[t]) for t in ("gate", "up")}
        self.down_weight = W["down"]
        self.intermediate = self.m(self.added)
        self.plain["down"] = self.intermediate @ W["down"].T
        self.added["down"] = way.added("down", a, self.intermediate, self.plain["down"])
        self.output = self.plain["down"] + self.added["down"]
        self.unmodulated = F.silu(self.plain["gate"]) * self.plain["up"] @ W["down"].T
        gate, up = z_C @ W["gate"].T, z_C @ W["up"].T
        self.target = F.silu(gate) * up @ W["down"].T + (0 if keeps else a)

    def m(self, added: Mapping[str, Tensor]) -> Tensor:
        return F.silu(self.plain["gate"] + added["gate"]) * (self.plain["up"] + added["up"])

    @property
    def recovered(self) -> np.ndarray:
        error = (self.output - self.target).square().sum(-1)
        nothing = (self.unmodulated - self.target).square().sum(-1)
        return (1 - error / nothing).numpy()


class Layer:
    """One adapter on what the base saw, in every way that has a name."""

    def __init__(self, model: BaseModel, adapter: LayerAdapter, saw: Saw, *, texts: str = "the text") -> None:
        self.model, self.saw, self.texts = model, saw, texts
        self.weights, self.layer = Weights(adapter), adapter.layer
        self._shares: dict[str, np.ndarray] = {}

    @cached_property
    def is_sink(self) -> np.ndarray:
        """(token,) ‖h‖ above ten times the median of its text, the lower one of an even number."""
        found = []
        for text in self.saw["deployed"]:
            norms = text[self.layer][0].float().norm(dim=-1).tolist()
            middle = sorted(norms)[(len(norms) - 1) // 2]
            found += [norm > 10 * middle for norm in norms]
        return np.array(found)

    def written(self, way: Weights) -> list[Written]:
        """One a text in which the layer was seen."""
        block = self.model.hf.model.layers[way.layer]
        W = {name: getattr(block.mlp, f"{name}_proj").weight.double() for name in ("gate", "up", "down")}
        scale, epsilon = block.post_attention_layernorm.weight.double(), self.model.config.rms_norm_eps

        def norm(x: Tensor) -> Tensor:
            return x / torch.sqrt(x.square().mean(-1, keepdim=True) + epsilon) * scale

        pairs = [text[way.layer] for text in self.saw[way.positions] if way.layer in text]
        with torch.no_grad():
            return [Written(way, W, norm, h.double(), a.double()) for h, a in pairs]

    def shares(self, name: str = "as it stands") -> np.ndarray:
        """(token,) share recovered at the tokens that are no sinks of the adapter's own layer; NaN where it was not tried."""
        if name not in self._shares:
            way, kept = self.weights.used(name), ~self.is_sink
            shares = np.full(len(kept), np.nan)
            # Another layer may have been seen on the first text alone.
            tried = np.concatenate([each.recovered for each in self.written(way)])
            shares[: len(tried)] = tried
            if way.semantics.attention == "standard":
                shares[:] = np.nan
            self._shares[name] = shares[kept]
        return self._shares[name]

    @cached_property
    def own(self) -> list[Written]:
        return self.written(self.weights)

    def column(self, of) -> Tensor:
        """of(written) of every token, joined over texts."""
        return torch.cat([of(each) for each in self.own])

    def counted(self, of) -> Tensor:
        """The same at the tokens that are no sinks."""
        return self.column(of)[torch.tensor(~self.is_sink)]
