"""Does v_a point into the directions that all tokens share?"""

from npt_viz import ui
from npt_viz.results.orthogonality import LayerOrthogonality
from npt_viz.ui.inspect import orthogonality

ui.require_app()

view = ui.inspect_page(
    "Orthogonality", "Does v_a point into the directions that all tokens share?", orthogonality.answer
)
orthogonality.choices(view)
found = orthogonality.layer_found(view)
if isinstance(found, LayerOrthogonality):
    orthogonality.curve_and_spectrum(view, found)
    orthogonality.profile_and_angles(view, found)
    orthogonality.published(found)
    orthogonality.all_layers(view)
    ui.window_note(view)
    ui.downloads(
        view,
        lambda: orthogonality.frame(view, found),
        key="orthogonality",
        then=orthogonality.python(view),
    )
