"""Figures: results in, plotly figures out. Numpy and plotly only; nothing here runs a model or draws on a page."""
