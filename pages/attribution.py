"""Which input tokens drive this scalar, or this logit?"""

from npt_viz import ui
from npt_viz.ui.inspect import attribution

ui.require_app()

view = ui.inspect_page(
    "Attribution", "Which input tokens drive this scalar, or this logit?", attribution.answer
)
attribution.choices(view)
found = attribution.results(view)
if found:
    attribution.pictures(view, found)
    ui.window_note(view)
    ui.downloads(view, lambda: attribution.frame(found), key="attribution")
