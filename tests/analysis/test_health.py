"""Every rule fires on a checkpoint made to have its fault and is silent on the others; docs/health.md says the same."""

import re

import pytest
from conftest import specimen
from faults import DOCUMENT, FAULTS, HEALTHY, LAYER, TRIPLE, model, modified, scaled, tabled, texts, trained

from npt_viz.analysis.health import evenly_spaced, health, left_to_the_whole
from npt_viz.analysis.health.evidence import Evidence, LayerEvidence, Opposites, Predicted, Sinks
from npt_viz.analysis.health.load_rules import of_weights
from npt_viz.analysis.health.rules import (
    broken_downstream,
    findings,
    fits_something_else,
    parity,
    sink_dominates,
)
from npt_viz.checkpoint import Checkpoint
from npt_viz.errors import NptVizError
from npt_viz.results.directions import Verdict
from npt_viz.results.estimate import Estimate
from npt_viz.results.health import RULES, Finding, HealthReport, ordered
from npt_viz.results.load_report import BaseMatch, LayerReport, LoadReport
from npt_viz.results.probe import Alternative, LayerProbe
from npt_viz.results.sentences.health import health as in_words


@pytest.mark.slow
@pytest.mark.timeout(1200)
class TestSpecimens:
    @pytest.mark.parametrize("made", FAULTS, ids=lambda made: made.name)
    def test_a_fault_is_found_and_nothing_that_does_not_follow_from_it(self, made):
        assert made.fault in made.fired
        assert made.fired <= {made.fault} | made.follows

    @pytest.mark.parametrize("made", HEALTHY, ids=lambda made: made.name)
    def test_a_healthy_checkpoint_has_no_finding(self, made):
        assert not made.report().findings

    def test_the_document_tells_what_these_runs_found(self):
        document = DOCUMENT.read_text(encoding="utf-8")
        assert tabled(document) == document, "run `PYTHONPATH=. python tests/faults.py` and read what changed"


def test_every_rule_has_a_specimen_and_a_line_in_the_document():
    # No checkpoint was found that fits two things alike; test_a_near_tie_is_ambiguous makes one up.
    assert {made.fault for made in FAULTS} == set(RULES) - {"ambiguous"}
    described = set(re.findall(r"^\| `(\w+)` \| (?:error|warning|info)", DOCUMENT.read_text("utf-8"), re.M))
    assert described == set(RULES)


@pytest.fixture(scope="module")
def small_checkpoint():
    """Hardly trained, which is quick."""
    return Checkpoint.from_adapters(trained(TRIPLE, steps=3), model(), "three steps")


def test_findings_are_data(small_checkpoint):
    adapters = modified({LAYER: small_checkpoint.adapter(LAYER)}, scaled(300.0))
    report = health(model(), Checkpoint.from_adapters(adapters, model(), "huge"), texts()[-4:])
    assert report.findings[0].severity == "error"
    assert report.findings[0].evidence["recovered_high"] < 0
    for finding in report.findings:
        assert finding.layer == LAYER and finding.meaning.endswith(".") and finding.action.endswith(".")
        assert all(isinstance(value, float) for value in finding.evidence.values())
    assert report.to_json()["findings"][0]["rule"] == report.findings[0].rule
    assert report.n_tokens == sum(len(line) for line in texts()[-4:-2]) and report.n_sequences == 2


def test_the_same_checkpoint_gets_the_same_numbers(small_checkpoint):
    reports = [health(model(), small_checkpoint, texts()[-4:]) for _ in range(2)]
    assert reports[0].findings == reports[1].findings


def test_text_too_short_to_judge_by_is_refused(small_checkpoint):
    with pytest.raises(NptVizError, match="at least 32"):
        health(model(), small_checkpoint, ["too short"])


def test_a_layer_that_is_not_there_is_refused(small_checkpoint):
    with pytest.raises(NptVizError, match="layer 2 is no NPT layer"):
        health(model(), small_checkpoint, texts()[-4:], layers=[2])


def test_standard_attention_is_said_and_not_judged_by_its_fit(tiny_llama):
    checkpoint = Checkpoint.from_adapters({2: specimen(tiny_llama, "S0-residual")}, tiny_llama, "S0")
    report = health(tiny_llama, checkpoint, ["a longer text, so that there are enough tokens to judge by"])
    assert any("standard path" in note for note in report.notes)
    assert not {finding.rule for finding in report.findings} & {"wrong_size", "worse_than_nothing"}


def test_progress_says_what_is_done_and_can_stop_it(small_checkpoint):
    seen = []

    def stop(stage, fraction):
        seen.append(fraction)
        if "NPT model" in stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        health(model(), small_checkpoint, texts()[-4:], progress=stop)
    assert seen == sorted(seen) and len(seen) >= 4
    assert model().lock.acquire(blocking=False)
    model().lock.release()


