"""Directions opens alone, follows its choices, and has a sentence where there is no figure."""

import json

import numpy as np
import pytest
from conftest import specimen, tiny_model
from onpage import opener, written

from npt_viz.checkpoint import save_checkpoint

SECTIONS = {
    "Map": {"map"},
    "Exact patch": {"exact"},
    "Alignment": {"alignment"},
    "Units": {"units"},
    "Next tokens": {"vocabulary"},
    "Components": {"shares", "cosines"},
}
"""Name -> its figures."""


def section(page, name: str):
    return page.segmented_control(key="directions_section").set_value(name).run()


def answer(page) -> str:
    said = next(each.value for each in page.markdown if each.value.startswith(("Layer ", "Whether layer ")))
    return said.replace("\\", "")


def drawn(page) -> dict[str, dict]:
    """Key of a figure -> its JSON."""
    return {
        each.proto.id.rsplit("directions_", 1)[1].split("-")[0]: json.loads(each.proto.spec)
        for each in page.get("plotly_chart")
        if "directions_" in each.proto.id
    }


def said(page) -> str:
    """All text, without the backslashes that keep Markdown out of it."""
    kinds = ("markdown", "caption", "info", "error")
    return " ".join(each.value for kind in kinds for each in page.get(kind)).replace("\\", "")


def test_directions_opens_alone_with_an_answer_and_its_figures(app):
    page = app("directions")
    assert not page.exception and not page.error
    assert "differs from token to token" in answer(page)
    assert "W_g (z_C − z)" in answer(page)
    assert set(drawn(page)) == {"spread"}
    assert "Has it collapsed?" in said(page) and "against" in said(page)


def test_details_are_drawn_when_they_are_opened_and_closed_again(app):
    page = app("directions")
    for name, figures in SECTIONS.items():
        page = section(page, name)
        assert not page.exception and not page.error
        assert set(drawn(page)) == {"spread"} | figures, name
    assert set(drawn(section(page, None))) == {"spread"}


def test_the_target_changes_what_is_compared(app):
    page = app("directions", layer="1")
    page.segmented_control(key="directions_target").set_value("down").run()
    assert not page.exception and not page.error
    assert "down modulation" in answer(page) and "cosine with the exact a is" in answer(page)


def test_vectors_and_component_change_the_map_and_survive_another_page(app):
    page = section(app("directions"), "Map")
    before = drawn(page)["map"]["data"][1]["x"]
    page.segmented_control(key="directions_quantity").set_value("v_b").run()
    assert list(page.selectbox(key="directions_component").options) == ["0", "1"]
    page.selectbox(key="directions_component").set_value(1).run()
    after = drawn(page)["map"]["data"][1]["x"]
    assert not page.exception and after != before
    page.switch_page("pages/tokens.py").run()
    page.switch_page("pages/directions.py").run()
    assert page.segmented_control(key="directions_quantity").value == "v_b"
    assert page.selectbox(key="directions_component").value == 1


def test_the_direction_that_is_read_can_be_chosen(app):
    page = section(app("directions", tok="5"), "Next tokens")
    assert "(token 5)" in said(page)
    before = drawn(page)["vocabulary"]["data"][0]["x"]
    page.segmented_control(key="directions_speaks").set_value("axis 2").run()
    assert not page.exception and drawn(page)["vocabulary"]["data"][0]["x"] != before


def test_a_prompt_of_one_token_is_a_sentence_in_place_of_the_figures(app):
    page = app("directions", prompt="x")
    assert not page.exception and not page.error
    assert "compared between tokens and this prompt has 1" in said(page)
    assert drawn(page) == {}


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [("S0", "no ΔW, v_a, v_b or scalar"), ("N1", "has collapsed")],
)
def test_additive_and_collapsed_layers_say_so(tmp_path, variant, sentence):
    on_disk = written(tmp_path)
    adapter = specimen(tiny_model(), variant, 3, components=1)
    if variant == "N1":
        gate = adapter.modulations["gate"]
        gate.W_b_up[:] = gate.W_b_up[:, :1]
    save_checkpoint(tmp_path / "other", {3: adapter}, tiny_model(), recipe={}, figures={}, licence="MIT")
    page = opener(on_disk)("directions", checkpoint=str(tmp_path / "other"))
    assert not page.exception and not page.error
    assert sentence in said(page)
    assert bool(drawn(page)) == (variant == "N1")


def test_the_snippet_gives_the_pages_number(app):
    page = app("directions", layer="1")
    names = {}
    page.session_state["directions_carry"] = True
    exec(page.run().get("code")[0].value, names)
    assert f"**{np.median(names['result'].exact.cosines):.2f}**" in answer(page)
