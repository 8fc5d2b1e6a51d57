"""Attribution opens alone, answers about the pinned token, and says in a sentence what cannot be asked."""

from npt_viz.results.attribution import METHODS


def answers(page) -> str:
    return "\n".join(each.value for each in page.markdown)


def test_attribution_opens_alone_and_ablates_the_pinned_scalar(app):
    page = app("attribution", layer="1", tok="9")
    assert not page.exception and not page.error
    # It begins with the component that adds most; the tests of inspect hold which that is.
    component = page.selectbox(key="attribution_component").value
    assert f"Scalar of layer 1, gate, component {component}" in answers(page).replace("\\", "").replace(
        "The s", "S"
    )
    table = page.dataframe[0].value
    assert list(table["method"]) == ["feature ablation"]


def test_methods_side_by_side_have_their_rank_correlation(app):
    page = app("attribution", layer="1", tok="9")
    page.pills(key="attribution_methods").set_value(["ablation", "gradient_x_activation"]).run()
    assert not page.exception and not page.error
    table = page.dataframe[0].value
    label = METHODS["ablation"].label
    assert table[f"rank correlation with {label}"][0] == "1"
    assert -1 <= float(table[f"rank correlation with {label}"][1].replace("−", "-")) < 1


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
    assert not page.dataframe


def test_a_choice_that_another_layer_lacks_is_replaced(app):
    page = app("attribution", layer="3", tok="5")
    page.selectbox(key="attribution_target").set_value("down").run()
    page.selectbox(key="attribution_component").set_value(1).run()
    assert not page.exception and not page.error
    assert "layer 3, down, component 1" in answers(page).replace("\\", "")
