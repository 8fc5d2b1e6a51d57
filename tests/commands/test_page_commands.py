"""The commands of the Inspect pages: the page's sentence and numbers, JSON alone on stdout, figures in one file."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest

import npt_viz
from npt_viz.__main__ import main
from npt_viz.analysis.reconstruction import reconstruction
from npt_viz.question import Question

PROMPT = "the <b>cat</b> the $dog"
PAGES = ("reconstruction", "directions", "orthogonality", "attribution")
FIRST_FIGURES = {
    "reconstruction": "reconstruction_shares",
    "directions": "directions_spread",
    "orthogonality": "orthogonality_against",
    "attribution": "attribution_bars",
}


def strict(text: str):
    """JSON as the standard has it: no NaN, no Infinity."""

    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def call(capsys, on_disk):
    """call("directions", …): the exit status, stdout and stderr, on the tiny model and PROMPT."""

    def called(page: str, *arguments: str) -> tuple[int, str, str]:
        opened = ("--model", on_disk.model, "--checkpoint", on_disk.checkpoint, "--prompt", PROMPT)
        status = main([page, *opened, *map(str, arguments)])
        return status, *capsys.readouterr()

    return called


@pytest.fixture(scope="module")
def opened(on_disk):
    model = npt_viz.open_model(on_disk.model)
    return model, npt_viz.open_checkpoint(on_disk.checkpoint, model)


def numbers(drawn) -> np.ndarray:
    """A column of a figure's JSON."""
    if isinstance(drawn, dict):
        return np.frombuffer(base64.b64decode(drawn["bdata"]), drawn["dtype"])
    return np.array(drawn, float)


def figure(page, key: str) -> dict:
    return next(json.loads(each.proto.spec) for each in page.get("plotly_chart") if key in each.proto.id)


def as_text(markdown: str) -> str:
    """Words of a sentence on a page, without the marks that keep Markdown out of them."""
    return re.sub(r"\\(.)", r"\1", markdown.replace("**", "").replace("`", "")).replace("\u00a0", " ")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("mode", ["local", "propagated"])
def test_a_command_says_what_its_page_says(app, call, page, mode):
    shown = app(page, prompt=PROMPT, layer="1", tok="5", mode=mode, positions="trained")
    assert not shown.exception and not shown.error
    options = ("--layer", "1", "--token", "5", "--mode", mode, "--positions", "trained", "--json")
    status, out, err = call(page, *options)
    assert (status, err) == (0, "")
    sentence = strict(out)["sentence"].replace("\u00a0", " ")
    assert sentence in [as_text(each.value) for each in shown.markdown]


def test_reconstruction_has_the_medians_that_the_page_draws(app, call):
    shown = app("reconstruction", prompt=PROMPT, mode="propagated")
    found = strict(call("reconstruction", "--mode", "propagated", "--json")[1])
    traces = figure(shown, FIRST_FIGURES["reconstruction"])["data"]
    dots = {each["name"]: numbers(each["x"]) for each in traces if each.get("name", "").count(",") == 1}
    wanted = [each["medians"]["deployed"]["propagated"]["recovered"] for each in found["layers"].values()]
    lowest = dots["propagated, positions as deployed"].min()
    np.testing.assert_allclose(
        dots["propagated, positions as deployed"], np.maximum(wanted, lowest), rtol=1e-12
    )


def test_reconstruction_prints_what_the_library_finds_in_a_pass_of_its_own(call, opened):
    found = strict(call("reconstruction", "--layers", "3", "--positions", "trained", "--json")[1])
    result = reconstruction(*opened, Question(prompt=PROMPT, layers=(3,), positions="trained"))
    assert list(found["layers"]) == ["3"] and found["tokens"] == list(result.tokens)
    for mode in ("local", "propagated"):
        fit = result.fits(mode)[3]
        for name in ("recovered", "error_along", "exact_error"):
            np.testing.assert_allclose(
                found["layers"]["3"][mode][name], getattr(fit, name), rtol=1e-4, atol=1e-6
            )
    other = reconstruction(*opened, Question(prompt=PROMPT, layers=(3,), positions="deployed"))
    medians = found["layers"]["3"]["medians"]["deployed"]["local"]
    assert medians["cosine"] == pytest.approx(np.median(other.local[3].cosine), rel=1e-5)


