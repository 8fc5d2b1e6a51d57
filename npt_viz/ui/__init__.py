"""What a page is made of. Nothing here imports torch before a model is opened.

A page is `require_app()`, then controls, one cached call, pictures. `inspect_page` draws the head that all Inspect
pages share and returns the View to draw; `opened` has the cached calls.
"""

from npt_viz.ui.cache import opened
from npt_viz.ui.home import trust
from npt_viz.ui.shell import state
from npt_viz.ui.shell.guarded import guarded, problem
from npt_viz.ui.shell.nav import pages, require_app
from npt_viz.ui.shell.sidebar import asked, source
from npt_viz.ui.shell.text import code, plain
from npt_viz.ui.widgets import answers
from npt_viz.ui.widgets.card import pinned_token
from npt_viz.ui.widgets.charts import chart, layer_token_map, profile, window_note
from npt_viz.ui.widgets.export import downloads
from npt_viz.ui.widgets.head import inspect_page, inspected, loaded, page_title, running_layers, strip, theme
from npt_viz.ui.widgets.view import View

__all__ = [
    "View",
    "answers",
    "asked",
    "chart",
    "code",
    "downloads",
    "guarded",
    "inspect_page",
    "inspected",
    "layer_token_map",
    "loaded",
    "opened",
    "page_title",
    "pages",
    "pinned_token",
    "plain",
    "problem",
    "profile",
    "require_app",
    "running_layers",
    "source",
    "state",
    "strip",
    "theme",
    "trust",
    "window_note",
]
