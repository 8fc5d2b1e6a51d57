"""Reconstruction opens alone, computes only what is looked at, and asks before it takes long."""

import json
import re
from functools import partial

import pytest
from conftest import specimen
from onpage import opener, written

from npt_viz.analysis import class_floor
from npt_viz.checkpoint import save_checkpoint
from npt_viz.model.opening import open_model
from npt_viz.ui.cache import kept, on_demand
from npt_viz.ui.inspect.reconstruction import state

SECTIONS = ("Tokens", "Limits", "Ablations", "Downstream", "Continuations")


@pytest.fixture(autouse=True)
def nothing_kept():
    kept.results().clear()


@pytest.fixture(autouse=True)
def short_fits(monkeypatch):
    """Floors of four steps on four texts in place of 400 on 24: how well they fit is tested beside `class_floor`."""
    monkeypatch.setattr(state, "FLOOR_TEXTS", 4)
    monkeypatch.setattr(class_floor, "class_floor", partial(class_floor.class_floor, steps=4))


def answer(page) -> str:
    return next(each.value for each in page.markdown if each.value.startswith("Layer "))


def figures(page) -> list[str]:
    return [each.proto.id for each in page.get("plotly_chart")]


def figure(page, key: str) -> dict:
    found = next(each for each in page.get("plotly_chart") if key in each.proto.id)
    return json.loads(found.proto.spec)


def said(page) -> str:
    return " ".join(
        each.value for kind in ("markdown", "caption", "info", "error") for each in page.get(kind)
    )


def section(page, name):
    page.session_state["reconstruction_section"] = name
    return page.run()


def test_reconstruction_opens_alone_with_an_answer_and_its_references(app):
    page = app("reconstruction", layer="3", mode="propagated")
    assert not page.exception and not page.error
    assert "propagated" in answer(page)
    shares = figure(page, "reconstruction_shares")
    assert {a["text"] for a in shares["layout"]["annotations"]} == {"no modulation", "exact patch"}
    assert "which is rounding" in said(page)
    assert "With positions as trained it recovers" in answer(page) and "KL to the base" in answer(page)
    assert len(figures(page)) == 1, "details are closed"
    # The specimen's adapters are random, and may be worse than nothing.
    assert "worse than no modulation" in answer(page).replace("*", "") or "recovers" in answer(page)


@pytest.mark.parametrize("prompt", ["A short prompt", "x"])
def test_each_section_opens_also_where_there_is_one_token(app, prompt):
    page = app("reconstruction", prompt=prompt)
    for name in SECTIONS:
        page = section(page, name)
        assert not page.exception and not page.error, name


def test_a_continuation_that_does_not_fit_the_context_is_a_sentence(app):
    page = section(app("reconstruction", prompt="x" * 90), "Continuations")
    assert not page.exception
    assert "do not fit" in page.error[0].value


def test_nothing_is_computed_for_sections_that_are_closed(app, monkeypatch):
    from npt_viz.analysis import ablation, continuation, downstream

    for module, name in (
        (ablation, "ablation_table"),
        (downstream, "downstream"),
        (continuation, "continuations"),
    ):
        monkeypatch.setattr(module, name, lambda *a, **k: pytest.fail("computed without being asked for"))
    page = app("reconstruction", prompt="not seen before")
    assert not page.exception and not page.error
    assert not any("ablations" in key or "drift" in key for key in figures(page))


def test_the_worst_tokens_can_be_pinned(app):
    page = section(app("reconstruction", tok="1"), "Tokens")
    (table,) = [each.value for each in page.get("html") if 'aria-label="worst tokens"' in each.value]
    rows = re.findall(r"<tr>(<td.*?)</tr>", table)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    errors = [float(row[2]) for row in cells]
    assert errors == sorted(errors, reverse=True)
    worst = int(cells[0][0])
    page.pills(key="reconstruction_worst").set_value(worst).run()
    assert not page.exception and page.session_state["tok"] == worst


