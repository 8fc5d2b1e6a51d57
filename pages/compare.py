"""What changed from A to B?"""

from npt_viz import ui
from npt_viz.ui.compare import controls, panels, state

ui.require_app()


def body(view: ui.View) -> None:
    panels.largest(view)
    sections = {
        "Every number": lambda: panels.every_number(view),
        "A and B": lambda: panels.side_by_side(view),
    }
    ui.details(sections, key="compare_section")
    said = state.choices(view)
    ui.downloads(
        view,
        lambda: panels.frame(view),
        key="compare",
        choices=(lambda: said) if said else None,
        also=panels.about(view),
    )


ui.inspect_page(
    "Compare",
    "What changed from A to B? B is the head.",
    panels.answer,
    body,
    above=controls.side_line,
    beside=panels.beside,
    drawn=panels.difference,
)
