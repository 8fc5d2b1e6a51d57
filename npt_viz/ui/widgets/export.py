"""Carrying a page away: its table, its figures as numbers and images, the whole as a report, the same in Python."""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from npt_viz import reproducing
from npt_viz.figures.theme import Theme
from npt_viz.ui.cache.opened import Asked
from npt_viz.ui.widgets.sheet import Sheet, sheet
from npt_viz.ui.widgets.view import View

WHOLE_RUN = ("print(run.to_frame())",)
"""What the snippet ends with where a page shows the inspection itself."""

Frame = Callable[[], pd.DataFrame]

_HERE = Path(__file__).parent

_images = st.components.v2.component(
    "npt_images",
    html='<div class="npt-images"></div>',
    css=(_HERE / "images.css").read_text(encoding="utf-8"),
    js=(_HERE / "images.js").read_text(encoding="utf-8"),
)


def downloads(
    view: View,
    frame: Frame | None = None,
    *,
    key: str,
    choices: Callable[[], Mapping[str, Any]] | None = None,
    also: Mapping[str, str] | None = None,
) -> None:
    """`carry` for a page about the prompt; frame: its table, the inspection's where there is none.

    choices: what the page's controls say, as npt_viz/reproducing.py takes it; without, the script is the inspection's.
    also: what the page is about besides, by name.
    """
    also = also or {}
    frame = frame or view.run.to_frame
    again = None if choices is None else (key, opened_of(view.asked), view.question)
    carry(
        key,
        frame,
        about={**about(view), **also},
        as_json=lambda: json.dumps({**also, **described(view, frame())}, ensure_ascii=False, indent=1),
        script=lambda: reproducing.script(*again, **choices()) if again and choices else python(view.asked),
        notebook=again
        and choices
        and (lambda: reproducing.notebook(*again, sentence=sheet().sentence, **choices())),
        theme=view.theme,
    )


def opened_of(asked: Asked) -> reproducing.Opened:
    """What is open, as a script opens it."""
    chosen = asked.selection
    return reproducing.Opened(
        model=chosen.model,
        checkpoint=chosen.checkpoint,
        semantics=chosen.semantics,
        dtype=chosen.dtype,
        device=chosen.device,
    )


def carry(
    key: str,
    frame: Frame | None,
    *,
    about: Mapping[str, str],
    as_json: Callable[[], str] | None = None,
    script: Callable[[], str] | None = None,
    notebook: Callable[[], str] | None = None,
    theme: Theme = "light",
) -> None:
    """A popover with everything that can be carried away; each file is made when it is asked for.

    key: what the files are called. about: what the page is about, by name, for the report.
    """
    popover = st.popover("Carry away", icon=":material/download:", key=f"{key}_carry", on_change="rerun")
    if not popover.open:
        return
    page = sheet()
    with popover:
        st.caption("This page")
        with st.container(horizontal=True):
            _file("Report", f"{key}.html", "text/html", lambda: _report(page, about, frame, theme))
            if frame is not None:
                _table_files(key, frame)
            if as_json is not None:
                _file("JSON", f"{key}.json", "application/json", as_json)
        if page.figures:
            _figure_files(page, key, theme)
        if script is not None:
            st.caption("The same in Python")
            if notebook is not None:
                # Made here: when it is clicked, the controls can no longer be asked.
                written = notebook()
                _file("Notebook", f"{key}.ipynb", "application/x-ipynb+json", lambda: written)
            st.code(script(), language="python", wrap_lines=True)


def _figure_files(page: Sheet, key: str, theme: Theme) -> None:
    from npt_viz.figures.page import single
    from npt_viz.figures.table import table_of

    name = st.selectbox("Figure", list(page.figures), format_func=named, key=f"{key}_figure")
    figure = page.figures[name]
    with st.container(horizontal=True, vertical_alignment="center"):
        _images(data={"figure": {"key": name}}, key=f"{key}_images", width="content")
        _file(
            "HTML",
            f"{name}.html",
            "text/html",
            lambda: single(named(name), figure, sentence=page.sentence, theme=theme),
        )
        _table_files(name, lambda: table_of(figure))


def _table_files(name: str, frame: Frame) -> None:
    _file("CSV", f"{name}.csv", "text/csv", lambda: frame().to_csv(index=False))
    _file("Parquet", f"{name}.parquet", "application/vnd.apache.parquet", lambda: parquet(frame()))


def _file(label: str, name: str, mime: str, data: Callable[[], str | bytes]) -> None:
    key = f"file_{name.replace('.', '_')}"
    st.download_button(label, data=data, file_name=f"npt_viz_{name}", mime=mime, on_click="ignore", key=key)


def _report(page: Sheet, about: Mapping[str, str], frame: Frame | None, theme: Theme) -> str:
    from npt_viz.figures.page import report

    return report(
        page.title,
        page.question,
        about=about,
        sentence=page.sentence,
        figures={named(key): figure for key, figure in page.figures.items()},
        table=None if frame is None else frame(),
        theme=theme,
    )


def named(key: str) -> str:
    """Name of a figure: its key on the page in words."""
    return key.replace("_", " ").capitalize()


def parquet(frame: pd.DataFrame) -> bytes:
    """Parquet of a table. A column that mixes words and numbers, which the format has not, is words."""
    mixed = [
        name for name in frame.columns if frame[name].dtype == object and len({*map(type, frame[name])}) > 1
    ]
    buffer = io.BytesIO()
    frame.assign(**{str(name): frame[name].map(_words) for name in mixed}).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _words(value: object) -> str | None:
    return None if value is None or value != value else str(value)


def about(view: View) -> dict[str, str]:
    """What is open and how it is evaluated, by name."""
    run = view.run
    return {
        "base model": run.model,
        "checkpoint": run.checkpoint,
        "layer": str(view.layer),
        "layers that run as NPT": ", ".join(map(str, view.layers)),
        "mode": run.mode,
        "positions": run.positions,
        "prompt": run.prompt,
        "tokens": f"{len(run.pieces):,}",
        "pinned token": str(view.token),
    }


def described(view: View, frame: pd.DataFrame) -> dict:
    """Table with model, checkpoint, prompt, mode and positions, for JSON."""
    run = view.run
    about = {"model": run.model, "checkpoint": run.checkpoint, "prompt": run.prompt}
    about |= {"mode": run.mode, "positions": run.positions}
    return about | {"rows": json.loads(str(frame.to_json(orient="records")))}


def python(asked: Asked, then: Sequence[str] = WHOLE_RUN) -> str:
    """Script that gives the same numbers; every value is a literal, so text cannot become code."""
    selection, question = asked
    arguments = [
        f"    layers={list(question.layers)!r}," if question.layers else "",
        f"    mode={question.mode!r},",
        f"    positions={question.positions!r},",
        "    chat=True," if question.chat else "",
        f"    bos={question.bos!r}," if question.bos != "auto" else "",
    ]
    semantics = f", semantics={selection.semantics!r}" if selection.semantics else ""
    lines = [
        "import npt_viz",
        "",
        f"model = npt_viz.open_model({selection.model!r})",
        f"checkpoint = npt_viz.open_checkpoint({selection.checkpoint!r}, model{semantics})",
        "run = npt_viz.inspect(",
        "    model,",
        "    checkpoint,",
        f"    {question.prompt!r},",
        *filter(None, arguments),
        ")",
        *then,
    ]
    return "\n".join(lines)
