"""How did that training go?"""

from npt_viz import ui
from npt_viz.ui.runs import controls, panels

ui.require_app()
ui.page_title("Runs", "How did that training go?")

runs = controls.chosen_runs()
if runs:
    view = controls.choices(runs)
    panels.answer(view)
    panels.charts(view)
    panels.notes(view)
    panels.shares(view)
    panels.table(view)
    panels.downloads(view)
    panels.follow(view)