def evidence(**changed) -> LayerEvidence:
    """A layer about which there is nothing to say."""
    nan = float("nan")
    report = LayerReport(
        layer=5, variant="N4", semantics={"rule": "rank_one_sum"}, provenance="from the file", targets=("gate", "up"),
        ranks={"gate": 8, "up": 8}, components_of={"gate": 1, "up": 1}, dtype="F32", bytes=1, n_nan=0, n_inf=0,
        zero_tensors=(), at_initialisation={},
    )  # fmt: skip
    numbers = dict(
        report=report, reconstructs="a + MLP(z_C)", probe=probed(0.8), n_tokens=101, largest_change=0.5, verdicts={},
        opposites=Opposites(0, 99, 0.0, nan, nan, near(nan)), sinks=Sinks(2, 0.0, 0.8, nan),
    )  # fmt: skip
    return LayerEvidence(**(numbers | changed))


def near(share: float) -> Estimate:
    return Estimate(share, share - 0.01, share + 0.01, 97)


def way(kind: str, share: float, own: float) -> Alternative:
    return Alternative(
        kind=kind,
        name=f"as {kind}",
        recovered=near(share),
        gain=near(share - own),
        value={"size": 2.0}.get(kind),
    )


def probed(own: float, verdict: str = "as it is", **others: float) -> LayerProbe:
    """others: kind -> share recovered that way; the ways that fit better."""
    ways = tuple(way(kind, share, own) for kind, share in others.items())
    return LayerProbe(
        layer=5,
        variant="N4",
        verdict=verdict,
        fits=ways,
        alternatives=(way("as it is", own, own), *ways),
        texts="a text",
    )


def test_one_tensor_of_four_that_looks_drawn_is_a_coincidence():
    """It happened in two of eight healthy layers; an optimiser that misses parameters misses all of a kind."""

    def found(at_initialisation: dict[str, str]) -> list[str]:
        settings = vars(evidence().report) | {
            "at_initialisation": at_initialisation,
            "components_of": {"gate": 2, "up": 2},
        }
        return [f.rule for f in of_weights(LayerReport(**settings))]

    normal = "normal with the customary standard deviation 0.02"
    names = [f"layer_5_np.W_a_up_{target}.{j}" for target in ("gate", "up") for j in range(2)]
    assert found(dict.fromkeys(names[:3], normal)) == []
    assert found(dict.fromkeys(names, normal)) == ["untrained"]
    assert found({names[0]: "equal to its recorded initial value"}) == ["untrained"]


def test_a_near_tie_is_ambiguous_and_names_no_cause():
    tie = evidence(probe=probed(0.02, "undecided", sign=0.5, size=0.5))
    found = list(fits_something_else(tie))
    assert [f.rule for f in found] == ["ambiguous"] and found[0].severity == "error"
    assert "cannot be told which: 50" in found[0].meaning
    clear = evidence(probe=probed(0.02, "something else", size=0.5))
    assert [f.rule for f in fits_something_else(clear)] == ["wrong_size"]


def test_parity_needs_tokens_that_suffer():
    suffers = Opposites(40, 100, 0.4, -0.8, 0.9, near(0.1))
    assert [f.rule for f in parity(evidence(opposites=suffers))] == ["parity"]
    for innocent in (
        suffers._replace(share=0.05),
        suffers._replace(needed=-0.1),
        suffers._replace(given=-0.7),
        suffers._replace(recovered=near(0.6)),
    ):
        assert not list(parity(evidence(opposites=innocent)))
    explained = evidence(opposites=suffers, probe=probed(0.1, "something else", positions=0.6))
    assert not list(parity(explained)), "positions explain what these tokens suffer from"