def test_reconstruction_adds_ablations_and_predictions_when_asked(call, opened):
    found = strict(call("reconstruction", "--ablations", "--downstream", "prompt", "--json")[1])
    npt = next(arm for arm in found["downstream"]["arms"] if arm["layers"] == [1, 3])["npt"]
    run = npt_viz.inspect(*opened, PROMPT)
    assert npt["median_kl"] == pytest.approx(np.median(run.kl), rel=1e-4)
    own = found["ablations"]["medians"][next(iter(found["ablations"]["medians"]))]
    assert own["recovered"] == pytest.approx(np.median(run.layers[3].recovered), rel=1e-4)
    assert "gate_oracle" not in found


def test_directions_prints_what_the_library_finds(app, call, opened):
    found = strict(call("directions", "--layer", "1", "--target", "up", "--json")[1])
    run = npt_viz.inspect(*opened, PROMPT)
    for layer in (1, 3):
        result = npt_viz.directions(*opened, run, layer, target="up")
        got = found["layers"][str(layer)]["result"]
        np.testing.assert_allclose(got["exact"]["cosines"], result.exact.cosines, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(got["alignment"]["cosines"], result.alignment.cosines, atol=1e-5)
        assert [each["name"] for each in got["verdicts"]] == [each.name for each in result.verdicts]
    drawn = figure(app("directions", prompt=PROMPT, layer="3"), FIRST_FIGURES["directions"])["data"]
    own = strict(call("directions", "--json")[1])["layers"]["3"]["map"]["spread"]["effective_rank"]
    assert any(np.isclose(numbers(each["x"]), own, rtol=1e-9).any() for each in drawn if "x" in each)


def test_orthogonality_has_the_shares_that_the_page_draws(app, call):
    shown = app("orthogonality", prompt=PROMPT, layer="1")
    result = strict(call("orthogonality", "--layer", "1", "--json")[1])["layers"]["1"]["result"]
    bars = numbers(figure(shown, FIRST_FIGURES["orthogonality"])["data"][1]["x"])
    wanted = [np.median(result["mean_shares"]), np.median(result["shares"])]
    np.testing.assert_allclose(np.sort(bars), np.sort(wanted), rtol=1e-6)


def test_orthogonality_takes_axes_from_a_text(call, tmp_path, opened):
    text = tmp_path / "reference.txt"
    text.write_text("Every good boy does fine. " * 9)
    options = ("--text", text, "--top", "3", "--not-centred", "--of", "input", "--layers", "3")
    result = strict(call("orthogonality", *options, "--json")[1])["layers"]["3"]["result"]
    shared = dict(layers=[3], of="input")
    reference = npt_viz.reference_vectors(*opened, [text.read_text()], **shared)
    run = npt_viz.inspect(*opened, PROMPT, layers=[3])
    wanted = npt_viz.orthogonality(*opened, run, reference=reference, top=3, centred=False, **shared)
    np.testing.assert_allclose(result["shares"], wanted.layers[3].shares, rtol=1e-4)
    assert result["top"] == 3 and not result["centred"]


def test_attribution_has_the_scores_that_the_page_draws(app, call):
    shown = app("attribution", prompt=PROMPT, layer="1", tok="7")
    found = strict(call("attribution", "--layer", "1", "--token", "7", "--json")[1])
    bars = numbers(figure(shown, FIRST_FIGURES["attribution"])["data"][0]["y"])
    scores = np.array(found["methods"]["ablation"]["scores"])
    np.testing.assert_allclose(bars[1:8], scores[1:8], rtol=1e-6)
    assert not scores[8:].any()


def test_attribution_of_a_logit_is_of_the_most_probable_token(call, opened):
    found = strict(call("attribution", "--kind", "logit", "--token", "-1", "--of-model", "base", "--json")[1])
    top = npt_viz.inspect(*opened, PROMPT).base_top.rows(len(PROMPT) - 1)[0]
    assert found["quantity"]["token_id"] == top[1] and found["token"] == len(PROMPT) - 1


@pytest.mark.parametrize("page", PAGES)
def test_the_figures_are_one_file_that_fetches_nothing(call, tmp_path, page):
    path = tmp_path / "figures.html"
    status, out, err = call(page, "--html", path)
    assert status == 0 and out and str(path) in err
    html = path.read_text()
    without_plotly = re.sub(r"<script>/\*\*.*?</script>", "", html, count=1, flags=re.S)
    assert len(without_plotly) < len(html) / 4, "plotly is inside, once"
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", without_plotly)
    assert without_plotly.count("Plotly.newPlot(") >= (1 if page == "attribution" else 3)
    # What is a tag is the document's own: the prompt's <b> is text wherever it stands.
    outside = re.sub(r"<script.*?</script>", "", without_plotly, flags=re.S)
    assert "<b>" not in outside
    assert without_plotly.count("<script") == without_plotly.count("</script>")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("--layers", "2"), 1, "layer 2 is no NPT layer"),
        (("--layers", "3", "--layer", "1"), 1, "--layer 1 is no NPT layer that runs; choose among 3"),
        (("--token", "99"), 1, "--token 99 does not exist"),
        (("--html", "/nowhere/at/all.html"), 1, "/nowhere/at/all.html"),
        (("--mode", "global"), 2, "Usage: npt_viz"),
    ],
)
def test_bad_input_is_a_sentence(call, page, options, status, words):
    got, out, err = call(page, *options, "--json")
    assert (got, out) == (status, "")
    assert words in err and "Traceback" not in err


