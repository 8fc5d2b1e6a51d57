"""Checks of first screens: each finds the fault that a page was made to have, and nothing on a page without one."""

from urllib.parse import quote

import first_screens
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SOUND = """
<main data-testid="stMain"><h1>Tokens</h1>
  <p style="width: 300px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap">short</p>
  <div style="width: 60px; overflow-x: auto; white-space: nowrap" tabindex="0">text that can be scrolled to</div>
  <div style="position: absolute; width: 1px; height: 1px; overflow: hidden">for screen readers only</div>
  <div style="height: 20px; overflow: hidden"><div style="display: none">kept for later, and hidden until then</div></div>
  <svg width="300" height="120"><g transform="translate(20, 10)">
    <text transform="rotate(60)" y="0">one label</text><text transform="translate(20) rotate(60)" y="0">next label</text>
  </g></svg>
  <div style="height: 40px; overflow: hidden"><div style="position: relative; height: 30px; overflow: auto" tabindex="0">
    <p style="position: relative; height: 60px">a line</p><p>a line that can be scrolled to</p>
  </div></div>
  <p class="st-key-answer">The answer.</p><div class="st-key-main_figure" style="height: 150px"></div>
  <div class="npt-view" style="height: 100px"></div>
</main>
"""


@pytest.fixture
def shown(chromium):
    """shown(html): a tab of 1280 × 720 on this page, ready to be asked for faults."""
    context = chromium.new_context(viewport={"width": 1280, "height": 720})
    first_screens.prepared(context)

    def opened(body: str):
        tab = context.new_page()
        tab.goto(f"data:text/html,{quote(f'<!doctype html><html lang=en><title>t</title>{body}</html>')}")
        return tab

    yield opened
    context.close()


def texts(faults: list[dict]) -> list[str]:
    return [fault["text"] for fault in faults]


def test_a_sound_page_has_no_fault(shown):
    tab = shown(SOUND)
    tab.wait_for_timeout(200)
    assert first_screens.truncated(tab) == []
    assert first_screens.overlapping(tab) == []
    assert first_screens.out_of_view(tab, first_screens.MARKED) == []
    assert first_screens.shifted(tab) == []
    assert first_screens.inaccessible(tab) == []


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        (
            '<p style="width: 60px; overflow: hidden; white-space: nowrap; text-overflow: ellipsis">a long label</p>',
            "width",
        ),
        (
            '<div style="width: 60px; overflow: hidden"><div style="position: relative"><div style="position: relative">'
            '<span style="white-space: nowrap">a long label</span></div></div></div>',
            "width",
        ),
        (
            '<div style="width: 60px; overflow: hidden"><span style="white-space: nowrap">a long label</span></div>',
            "width",
        ),
        (
            '<p style="width: 60px; overflow: hidden; display: -webkit-box; -webkit-box-orient: vertical; '
            '-webkit-line-clamp: 1">a long label</p>',
            "height",
        ),
        ('<svg width="60" height="40"><text x="20" y="20">a long label</text></svg>', "width"),
        ('<input style="width: 40px" value="a long label">', "width"),
    ],
    ids=["ellipsis", "in a box of a box", "in a box", "line clamp", "svg", "input"],
)
def test_text_that_is_cut_off_is_found(shown, body, rule):
    [fault] = first_screens.truncated(shown(body))
    assert fault["text"] == "a long label"
    assert fault["numbers"][rule] > fault["numbers"]["available"] or fault["numbers"]["beyond"] > 1


def test_text_in_a_component_is_looked_at_too(shown):
    tab = shown('<div data-testid="stBidiComponentIsolated"></div>')
    tab.evaluate(
        """() => document.querySelector("[data-testid]").attachShadow({ mode: "open" }).innerHTML =
        '<p class="inner" style="width: 30px; overflow: hidden; white-space: nowrap">inside of it</p>'"""
    )
    [fault] = first_screens.truncated(tab)
    assert fault["text"] == "inside of it" and fault["selector"].endswith("p.inner")


@pytest.mark.parametrize(
    "body",
    [
        '<p>first</p><p style="margin-top: -30px">second</p>',
        '<svg width="300" height="60"><text x="10" y="30">first</text><text x="30" y="34">second</text></svg>',
        '<svg width="300" height="90"><text transform="translate(10 10) rotate(60)">first</text>'
        '<text transform="translate(14 10) rotate(60)">second</text></svg>',
        '<svg width="300" height="60"><text x="10" y="30">first</text></svg><p style="margin-top: -50px">second</p>',
    ],
    ids=["html", "svg", "turned", "html over svg"],
)
def test_labels_on_each_other_are_found(shown, body):
    [fault] = first_screens.overlapping(shown(body))
    assert {"first", "second"} <= {*fault["text"].replace("[", " ").split()}
    assert fault["numbers"]["width"] > 0 and fault["numbers"]["height"] > 0


def test_a_part_below_the_first_screen_and_a_missing_one_are_found(shown):
    tab = shown(
        '<div style="height: 600px"></div><div class="st-key-main_figure" style="height: 200px"></div>'
    )
    faults = first_screens.out_of_view(tab, [".st-key-main_figure", ".st-key-answer"])
    assert [(f["selector"], f["text"]) for f in faults] == [
        (".st-key-answer", "not on the page"),
        (".st-key-main_figure", "not wholly on the first screen"),
    ]
    assert faults[1]["numbers"]["bottom"] > faults[1]["numbers"]["screenHeight"] == 720


def test_a_page_that_jumps_while_it_loads_is_found(shown):
    tab = shown(
        '<style>body { margin: 0 }</style><div id="late"></div><div style="height: 400px">moved</div>'
    )
    tab.wait_for_timeout(200)
    assert first_screens.shifted(tab) == []
    tab.evaluate("document.querySelector('#late').style.height = '300px'")
    tab.wait_for_timeout(200)
    [fault] = first_screens.shifted(tab)
    assert fault["numbers"]["to"] - fault["numbers"]["from"] == 300


@pytest.mark.parametrize("theme", first_screens.THEMES)
def test_a_page_in_the_colours_of_the_other_theme_is_found(shown, theme):
    light, dark = "color: #111; background: #fff", "color: #eee; background: #112"
    right, wrong = (light, dark) if theme == "light" else (dark, light)
    page = '<main data-testid="stApp" style="{}">text</main>'
    assert first_screens.off_theme(shown(page.format(right)), theme) == []
    [fault] = first_screens.off_theme(shown(page.format(wrong)), theme)
    assert fault["text"] == f"not {theme}"


def test_axe_finds_a_field_without_a_name_and_faint_text(shown):
    faults = first_screens.inaccessible(shown('<input><p style="color: #bbb; background: #fff">faint</p>'))
    assert {text.split()[0] for text in texts(faults)} == {"label", "color-contrast"}


@pytest.mark.timeout(600)
def test_the_first_screens_of_all_pages_have_none_of_these_faults(chromium, server):
    """The demo checkpoint and prompt, at both sizes and in both themes."""
    found = list(first_screens.walk(chromium, server))
    assert not found, first_screens.report(found)
