"""Orthogonality opens alone, follows its choices, and has a sentence where there is no figure."""

import json
import re

import numpy as np
import pytest


def answer(page) -> str:
    return next(each.value for each in page.markdown if each.value.startswith("Layer ")).replace("\\", "")


def drawn(page) -> dict[str, dict]:
    return {
        each.proto.id.rsplit("orthogonality_", 1)[1].split("-")[0]: json.loads(each.proto.spec)
        for each in page.get("plotly_chart")
        if "orthogonality_" in each.proto.id
    }


def said(page) -> str:
    return " ".join(
        each.value for kind in ("markdown", "caption", "info", "error") for each in page.get(kind)
    )


def test_orthogonality_opens_alone_with_an_answer_and_its_figures(app):
    page = app("orthogonality")
    assert not page.exception and not page.error
    assert "in the top 10 of 24 directions of h (centred, axes of this prompt) it has" in answer(page)
    assert set(drawn(page)) == {"against"}
    bars = drawn(page)["against"]["data"][1]
    said_shares = [float(each) for each in re.findall(r"\*\*([\d.]+)\s%\*\*", answer(page))]
    np.testing.assert_allclose(100 * np.array(bars["x"]), said_shares, atol=0.05)


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        ("Every q", {"curve", "spectrum"}),
        ("Tokens", {"profile"}),
        ("Angles", {"angles"}),
        ("Published number", set()),
    ],
)
def test_details_are_drawn_when_they_are_opened(app, name, figures):
    page = app("orthogonality")
    page.segmented_control(key="orthogonality_section").set_value(name).run()
    assert not page.exception and not page.error
    assert set(drawn(page)) == {"against"} | figures
    assert any("mean((v_a" in each.value for each in page.get("html")) == (name == "Published number")


def test_axes_input_and_centring_can_be_chosen(app):
    page = app("orthogonality")
    page.slider(key="orthogonality_top").set_value(4).run()
    page.segmented_control(key="orthogonality_of").set_value("input").run()
    page.toggle(key="orthogonality_centred").set_value(False).run()
    assert not page.exception and not page.error
    assert "top 4 of 24 directions of z (not centred," in answer(page)


def test_the_down_target_is_compared_with_its_own_input(app):
    page = app("orthogonality")
    page.segmented_control(key="orthogonality_target").set_value("down").run()
    assert not page.exception and not page.error
    assert "of 31 directions of m" in answer(page)


def test_more_axes_than_tokens_is_a_sentence_in_place_of_the_figures(app):
    page = app("orthogonality", prompt="abcdef")
    assert not page.exception and not page.error
    assert "6 tokens have at most 5 principal axes and 10 are asked for" in said(page)
    assert drawn(page) == {}


def test_a_text_of_ones_own_gives_the_axes(app):
    page = app("orthogonality", prompt="abcdef")
    page.segmented_control(key="orthogonality_from").set_value("my text").run()
    assert "The reference text has no tokens" in said(page) and not page.error
    page.text_area(key="orthogonality_text").set_value("Monday, Tuesday, Wednesday. " * 3).run()
    assert not page.exception and not page.error
    assert "Axes of 84 tokens in 24 dimensions" in said(page)


def test_bundled_texts_give_the_axes(app):
    page = app("orthogonality")
    page.segmented_control(key="orthogonality_from").set_value("bundled texts").run()
    assert not page.exception and not page.error
    assert "tokens in 24 dimensions" in said(page) and "fewer than 5 an axis" not in said(page)


def test_every_layer_can_be_drawn(app):
    page = app("orthogonality")
    page.segmented_control(key="orthogonality_section").set_value("Every layer").run()
    assert not page.exception and not page.error
    assert drawn(page)["map"]["layout"]["yaxis"]["ticktext"] == ["layer 1", "layer 3"]


@pytest.mark.parametrize("source", ["this prompt", "my text"])
def test_the_snippet_gives_the_pages_number(app, source):
    page = app("orthogonality")
    page.segmented_control(key="orthogonality_from").set_value(source).run()
    if source == "my text":
        page.text_area(key="orthogonality_text").set_value("Monday, 'Tuesday'. " * 5).run()
    names = {}
    page.session_state["orthogonality_carry"] = True
    exec(page.run().get("code")[0].value, names)
    (result,) = names["result"].layers.values()
    median = np.nanmedian(result.shares[~result.left_out])
    assert f"**{100 * median:.1f}\N{NO-BREAK SPACE}%**" in answer(page)
