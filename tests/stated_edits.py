"""Results made by hand about edits, files and parity, one for every way in which their sentences can come out."""

from collections.abc import Iterator

import numpy as np
from stated import Said, drawn

from npt_viz.results.editing import EditReport, Leakage, PromptScore, RealisedEdit, Scorecard
from npt_viz.results.load_report import BaseMatch, LayerReport, LoadReport
from npt_viz.results.parity import Check, Parity
from npt_viz.results.sentences.editing import leakage, realised, scorecard
from npt_viz.results.sentences.trust import load, parity

NAN = float("nan")


def of_scorecard() -> Iterator[Said]:
    ways = {
        "written": ([("reliability", 1), ("generalisation", 1), ("generalisation", 0), ("locality", 1)], (20.13, 20.46), 0.0123),
        "not written": ([("reliability", 0), ("locality", 1), ("locality", 1), ("portability", 0)], (20.13, 19.02), 0.2),
        "nothing else moves": ([("reliability", 1)], (20.13, 20.131), 0.0),
    }  # fmt: skip
    for case, (rows, perplexity, kl) in ways.items():
        card = Scorecard(
            prompts=tuple(
                PromptScore(part, "p", "␣Rome", "␣Rome" if hit else "␣Paris", bool(hit), bool(hit), 0.1, 0.1) for part, hit in rows
            ),
            before_perplexity=perplexity[0], after_perplexity=perplexity[1], neutral_kl=kl, n_neutral_tokens=1013,
        )  # fmt: skip
        data = {
            "rows": rows,
            "expected": "␣Rome",
            "predicted": "␣Paris",
            "perplexity": perplexity,
            "kl": kl,
            "n": 1013,
        }
        yield Said("scorecard", case, scorecard(card), data)


def of_leakage() -> Iterator[Said]:
    ways = {
        "apart": {"npt": drawn(1, 101, 0.0, 0.8), "minimum norm": drawn(2, 101, 0.0, 0.3), "whitened": drawn(3, 101, 0.0, 0.1)},
        "alike": {"npt": drawn(1, 101, 0.0, 0.8), "minimum norm": -drawn(1, 101, 0.0, 0.8)},
        "one": {"npt": drawn(1, 101, 0.0, 0.8)},
    }  # fmt: skip
    for case, effects in ways.items():
        parameter = "model.layers.15.mlp.gate_proj.weight"
        leaks = [
            Leakage(
                rule=rule.replace(" ", "_"), parameter=parameter, leakage=each, effect=np.abs(each), update_norm=1.0,
                hit_most=(),
            )
            for rule, each in effects.items()
        ]  # fmt: skip
        data = {"effects": effects, "parameter": parameter, "mode": "propagated", "positions": "trained"}
        yield Said("leakage", case, leakage(leaks, mode="propagated", positions="trained"), data)


def of_realised() -> Iterator[Said]:
    asked = drawn(1, 103, 0.0, 0.1).reshape(1, -1)
    rough = np.where(np.abs(asked) > 0.05, asked, 0.0)
    ways = {
        "one": {"float32": [(asked, asked)], "bfloat16": [(asked, rough)]},
        "two": {"float32": [(asked, asked), (asked, asked)], "bfloat16": [(asked, asked), (asked, rough)]},
        "nothing left": {"float32": [(asked, rough)], "bfloat16": [(asked, 0 * asked)]},
        "not finite": {"float32": [(asked, asked)], "float16": [(asked, np.full_like(asked, np.inf))]},
        "nothing asked": {"float32": [(0 * asked, 0 * asked)]},
    }  # fmt: skip
    for case, kept in ways.items():
        edits = tuple(
            _realised(f"w{i}", dtype, *each)
            for i in range(2)
            for dtype, all_ in kept.items()
            for each in all_[i : i + 1]
        )
        yield Said("realised", case, realised(EditReport(edits=edits, singular_values={})), {"kept": kept})


def _realised(parameter: str, dtype: str, asked: np.ndarray, change: np.ndarray) -> RealisedEdit:
    finite = bool(np.isfinite(change).all())
    sizes = float(np.linalg.norm(asked)), float(np.linalg.norm(change)) if finite else NAN
    product = sizes[0] * sizes[1]
    cosine = float((asked * change).sum() / product) if finite and product else NAN
    return RealisedEdit(
        parameter, dtype, sizes[0], 0.1, sizes[1], cosine, float((change != 0).mean()), finite
    )


