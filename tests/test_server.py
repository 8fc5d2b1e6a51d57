"""What the app's server adds to Streamlit's: the document, its headers, and where its parts come from."""

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit import file_util

from npt_viz.places import ROOT
from npt_viz.server import document
from npt_viz.server.document import UNFRAMED, Unframed, routes


@pytest.fixture(scope="module")
def client():
    other = Route("/other", lambda request: PlainTextResponse("other"))
    return TestClient(Starlette(routes=[*routes(), other], middleware=[Middleware(Unframed)]))


def test_every_page_has_the_document_and_nothing_may_be_framed(client):
    pages = [file.stem for file in (ROOT / "pages").glob("*.py")]
    assert len(pages) > 10
    for path in ["", *pages]:
        answer = client.get(f"/{path}")
        assert answer.status_code == 200 and answer.text == document.document()
        assert answer.headers["cache-control"] == "no-cache"
        assert all(answer.headers[name] == value for name, value in UNFRAMED.items())
    assert client.get("/other").headers["x-frame-options"] == "DENY"


def test_the_document_is_streamlits_with_style_script_and_parts_ahead():
    text = document.document()
    head, _, body = text.partition("</head>")
    assert "<title>npt_viz</title>" in head and ".npt-table" in head and "npt_viz_browser" in head
    assert '<div id="root"></div>' in body
    theirs = (ROOT / file_util.get_static_dir() / "index.html").read_text(encoding="utf-8")
    (entry,) = re.findall(r'src="\./static/js/(index\.[\w-]+\.js)"', theirs)
    assert entry in head, "the entry is found by its name, which holds a hash"
    files = {path.name for path in document.scripts().glob("*.js")}
    ahead = set(re.findall(r'rel="modulepreload" crossorigin href="\./static/js/([^"]+)"', head))
    assert ahead <= files
    for part in document.AHEAD:
        assert any(name.startswith(f"{part}.") for name in ahead), f"Streamlit has no part {part}"


def test_nothing_in_the_document_ends_its_own_block():
    """Style and script are put into the page as they are."""
    style, script = (
        (ROOT / "npt_viz" / "server" / f"document.{end}").read_text("utf-8") for end in ("css", "js")
    )
    assert "</" not in style and "</script" not in script


def test_the_charts_of_streamlit_lie_where_the_browser_is_told_to_fetch_them():
    address = document.part_of_streamlit("PlotlyChart")
    assert address is not None
    # It is relative to the document, and so to the static folder.
    assert b"plotly" in Path(file_util.get_static_dir(), address).read_bytes()
    assert document.part_of_streamlit("NoSuchChart") is None
