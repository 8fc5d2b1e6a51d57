"""How did that training go?"""

from npt_viz import ui
from npt_viz.ui.runs import curves as runs

ui.require_app()
ui.page_title("Runs", "How did that training go?")

found = runs.chosen()
if found:
    view = runs.view_of(found)
    runs.answer(view)
    runs.charts(view)
    runs.notes(view)
    runs.shares(view)
    runs.table(view)
    runs.take_away(view)
