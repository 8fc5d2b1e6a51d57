"""What a notebook cell shows, in a real Chromium from a file: the pin, the colour and the card work without a server."""

import pytest
from conftest import tiny_model

import npt_viz
from npt_viz.results.words import number

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROMPT = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script> cat"


def test_a_pin_shows_the_tokens_numbers_without_a_server(chromium, tmp_path):
    import torch

    model = tiny_model()
    torch.manual_seed(1)
    factors = [0.3 * torch.randn(shape) for shape in ((24, 7), (7, 24), (7, 31))]
    run = npt_viz.inspect(model, {1: {"gate": factors}, 3: {"gate": factors}}, PROMPT)
    cells = [run, run, npt_viz.reconstruction(model, {1: {"gate": factors}}, PROMPT)]
    page = tmp_path / "cells.html"
    page.write_text("<meta charset=utf-8><body>" + "".join(each._repr_html_() for each in cells))
    context = chromium.new_context(viewport={"width": 1100, "height": 900}, offline=True)
    tab, faults = context.new_page(), []
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on(
        "request", lambda request: faults.append(request.url) if not request.url.startswith("file:") else None
    )
    tab.goto(page.as_uri())
    first, second = tab.locator(".npt-view").all()
    first.locator('button.token[data-token="4"]').click()
    cards = tab.locator(".card")
    assert cards.nth(0).locator(".pinned").inner_text() == f"{run.tokens[4]}  token 4, layer 3"
    assert "token 4," not in cards.nth(1).locator(".pinned").inner_text(), "each cell has its own pin"
    shown = cards.nth(0).locator(".numbers tr", has_text="share recovered").locator("td").nth(1).inner_text()
    assert shown == number(float(run.layers[3].recovered[4]))
    assert cards.nth(0).locator(".next td").nth(0).inner_text().startswith(run.base_top.rows(4)[0][0])
    tab.locator("select.metric").nth(0).select_option("cosine")
    assert first.locator(".legend, .caption").filter(has_text="cosine").count() >= 1
    assert first.locator('button.token[aria-pressed="true"]').get_attribute("data-token") == "4"
    assert second.locator('button.token[aria-pressed="true"]').get_attribute("data-token") != "4"
    tab.locator(".js-plotly-plot .main-svg").first.wait_for()
    assert tab.evaluate("window.hacked") is None
    assert not faults
    context.close()
