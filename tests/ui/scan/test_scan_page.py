"""The Scan page: a scan that runs and shows its result, saved ones reopened and compared, bad input."""

import json
import shutil
import time
from urllib.parse import parse_qs

import pytest
from onpage import html_tables

import npt_viz
from npt_viz.results.sentences.scan import scan as sentence_of
from npt_viz.ui.scan.job import ScanSlot

TEXTS = [f"text {i} with {i * 37 % 101} words, and some more" for i in range(17)]


@pytest.fixture
def corpus(tmp_path):
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return file


@pytest.fixture
def page(app, monkeypatch, corpus):
    # Here, so that a test can look into it from outside the session.
    slot = ScanSlot()
    monkeypatch.setattr("npt_viz.ui.scan.job.scan_slot", lambda: slot)

    def opened(address=None, **values):
        found = app("scan", **(address or {}))
        assert not found.exception
        for key, value in ({"scan_corpus": str(corpus), "scan_window": 97} | values).items():
            found.session_state[key] = value
        return found.run()

    opened.slot = slot
    yield opened
    slot.end()
    slot.wait(60)


def words(page) -> str:
    kinds = (page.markdown, page.error, page.info, page.caption)
    return " ".join(each.value for kind in kinds for each in kind).replace("\\", "").replace("**", "")


def finished(page, slot):
    deadline = time.monotonic() + 120
    while slot.is_active:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert slot.job.snapshot().state == "finished", slot.job.snapshot()
    return page.run()


def started(page, **values):
    found = page(**values)
    assert not found.error, words(found)
    found.button(key="scan_start").click().run()
    return finished(found, page.slot)


def test_a_scan_says_what_the_library_says(page, on_disk, corpus):
    found = started(page, scan_section="Every number")
    assert not found.exception and not found.error
    model = npt_viz.open_model(on_disk.model)
    expected = npt_viz.scan(model, npt_viz.open_checkpoint(on_disk.checkpoint, model), corpus, window=97)
    assert str(sentence_of(expected)) in words(found)
    rows = {(row["layer"], row["number"]): row for row in html_tables(found)["every number"]}
    assert float(rows["3", "relative_error"]["mean"]) == pytest.approx(
        expected.mean("3 relative_error"), rel=5e-3
    )
    assert {layer for layer, _ in rows} == {"model", "1", "3"}
    spread = json.loads(found.get("plotly_chart")[0].proto.spec)
    assert len([trace for trace in spread["data"] if trace["mode"] == "lines"]) == 4, (
        "two layers, two bars each"
    )


def test_a_worst_token_opens_on_tokens_pinned(page, app):
    found = started(page, scan_section="Worst tokens", scan_number="relative_error")
    links = [each.proto for each in found.get("page_link") if each.proto.label == "Tokens"]
    assert len(links) == 10
    said = {name: values[0] for name, values in parse_qs(links[0].query_string).items()}
    result = npt_viz.read_scan(page.slot.job.plan.folder)
    worst = result.worst[result.index("3 relative_error")][0]
    context = result.contexts[worst.window]
    assert said["prompt"] == context.text and said["tok"] == str(worst.position) and said["layer"] == "3"
    opened = app("tokens", **{name: said[name] for name in ("prompt", "tok", "layer", "bos") if name in said})
    run = npt_viz.inspect(*_opened(page), context.ids)
    assert float(run.layers[3].relative_error[worst.position]) == pytest.approx(worst.value, rel=1e-5)
    assert not opened.exception and opened.session_state["tok"] == worst.position


def _opened(page):
    from npt_viz.ui.cache import opened

    return opened.opened(page.slot.job.plan.source)


def test_start_goes_on_with_the_same_folder_and_two_scans_are_compared(page):
    found = started(page, scan_number="relative_error", scan_section="Another scan")
    first = page.slot.job.plan.folder
    again = found.run()
    again.button(key="scan_start").click().run()
    again = finished(again, page.slot)
    assert page.slot.job.plan.folder == first
    again = again.selectbox(key="scan_mode").select("propagated").run()
    again.button(key="scan_start").click().run()
    other = finished(again, page.slot)
    assert page.slot.job.plan.folder != first
    other = other.selectbox(key="scan_against").select(str(first)).run()
    assert not other.exception and not other.error
    assert "Relative error of layer 3: mean" in words(other) and "text by text" in words(other)
    assert {row["layer"] for row in html_tables(other)["differences"]} == {"model", "1", "3"}


def test_a_saved_scan_is_shown_without_a_start(page, tmp_path):
    started(page)
    folder = shutil.copytree(page.slot.job.plan.folder, tmp_path / "saved")
    page.slot.job = None
    found = page(address={"scan": str(folder)})
    assert str(sentence_of(npt_viz.read_scan(folder))) in words(found)


def test_it_can_be_stopped_and_says_so(page, monkeypatch):
    found = page()
    found.button(key="scan_start").click()
    found.run()
    page.slot.end()
    page.slot.wait(60)
    assert page.slot.job.snapshot().state in ("stopped", "finished")


@pytest.mark.parametrize(
    "values, message",
    [
        ({"scan_corpus": ""}, "the corpus is empty"),
        ({"scan_corpus": "no/such.txt"}, "no such file or folder; give a file or folder of texts"),
    ],
)
def test_bad_input_is_a_sentence(page, values, message):
    found = page(**values)
    assert not found.exception and message in words(found)
    assert found.button(key="scan_start").disabled


def test_a_folder_without_a_scan_is_a_sentence(page):
    found = page(address={"scan": "no/such"})
    assert not found.exception and "no such file or folder; give a scan's folder" in words(found)
