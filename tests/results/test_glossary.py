"""The glossary has every number of a token and every rule, says what is good, and cites sections that exist."""

import re
from pathlib import Path

from npt_viz.places import ROOT
from npt_viz.results.glossary import GLOSSARY, explained
from npt_viz.results.health import RULES
from npt_viz.results.inspection import METRICS, TOKEN_METRICS

ENTRIES = [(term, each) for entries in GLOSSARY.values() for term, each in entries.items()]


def test_every_number_of_a_token_says_what_is_good_and_where_that_stands():
    for metric in (METRICS | TOKEN_METRICS).values():
        assert metric.good and metric.source, metric.label
        assert metric.good in explained(metric.label) and metric.source in explained(metric.label)
    assert set(GLOSSARY["Health"]) == set(RULES)


def test_no_term_stands_twice():
    terms = [term for term, _ in ENTRIES]
    assert len(terms) == len(set(terms))


def test_what_is_cited_exists():
    mathematics = (ROOT / "docs/mathematics.md").read_text("utf-8")
    health = (ROOT / "docs/health.md").read_text("utf-8")
    for term, each in ENTRIES:
        for section in re.findall(r"§(\d+)", each.source):
            assert f'<a id="s{section}">' in mathematics, term
        for name in re.findall(r"[\w./]+\.md", each.source):
            assert Path(ROOT / name).exists(), (term, name)
        for rule in re.findall(r"\b[a-z]+_[a-z_]+\b", each.source):
            assert f"`{rule}`" in health, (term, rule)
