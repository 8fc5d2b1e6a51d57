"""Results in a notebook: everything is in the cell, nothing is fetched, and no text of a prompt becomes markup."""

import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import specimen

import npt_viz
from npt_viz.checkpoint import Checkpoint
from npt_viz.figures import notebook
from npt_viz.figures.token_view.alone import standalone_view
from npt_viz.results.attribution import Quantity
from npt_viz.results.inspection import METRICS

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "<b>x</b></script><script>window.hacked = 1</script> &amp; \u2028"


@pytest.fixture(scope="module")
def checkpoint(tiny_llama):
    return Checkpoint.from_adapters(
        {layer: specimen(tiny_llama, "N5", layer, seed=layer) for layer in (1, 3)}, tiny_llama, "<i>c</i>"
    )


@pytest.fixture(scope="module")
def run(tiny_llama, checkpoint):
    return npt_viz.inspect(tiny_llama, checkpoint, PROMPT)


@pytest.fixture(scope="module")
def results(tiny_llama, checkpoint, run) -> dict:
    quantity = Quantity(kind="scalar", token=5, layer=3)
    return {
        "inspection": run,
        "reconstruction": npt_viz.reconstruction(tiny_llama, checkpoint, PROMPT),
        "directions": npt_viz.directions(tiny_llama, checkpoint, run, 3),
        "orthogonality": npt_viz.orthogonality(tiny_llama, checkpoint, run),
        "attribution": npt_viz.attribution(tiny_llama, checkpoint, PROMPT, quantity),
        "comparison": npt_viz.compare(
            npt_viz.inspect(tiny_llama, checkpoint, PROMPT[2:], mode="propagated"), run
        ),
        "health": npt_viz.health(tiny_llama, checkpoint, ["Every good boy does fine. " * 9]),
    }


NAMES = ("inspection", "reconstruction", "directions", "orthogonality", "attribution", "comparison", "health")


def without_plotly(html: str) -> str:
    return re.sub(r"<script>/\*\*.*?</script>", "", html, count=1, flags=re.S)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_shows_itself_and_fetches_nothing(results, name, monkeypatch):
    monkeypatch.setattr(notebook, "_brought", ["plotly"])
    html = results[name]._repr_html_()
    assert not re.search(r"<(script|link|img|iframe|base)[^>]+(src|href)=|@import|https?://", html)
    assert html.count("<script") == html.count("</script>")
    outside = re.sub(r"<script>.*?</script>", "", html, flags=re.S)
    assert "<b>" not in outside and "<i>" not in outside and "hacked" not in re.sub(r"&[a-z]+;", "", outside)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("inspection", "health")])
def test_the_first_figure_brings_plotly_and_the_next_does_not(results, name, monkeypatch):
    monkeypatch.setattr(notebook, "_brought", [])
    first, second = results[name]._repr_html_(), results[name]._repr_html_()
    assert first.count("Plotly.newPlot(") > 0 and len(first) > 3_000_000
    assert len(second) < 1_000_000 and second.count("Plotly.newPlot(") == without_plotly(first).count(
        "Plotly.newPlot("
    )


def given(html: str) -> dict:
    """What the script of a standalone view was given."""
    start = html.index("alone(root, {") + len("alone(root, ")
    return json.loads(html[start : html.index(", npt_draw) })()", start)])


def test_the_view_has_the_numbers_of_the_inspection(run):
    html = standalone_view(run, layer=1, token=4)
    data = given(html)
    assert (data["layer"], data["token"], data["view"]["glyphs"]) == (1, 4, list(run.tokens))
    for name in METRICS:
        drawn = np.frombuffer(base64.b64decode(data["metrics"][name]["values"]), "<f4").reshape(2, -1)
        expected = np.stack([run.layers[layer].values(name) for layer in (1, 3)])
        np.testing.assert_array_equal(drawn, expected.astype(np.float32))
    top = run.npt_top.rows(4)
    assert data["next"][1]["glyphs"][4] == [glyph for glyph, _, _ in top][:5]


def test_a_token_that_is_markup_cannot_leave_the_script(run):
    hostile = ("</script><img src=x onerror=window.hacked=1>", "<!--<script>", "]]>&amp;")
    pieces = tuple(
        piece._replace(glyph=glyph, raw=glyph) for piece, glyph in zip(run.pieces, hostile, strict=False)
    )
    html = standalone_view(replace(run, pieces=(*pieces, *run.pieces[3:])))
    assert given(html)["view"]["glyphs"][:3] == list(hostile)
    # The two ends of the one script, the element before it, and nothing else that begins like a tag.
    assert html.count("</script") == html.count("<script") == 1 and "<img" not in html and "<!--" not in html


def test_two_views_on_one_page_are_pinned_apart(run):
    channels = {given(standalone_view(run))["view"]["channel"] for _ in range(2)}
    assert len(channels) == 2


def test_an_inspection_without_predictions_shows_itself(tiny_llama, checkpoint):
    bare = npt_viz.inspect(tiny_llama, checkpoint, "abc", logits=False)
    data = given(bare._repr_html_())
    assert data["next"] == [] and "kl" not in data["metrics"]


def test_where_plotly_is_missing_the_notebook_shows_the_text():
    program = (
        "import sys; sys.modules['plotly'] = None\n"
        "from npt_viz.results.health import HealthReport\n"
        "report = HealthReport(model='m', checkpoint='c', layers=(), findings=(), n_tokens=0, n_sinks=0, n_sequences=0, seconds=0)\n"
        "assert report._repr_html_() is None"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_results_are_shown_without_loading_plotly_before():
    program = "import sys, npt_viz.results.directions, npt_viz.results.inspection; assert 'plotly' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