def test_one_click_on_the_first_screen_estimates_what_the_shape_allows(app, monkeypatch):
    monkeypatch.setattr(on_demand, "AT_ONCE", 0.0)
    page = app("reconstruction")
    assert "not estimated yet" in answer(page)
    page.button(key="reconstruction_estimate").click().run()
    assert not page.exception and not page.error
    assert "a fresh fit of its shape" in answer(page)
    assert "reconstruction_estimate" not in [each.key for each in page.button]


def test_what_takes_long_waits_for_a_button_and_then_stands_in_the_answer(app, monkeypatch):
    monkeypatch.setattr(on_demand, "AT_ONCE", 0.0)
    page = section(app("reconstruction"), "Limits")
    assert "takes about" in said(page)
    assert not any("oracle" in key for key in figures(page))
    page.button(key="reconstruction_oracle_run").click().run()
    assert not page.exception
    assert any("oracle" in key for key in figures(page))
    page.button(key="reconstruction_floor_gate_up_down_run").click().run()
    assert not page.exception and not page.error
    assert "a fresh fit of its shape" in answer(page)
    # Another session, another page: the result is there.
    again = section(app("reconstruction"), "Limits")
    assert any("oracle" in key for key in figures(again)) and "a fresh fit of its shape" in answer(again)


def test_downstream_stands_beside_the_modulation_off_in_both_position_modes(app):
    page = section(app("reconstruction"), "Downstream")
    assert not page.exception and not page.error
    assert "Dropping the attention of layer" in said(page)
    (table,) = [each.value for each in page.get("html") if "real positions and without" in each.value]
    cells = re.findall(r"<td[^>]*>(.*?)</td>", table)
    assert cells[::7] == ["deployed"] * 3 + ["trained"] * 3
    assert cells[1::7] == ["base", "modulation off", "NPT"] * 2
    assert {"KL recovered", "perplexity", "same top token"} <= {*re.findall(r"<th[^>]*>(.*?)</th>", table)}
    assert any("cascade" in key for key in figures(page))


def test_a_prompt_of_html_stays_text(app):
    page = section(app("reconstruction", prompt="<b>is</b> :red[x]"), "Continuations")
    assert not page.exception and not page.error
    assert "the base's words for" in said(page)
    assert all("<b>is" not in each.value for each in page.get("html"))


def test_a_long_prompt_is_cut_and_sampled_with_a_note(tmp_path):
    opened = opener(written(tmp_path, context=700))
    page = opened("reconstruction", prompt="abc " * 150, tok="590")
    assert not page.exception and not page.error
    assert "interval of 600 tokens" in answer(page).replace("\\", "")
    notes = {
        "Limits": "256 of 600 tokens, evenly spaced",
        "Ablations": "the first 512 of 600 tokens",
        "Downstream": "the first 512 of 600 tokens; what follows cannot change them",
    }
    for name, note in notes.items():
        page = section(page, name)
        if name != "Ablations":
            for button in [
                b for b in page.button if b.key.endswith(("oracle_run", "deployed_run", "trained_run"))
            ]:
                page = button.click().run()
        assert not page.exception and not page.error
        assert note in said(page).replace("\\", ""), name
    assert "the pinned one lies behind them" in said(page)


def test_a_layer_that_keeps_attention_has_sentences_in_place_of_figures(tmp_path):
    on_disk = written(tmp_path)
    model = open_model(on_disk.model)
    folder = tmp_path / "npt-standard"
    save_checkpoint(
        folder,
        {2: specimen(model, "S0-residual")},
        model,
        recipe={"steps": 0},
        figures={},
        licence="Apache-2.0",
    )
    page = opener(on_disk._replace(checkpoint=str(folder)))("reconstruction")
    assert "nothing to recover" in answer(page)
    for name, sentence in {"Limits": "nothing to recover", "Downstream": "already predicts"}.items():
        page = section(page, name)
        assert not page.exception and not page.error
        assert sentence in said(page), name
    assert not section(page, "Ablations").exception