MATCHES = {
    "config and weights of its layers are those of m": dict(named="m", config=True, equal={3: True, 7: True}, compared="all"),
    "config and weights of its layers are those of m; of layer 7 it records none": dict(
        named="m", config=True, equal={3: True}, compared="all", unrecorded=[7]
    ),
    "the config is that of m; of its layers the file records no weights to compare": dict(
        named="m", config=True, equal={}, compared="all"
    ),
    "the checkpoint was made on other, whose weights differ from m's in layer 7; numbers will be off: open the base model that it was "
    "trained on": dict(named="other", config=True, equal={3: True, 7: False}, compared="all"),
    "the checkpoint was made on m, whose config differs from m's, though the weights of its layers are the same; check rope and norm "
    "settings": dict(named="m", config=False, equal={3: True, 7: True}, compared="all"),
    "the gate weights beside the adapters are m's (layer 3, 7)": dict(named=None, config=None, equal={3: True, 7: True}, compared="gate"),
    "the gate weights beside the adapters differ from m's in layer 7; open this folder itself as the base model": dict(
        named=None, config=None, equal={3: True, 7: False}, compared="gate"
    ),
    "the file does not name its base; its dimensions fit m": dict(named=None, config=None, equal={}, compared="all"),
    "the file names m, the model that is open; it has no fingerprint to prove it": dict(
        named="m", config=None, equal={}, compared="all"
    ),
    "the file names other as its base, the open model is m; the dimensions fit, the numbers need not: open the base model that it was "
    "trained on": dict(named="other", config=None, equal={}, compared="all"),
}  # fmt: skip
"""Sentence -> what is so in the file."""


def of_load() -> Iterator[Said]:
    for i, (sentence, match) in enumerate(MATCHES.items()):
        layers = {3: [f"layer_3_np.{k}" for k in "abc"], 7: [f"layer_7_np.{k}" for k in "abcdef"]}
        left = ["ema.x"] * (i % 3)
        variants = {3: "N1", 7: "N4" if i % 2 else "N1"}
        known = {
            3: "inferred from key names",
            7: "inferred from key names" if i % 2 else "chosen by the user",
        }
        report = LoadReport(
            name="c", format="A" if i % 2 else "native", tensors_total=9 + len(left), tensors_used=9, unused=tuple(left), base_tensors=0,
            layers=tuple(layer_report(layer, variants[layer], known[layer]) for layer in layers), warnings=(),
            base_match=BaseMatch(status="match", sentence=sentence),
        )  # fmt: skip
        data = {
            "format": "A" if i % 2 else "native", "keys": [*layers[3], *layers[7], *left], "layers": layers, "variant": variants,
            "provenance": known, "match": {"model": "m", **match},
        }  # fmt: skip
        yield Said("load", sentence[:40], load(report), data)


def layer_report(layer: int, variant: str, provenance: str) -> LayerReport:
    return LayerReport(
        layer=layer, variant=variant, semantics={}, provenance=provenance, targets=("gate",), ranks={"gate": 8}, components_of={"gate": 1},
        dtype="float32", bytes=9, n_nan=0, n_inf=0, zero_tensors=(), at_initialisation={},
    )  # fmt: skip


def of_parity() -> Iterator[Said]:
    ways = {
        "holds": (0.0, 3.2e-7, 1.1e-6, 0.0),
        "dense differs": (0.0, 0.0123, 1.1e-6, 0.0),
        "all differ": (0.25, 0.0123, 0.31, 3.0),
        "not a number": (0.0, NAN, 1.1e-6, 0.0),
    }
    for case, values in ways.items():
        described = (
            ("NPT off = base", 0.0, "logits"), ("adapter = dense ΔW, layer 3", 1e-5, "relative"),
            ("cached = uncached, logits", 4.1e-5, "relative"), ("cached = uncached, tokens", 0.0, "tokens"),
        )  # fmt: skip
        checks = [
            (name, value, allowed, unit, value)
            for (name, allowed, unit), value in zip(described, values, strict=True)
        ]
        result = Parity(
            model="m", checkpoint="c", prompt="p", n_tokens=13, token=11, layers=(3, 7), written_out=(3,), dtype="float32",
            checks=tuple(Check(name=n, measured=v, tolerance=a, unit=u, meaning="") for n, v, a, u, _ in checks),
        )  # fmt: skip
        data = {"checks": checks, "layers": (3, 7), "n_tokens": 13, "token": 11, "dtype": "float32"}
        yield Said("parity", case, parity(result), data)


def said_of_edits() -> list[Said]:
    """Every sentence about an edit, a file or parity on every result made by hand."""
    makers = (of_scorecard, of_leakage, of_realised, of_load, of_parity)
    return [each for maker in makers for each in maker()]
