"""Document that a browser loads first: Streamlit's own, with what must be there before anything is drawn."""

import re
from functools import cache
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config, file_util

from npt_viz.places import ROOT

AHEAD = ("Html", "BidiComponent")
"""Parts of Streamlit's code that every first screen waits for. With more of them the first connection waited for the
queue of downloads: browsers fetch six files at a time."""

UNFRAMED = {"Content-Security-Policy": "frame-ancestors 'none'", "X-Frame-Options": "DENY"}
"""No other site may show the app in a frame of its own and have a visitor's clicks land in it."""

_FOLDER = "./static/js/"

_IMPORTED = re.compile(r"""(?:from|import)\s*["']\./([\w.-]+\.js)["']""")


def routes() -> list[Route]:
    """Routes of all pages: Streamlit's own document has neither our style nor our scripts."""
    base = config.get_option("server.baseUrlPath").strip("/")
    start = f"/{base}" if base else ""
    paths = ["", *(file.stem for file in sorted((ROOT / "pages").glob("*.py")))]
    return [Route(f"{start}/{path}", _answer) for path in paths]


class Unframed:
    """Middleware: whatever is answered says that it is not to be framed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_unframed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(UNFRAMED)
            await send(message)

        await self._app(scope, receive, send_unframed)


async def _answer(request: Request) -> HTMLResponse:
    return HTMLResponse(document(), headers={"Cache-Control": "no-cache"})


@cache
def document() -> str:
    """HTML of the document."""
    style, script = (Path(__file__).with_suffix(end).read_text(encoding="utf-8") for end in (".css", ".js"))
    ahead = "\n".join(f'<link rel="modulepreload" crossorigin href="{_FOLDER}{name}">' for name in _ahead())
    own = f"<style>\n{style}</style>\n<script>\n{script}</script>\n{ahead}\n"
    html = Path(file_util.get_static_dir(), "index.html").read_text(encoding="utf-8")
    return html.replace("<title>Streamlit</title>", "<title>npt_viz</title>").replace(
        "</head>", own + "</head>"
    )


@cache
def part_of_streamlit(name: str) -> str | None:
    """Address of a part of Streamlit's code, relative to the document; None where this Streamlit has no such part."""
    found = sorted(scripts().glob(f"{name}.*.js"))
    return f"{_FOLDER}{found[0].name}" if found else None


def scripts() -> Path:
    """Folder with Streamlit's code for browsers."""
    return Path(file_util.get_static_dir(), "static", "js")


def _ahead() -> list[str]:
    """Files with the parts AHEAD, and what they import."""
    folder = scripts()
    wanted = [path.name for part in AHEAD for path in sorted(folder.glob(f"{part}.*.js"))]
    for name in wanted:
        imported = _IMPORTED.findall((folder / name).read_text(encoding="utf-8"))
        wanted += [each for each in dict.fromkeys(imported) if each not in wanted]
    return wanted
