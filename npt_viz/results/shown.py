"""Results that show themselves in a notebook."""

from importlib import import_module

DRAWN_IN = "npt_viz.figures.notebook"
"""The module that draws them. By its name: results lie below figures and import none of them."""


class Shown:
    """A result that a notebook shows by its figures, which are made when they are asked for and not before."""

    def _repr_html_(self) -> str | None:
        """HTML that needs nothing else; None, so that the notebook shows the text, where plotly is not installed."""
        try:
            drawing = import_module(DRAWN_IN)
        except ModuleNotFoundError as missing:
            if missing.name and missing.name.startswith("npt_viz"):
                raise
            return None
        return drawing.html_of(self)