@pytest.mark.parametrize("page", [page for page in PAGES if page != "attribution"])
def test_sinks_count_where_that_is_asked_for(call, page, monkeypatch):
    made = npt_viz.inspect

    def with_a_sink(*given, **options):
        run = made(*given, **options)
        return replace(run, is_sink=np.arange(len(run.pieces)) == 0)

    monkeypatch.setattr("npt_viz.capture.inspection.inspect", with_a_sink)
    left_out, counted = (strict(call(page, *options, "--json")[1]) for options in ((), ("--keep-sinks",)))
    assert (left_out["keep_sinks"], counted["keep_sinks"]) == (False, True)
    assert "1 sink left out" in left_out["sentence"] and "1 sink counted" in counted["sentence"]


def test_a_layer_without_an_answer_says_why(call):
    status, out, _ = call("directions", "--target", "attention", "--json")
    assert status == 0
    assert "attention" in strict(out)["layers"]["3"]["sentence"]


@pytest.mark.parametrize("page", PAGES)
def test_the_script_of_a_command_says_the_same(call, tmp_path, page, capsys):
    path = tmp_path / "again.py"
    options = ("--layer", "1", "--mode", "propagated", "--positions", "trained", "--notebook", path, "--json")
    sentence = strict(call(page, *options)[1])["sentence"]
    exec(compile(path.read_text(), str(path), "exec"), {})
    assert capsys.readouterr().out.splitlines()[0] == sentence


def test_a_notebook_has_a_name_that_says_what_it_is(call, tmp_path):
    status, out, err = call("directions", "--notebook", tmp_path / "again.txt")
    assert (status, out) == (1, "") and "ends in .ipynb" in err
    assert call("directions", "--notebook", tmp_path / "again.ipynb")[0] == 0
    assert json.loads((tmp_path / "again.ipynb").read_text())["nbformat"] == 4