def loaded(match: str) -> LoadReport:
    return LoadReport(
        name="c", format="A", tensors_total=1, tensors_used=1, unused=(), base_tensors=0, layers=(), warnings=(),
        base_match=BaseMatch(status=match, sentence="the base"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("match", "otherwise", "fired"),
    [
        ("mismatch", 0.13, ["wrong_base"]),
        ("mismatch", 0.8, ["wrong_base", "sign_flipped"]),
        ("match", 0.13, ["sign_flipped"]),
    ],
)
def test_of_another_bases_weights_no_cause_is_named_that_fits_by_chance(match, otherwise, fired):
    measured = evidence(probe=probed(-0.09, "something else", sign=otherwise))
    found = findings(Evidence(load=loaded(match), layers=(measured,)))
    assert [each.rule for each in found] == fired


def test_a_modulation_that_vanishes_and_fits_in_no_size_recovers_nothing():
    size = Verdict(
        name="size", collapsed=True, threshold=0.002, evidence={"relative size": 1e-4}, sentence="Small."
    )
    tiny = evidence(probe=probed(0.0, "nothing", size=0.001), verdicts={"gate": (size,)})
    found = findings(Evidence(load=loaded("unknown"), layers=(tiny,)))
    assert [each.rule for each in found] == ["vanishing", "recovers_nothing"]


def test_sinks_are_named_where_they_flatter_the_mean_and_where_they_were_left_behind():
    flattered = list(sink_dominates(evidence(probe=probed(0.4), sinks=Sinks(2, 0.9, 0.95, 0.999))))
    left = list(sink_dominates(evidence(probe=probed(0.8), sinks=Sinks(2, 0.9, 0.1, 0.02))))
    assert "expense" in flattered[0].meaning and "left behind" in left[0].meaning
    assert not list(sink_dominates(evidence(probe=probed(0.8), sinks=Sinks(2, 0.9, 0.75, 0.74))))
    assert not list(sink_dominates(evidence(probe=probed(0.4), sinks=Sinks(2, 0.1, 0.95, 0.999))))


def test_a_cascade_that_breaks_is_a_finding_of_the_model_and_not_of_a_layer():
    load = LoadReport(
        name="c",
        format="A",
        tensors_total=1,
        tensors_used=1,
        unused=(),
        base_tensors=0,
        layers=(),
        warnings=(),
    )
    whole = Predicted((5, 6), 0.5, 0.2, 0.6, 0.3, 30.0, 60.0, 40.0, 0.4)
    layers = tuple(
        evidence(report=evidence().report.__class__(**vars(evidence().report) | {"layer": i})) for i in (5, 6)
    )
    found = list(broken_downstream(Evidence(load=load, layers=layers), whole))
    assert [(f.rule, f.layer) for f in found] == [("broken_downstream", None)]
    assert found[0].evidence["median_kl"] == 0.5
    better = whole._replace(median_kl=0.1, mean_kl=0.2)
    assert not list(broken_downstream(Evidence(load=load, layers=layers), better))
    # Where a layer does not even fit locally, that is the finding.
    poor = (layers[0], evidence(report=layers[1].report, probe=probed(0.1)))
    assert not list(broken_downstream(Evidence(load=load, layers=poor), whole))


def test_the_worst_comes_first():
    def finding(rule, severity, layer):
        return Finding(rule=rule, severity=severity, layer=layer, evidence={}, meaning="m.", action="a.")

    mixed = [
        finding("rank_floor", "info", 1),
        finding("parity", "warning", 2),
        finding("wrong_size", "error", 9),
        finding("wrong_size", "error", 3),
        finding("wrong_base", "error", None),
    ]
    found = [(f.rule, f.layer) for f in ordered(mixed)]
    assert found == [
        ("wrong_base", None), ("wrong_size", 3), ("wrong_size", 9), ("parity", 2), ("rank_floor", 1)
    ]  # fmt: skip
    report = HealthReport(
        model="m", checkpoint="c", layers=(1, 2), findings=ordered(mixed), n_tokens=7, n_sinks=0, n_sequences=1,
        seconds=0.0,
    )  # fmt: skip
    assert str(in_words(report)) == (
        "3 errors and 1 warning and 1 remark (2 layers, 7 tokens in 1 sequence of text, 0 sinks of them; local, positions as "
        "deployed unless said otherwise)."
    )


DEMOS = DOCUMENT.parents[1] / "checkpoints"


@pytest.mark.slow
@pytest.mark.parametrize("folder", sorted(DEMOS.glob("*/")), ids=lambda folder: folder.name)
def test_the_demo_checkpoints_get_the_diagnosis_that_their_name_promises(smollm2, folder):
    import npt_viz

    report = npt_viz.health(smollm2, npt_viz.open_checkpoint(folder, smollm2))
    expected = {"trained_without_rope"} if "unhealthy" in folder.name else set()
    assert {finding.rule for finding in report.findings} == expected
    assert f"| `{folder.name}` |" in DOCUMENT.read_text(encoding="utf-8")


def test_a_quick_look_reads_one_window_and_runs_no_npt_model(tiny_llama, monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a quick look does not run the NPT model")

    monkeypatch.setattr("npt_viz.analysis.health.predicted", refused)
    adapters = {layer: specimen(tiny_llama, "N4", layer, seed=layer) for layer in (1, 3)}
    checkpoint = Checkpoint.from_adapters(adapters, tiny_llama, "random")
    report = health(tiny_llama, checkpoint, quick=True)
    assert (report.n_sequences, report.layers) == (1, (1, 3))
    assert {finding.layer for finding in report.of("error")} == {1, 3}, "random adapters recover nothing"
    assert any("quick look" in note for note in report.notes)


def test_a_quick_look_at_many_layers_takes_some_and_names_the_others():
    assert evenly_spaced(range(30), 4) == [0, 10, 19, 29]
    assert evenly_spaced([3, 7], 4) == [3, 7]
    assert list(left_to_the_whole([2, 5, 7, 9, 11], [2, 5, 9, 11]))[1] == "not looked at: layer 7"
