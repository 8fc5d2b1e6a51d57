"""Results made by hand about one layer, from raw columns: what it fits, what its parts are worth, what it predicts."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
from stated import Said, drawn, sinks

from npt_viz.results.downstream import Arm, Downstream, Run
from npt_viz.results.estimate import DECIDING, median_of
from npt_viz.results.health import Finding, HealthReport, ordered
from npt_viz.results.probe import Alternative, LayerProbe
from npt_viz.results.reconstruction import Ablation, AblationTable, GateOracle
from npt_viz.results.sentences.health import health
from npt_viz.results.sentences.probe import probe
from npt_viz.results.sentences.reconstruction import ablations, downstream, gate_oracle

HALF, OTHER_LAYER, TURNED = (
    "with 0.5 times what it adds",
    "in layer 16",
    "with the sign of what it adds turned",
)
NAN = float("nan")


def of_probe() -> Iterator[Said]:
    """Shares by way; the first is the adapter as it stands."""
    own, near = drawn(1, 101, 0.6, 0.02), drawn(2, 101, 0.62, 0.02)
    bad, noisy = drawn(3, 101, -0.8, 0.05), drawn(4, 101, 0.0, 0.02)
    part = np.where(np.arange(101) < 53, own + 0.3, NAN)
    ways = {
        "none better": ("as it is", (), {HALF: own - 0.2, "without RoPE": own - 0.1}),
        "little better": ("as it is", (), {HALF: near, TURNED: bad}),
        "in another layer": ("something else", (OTHER_LAYER,), {OTHER_LAYER: part, HALF: noisy}),
        "turned": ("something else", (TURNED,), {TURNED: own, HALF: bad}),
        "either": ("undecided", (TURNED, HALF), {TURNED: own, HALF: own[::-1] - 0.0001, "without RoPE": bad}),
        "untold": ("undecided", (), {HALF: own + drawn(5, 101, 0.02, 0.3)}),
        "nothing": ("nothing", (), {HALF: noisy + 0.01, "with W_down of up for gate, gate for up": bad}),
        "standard": ("not judged", (), {HALF: np.full(101, NAN), "read as S1-later": noisy}),
        "standard in every way": (
            "not judged",
            (),
            {HALF: np.full(101, NAN), "read as S1-later": np.full(101, NAN)},
        ),
    }
    starts = {"in another layer": noisy, "turned": noisy - 0.5, "either": noisy - 0.5, "nothing": noisy}
    for case, (verdict, fits, tried) in ways.items():
        as_it_stands = starts.get(case, np.full(101, NAN) if "standard" in case else own)
        yield probed(case, verdict, fits, {"as it stands": as_it_stands, **tried})


def probed(case: str, verdict, fits: tuple[str, ...], shares: dict[str, np.ndarray]) -> Said:
    own = next(iter(shares.values()))
    kinds = {HALF: "size", OTHER_LAYER: "layer", TURNED: "sign", "without RoPE": "positions"}
    tried = {
        name: Alternative(
            kind="as it is" if name == "as it stands" else kinds.get(name, "reading" if "read" in name else "swapped"),
            name=name, recovered=median_of(each), gain=median_of(each - own, DECIDING),
        )
        for name, each in shares.items()
    }  # fmt: skip
    first, *others = tried.values()
    found = LayerProbe(
        layer=15, variant="N4", verdict=verdict, fits=tuple(tried[name] for name in fits), texts="bundled text",
        alternatives=(first, *sorted(others, key=lambda each: -np.nan_to_num(each.recovered.value, nan=-9.0))),
    )  # fmt: skip
    semantics = SimpleNamespace(attention="standard" if verdict == "not judged" else "withheld")
    layer = SimpleNamespace(
        layer=15, texts="bundled text", weights=SimpleNamespace(semantics=semantics),
        shares=lambda name="as it stands": shares[name],
    )  # fmt: skip
    data = {"layer": layer, "measured": SimpleNamespace(probe=found), "thorough": True}
    return Said("probe", case, probe(found), data)


def of_health() -> Iterator[Said]:
    ways = {
        "none": ([], 1, (89,), 1),
        "one of each": (["error", "warning", "info"], 2, (89, 97), 0),
        "several": (["error"] * 3 + ["info"] * 2, 3, (1013,), 2),
        "nothing was run": (["error"], 0, (), 0),
    }
    for case, (severities, n_layers, lengths, n_sinks) in ways.items():
        findings = [
            Finding(rule="parity", severity=each, layer=1, evidence={}, meaning="m.", action="a.")
            for each in severities
        ]
        layers = tuple(range(n_layers))
        report = HealthReport(
            model="m", checkpoint="c", layers=layers, findings=ordered(findings), n_tokens=sum(lengths), n_sinks=n_sinks,
            n_sequences=len(lengths), seconds=0.0, texts="bundled text",
        )  # fmt: skip
        data = {
            "texts": "bundled text",
            "severities": severities,
            "layers": layers,
            "lengths": lengths,
            "n_sinks": n_sinks,
        }
        yield Said("health", case, health(report), data)


def of_ablations() -> Iterator[Said]:
    ways = {
        "all": {"as it is": drawn(1, 23, 0.6), "mean scalar": drawn(2, 23, 0.37), "mean direction": drawn(3, 23, -0.2)},
        "no direction": {"as it is": drawn(1, 23, 0.6), "mean scalar": drawn(2, 23, 0.37)},
        "few": {"as it is": drawn(1, 4, 0.6), "mean scalar": drawn(2, 4, 0.37)},
        "nothing": {"as it is": np.full(23, NAN), "mean scalar": np.full(23, NAN)},
    }  # fmt: skip
    for case, shares in ways.items():
        is_sink = sinks(len(shares["as it is"]), 0)
        rows = tuple(
            Ablation(name=name, meaning="", recovered=each, relative_error=each)
            for name, each in shares.items()
        )
        table = AblationTable(layer=15, rows=rows, is_sink=is_sink)
        data = {
            "layer": 15, "shares": shares, "is_sink": is_sink, "with_sinks": False, "mode": "local", "positions": "trained",
        }  # fmt: skip
        yield Said("ablations", case, ablations(table, positions="trained"), data)


def of_oracle() -> Iterator[Said]:
    ways = {
        "no limit": (drawn(1, 31, 0.001, 0.0001), drawn(2, 31, 0.52, 0.1), 0.43),
        "gate alone": (drawn(1, 31, 0.001, 0.0001), drawn(2, 31, 0.52, 0.1), 0.0),
        "beyond": (drawn(1, 31, 0.6, 0.05), drawn(2, 31, 0.3, 0.05), 0.43),
        "few": (drawn(1, 4, 0.001, 0.0001), drawn(2, 4, 0.52, 0.1), 0.43),
        "untold": (drawn(1, 31, 0.5, 0.2), drawn(2, 31, 0.5, 0.2), 0.43),
    }
    for case, (error, adapter_error, adapter_moved) in ways.items():
        n = len(error)
        moved, own = drawn(6, n, 1.37), np.full(n, adapter_moved)
        oracle = GateOracle(
            layer=15, tokens=np.arange(n), penalties=(1.0, 0.0), relative_error=np.stack([error + 1, error]),
            movement=np.stack([moved / 2, moved]), adapter_error=adapter_error, adapter_movement=own,
            unmodulated_error=np.ones(n), iterations=9,
        )  # fmt: skip
        data = {
            "layer": 15, "error": error, "moved": moved, "adapter_error": adapter_error, "adapter_moved": own,
            "mode": "propagated", "positions": "deployed",
        }  # fmt: skip
        yield Said("gate oracle", case, gate_oracle(oracle, mode="propagated"), data)


def of_downstream() -> Iterator[Said]:
    off = np.abs(drawn(1, 37, 1.3))
    ways = {
        "most": (off * 0.1, off, {15: "withheld", 20: "withheld"}),
        "a part": (off * 0.6, off, {15: "beside", 20: "beside"}),
        "little": (off * 0.83, off, {15: "withheld", 20: "beside"}),
        "worse": (off * 1.7, off, {15: "withheld", 20: "withheld"}),
        "untold": (np.abs(drawn(3, 37, 1.3)), off, {15: "withheld", 20: "withheld"}),
        "nothing": (off, np.zeros(37), {15: "standard", 20: "standard"}),
        "few": (off[:4] * 0.1, off[:4], {15: "withheld", 20: "withheld"}),
    }
    for case, (on, without, attention) in ways.items():
        for layers in ((15,), (15, 20)):
            arm = Arm(layers=layers, npt=ran(on), off=ran(without))
            n = len(on)
            result = Downstream(
                tokens=("w",) * n, sequence=np.zeros(n, int), position=np.arange(n), layers=(15, 20), nll_base=np.zeros(n),
                arms=(arm,), positions="deployed", attention=attention,
            )  # fmt: skip
            data = {
                "layers": layers, "on": on, "off": without, "attention": attention, "text": "reference text",
                "positions": "deployed",
            }  # fmt: skip
            yield Said(
                "downstream", f"{case} {len(layers)}", downstream(result, arm, text="reference text"), data
            )


def ran(kl: np.ndarray) -> Run:
    return Run(kl=kl, nll=kl, agrees=kl < 1, drift=np.zeros(3))


def said_of_layers() -> list[Said]:
    """Every sentence about one layer on every result made by hand."""
    makers = (of_probe, of_health, of_ablations, of_oracle, of_downstream)
    return [each for maker in makers for each in maker()]
