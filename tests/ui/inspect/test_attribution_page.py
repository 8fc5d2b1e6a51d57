"""Attribution opens alone, answers about the pinned token, and says in a sentence what cannot be asked."""

import base64
import json
import re

import numpy as np

from npt_viz.results.attribution import METHODS


def answers(page) -> str:
    return "\n".join(each.value for each in page.markdown)


def cells(page) -> dict[str, list[str]]:
    """Column -> cells of the table of checks."""
    (text,) = [each.value for each in page.get("html") if "can be believed" in each.value]
    names = re.findall(r"<th scope[^>]*>(.*?)</th>", text)
    found = re.findall(r"<td[^>]*>(.*?)</td>", text)
    return {name: found[i :: len(names)] for i, name in enumerate(names)}


def strip_of(page) -> dict:
    found = (json.loads(e.proto.json) for e in page.main if e.type == "bidi_component" and e.proto.json)
    return next(data for data in found if "glyphs" in data)


def test_attribution_opens_alone_and_ablates_the_pinned_scalar(app):
    page = app("attribution", layer="1", tok="9")
    assert not page.exception and not page.error
    # It begins with the component that adds most; the tests of inspect hold which that is.
    component = page.selectbox(key="attribution_component")
    strongest = re.match(r"component (\d), the strongest here \(\d+", component.options[0])[1]
    assert component.value == "strongest"
    assert f"The scalar of layer 1, gate, component {strongest}" in answers(page).replace("\\", "")
    assert cells(page)["method"] == ["feature ablation"]


def test_the_prompt_has_the_colours_of_the_attribution(app):
    page = app("attribution", layer="1", tok="9")
    strip = strip_of(page)
    assert strip["metric"]["label"] == "attribution" and strip["parts"] == ["strip"]
    assert [column["label"] for column in strip["columns"]] == ["feature ablation"]
    values = np.frombuffer(base64.b64decode(strip["values"]), "<f4")
    # Neither the first token nor those after the pin have a score.
    assert np.flatnonzero(np.isfinite(values)).tolist() == list(range(1, 10))
    (bars,) = [each for each in page.get("plotly_chart") if "attribution_bars" in each.proto.id]
    assert "metric" not in [each.key for each in page.selectbox]
    drawn = json.loads(bars.proto.spec)["data"][0]["y"]
    heights = np.frombuffer(base64.b64decode(drawn["bdata"]), drawn["dtype"])
    np.testing.assert_allclose(heights[1:10], values[1:10], rtol=1e-6)


def test_methods_side_by_side_have_their_rank_correlation(app):
    page = app("attribution", layer="1", tok="9")
    page.pills(key="attribution_methods").set_value(["ablation", "gradient_x_activation"]).run()
    assert not page.exception and not page.error
    own, other = cells(page)[f"rank correlation with {METHODS['ablation'].label}"]
    assert own == "1" and -1 <= float(other.replace("−", "-")) < 1


def test_a_logit_is_of_a_likely_next_token(app):
    page = app("attribution", layer="1", tok="9")
    page.segmented_control(key="attribution_kind").set_value("logit").run()
    page.selectbox(key="attribution_model").set_value("base").run()
    assert not page.exception and not page.error
    assert "in the base model" in answers(page)


def test_the_first_token_is_a_sentence_in_place_of_the_figure(app):
    page = app("attribution", layer="1", tok="0")
    assert not page.exception and not page.error
    assert "token 0 keeps its place" in page.info[0].value.replace("\\", "")
    assert not page.get("plotly_chart")


def test_a_choice_that_another_layer_lacks_is_replaced(app):
    page = app("attribution", layer="3", tok="5")
    page.selectbox(key="attribution_target").set_value("down").run()
    page.selectbox(key="attribution_component").set_value(1).run()
    assert not page.exception and not page.error
    assert "layer 3, down, component 1" in answers(page).replace("\\", "")
