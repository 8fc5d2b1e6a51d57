"""Streamlit glue of the app, in rooms: `cache` < `shell` < `widgets` < a room for each page or group of pages.

A page has one folder: `state.py` holds its session state and cached calls, `controls.py` what the user sets, and
`panels.py` what is drawn (`panels_<part>.py` where it would pass 300 lines); its file in pages/ lists them in order.
A room imports itself and the rooms below; no page's folder imports another's, but experiments may import train.
Nothing here imports torch before a model is opened. Below: what the files in pages/ use.
"""

from npt_viz.ui.shell.asked import selection
from npt_viz.ui.shell.guarded import guarded
from npt_viz.ui.shell.nav import require_app
from npt_viz.ui.widgets import answers
from npt_viz.ui.widgets.card import more_of_the_token, pinned_token
from npt_viz.ui.widgets.charts import window_note
from npt_viz.ui.widgets.details import details
from npt_viz.ui.widgets.export import downloads
from npt_viz.ui.widgets.head import page_title, source_bar
from npt_viz.ui.widgets.inspecting import inspect_page
from npt_viz.ui.widgets.target import target_choice
from npt_viz.ui.widgets.view import View

__all__ = [
    "View",
    "answers",
    "details",
    "downloads",
    "guarded",
    "inspect_page",
    "more_of_the_token",
    "page_title",
    "pinned_token",
    "require_app",
    "selection",
    "source_bar",
    "target_choice",
    "window_note",
]
