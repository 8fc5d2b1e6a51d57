"""What a page gives to be carried away, in a real browser: table, figures as numbers and images, an offline report."""

import io
from urllib.parse import quote

import pandas as pd
import pytest
from onpage import at_rest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROMPT = "<script>window.ran = 1</script> the the <b>bold</b>"


def saved(tab, name: str) -> bytes:
    with tab.expect_download() as download:
        tab.get_by_role("button", name=name, exact=True).last.click()
    return download.value.path().read_bytes()


def test_table_figures_and_report_of_a_page(visit, server, chromium, tmp_path):
    tab = visit(server, "orthogonality", prompt=PROMPT)
    tab.locator(".st-key-orthogonality_carry button").first.click()
    at_rest(tab)
    tab.get_by_role("button", name="SVG", exact=True).wait_for()
    tab.locator(".st-key-main_figure .js-plotly-plot .modebar-btn").first.wait_for(state="attached")
    for _ in range(2):  # The popover stays open.
        assert saved(tab, "PNG").startswith(b"\x89PNG")
        assert saved(tab, "SVG").startswith(b"<svg")
    answer = tab.locator(".st-key-answer p").first.inner_text().replace("\xa0", " ")
    drawn = pd.read_csv(io.BytesIO(saved(tab, "CSV")))
    again = pd.read_parquet(io.BytesIO(saved(tab, "Parquet")))
    assert len(drawn) == len(again) and list(drawn["series"]) == list(again["series"])
    of_v_a = drawn[drawn["series"].str.startswith("v_a") & drawn["y"].str.startswith("along the mean")]
    assert f"{100 * of_v_a['x'].item():.1f} %" in answer
    report = tmp_path / "report.html"
    report.write_bytes(saved(tab, "Report"))
    offline = chromium.new_context(offline=True)
    page, asked = offline.new_page(), []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"file://{quote(str(report))}")
    page.locator(".js-plotly-plot .main-svg").first.wait_for()
    shown = page.inner_text("body")
    assert PROMPT in shown and answer in " ".join(shown.split())
    assert page.evaluate("window.ran") is None
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    offline.close()
