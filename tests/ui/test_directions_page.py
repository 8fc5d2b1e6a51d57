"""Directions opens alone, follows its choices, and has a sentence where there is no figure."""

import json

import pytest


def answer(page) -> str:
    return next(each.value for each in page.markdown if "modulation" in each.value and "Layer" in each.value)


def figure(page, key: str) -> dict:
    found = next(each for each in page.get("plotly_chart") if key in each.proto.id)
    return json.loads(found.proto.spec)


def said(page) -> str:
    return " ".join(each.value for kind in ("markdown", "caption", "info", "error") for each in page.get(kind))


def test_directions_opens_alone_with_an_answer_and_its_figures(app):
    page = app("directions")
    assert not page.exception and not page.error
    assert "differs from token to token" in answer(page)
    assert "W_g (z_C − z)" in answer(page)
    assert len(page.get("plotly_chart")) == 8
