"""Scans made by hand, one for every way in which their sentences can come out."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from stated import Said

from npt_viz.results.scan import CLASSES, Quantity, ScanResult
from npt_viz.results.sentences.scan import scan, scan_comparison
from npt_viz.scanning.comparing import compare_scans
from npt_viz.scanning.folder import ScanFolder
from npt_viz.scanning.summary import Merged, TokenTable, numbers_of, summary_of, to_bytes
from npt_viz.scanning.windows import Part, Window

LAYER = 7
QUANTITIES = (
    *(Quantity(name) for name in ("kl", "nll_change", "nll_base", "nll_npt", "agrees")),
    Quantity("recovered", LAYER),
    Quantity("relative_error", LAYER),
)


@cache
def _folder() -> Path:
    return Path(mkdtemp(prefix="npt_viz-stated-scans-"))


def drawn(
    n_texts: int, *, seed: int = 0, middle: float = 0.41, predicted: bool = True, share: bool = True
) -> dict:
    """Every token's numbers, (token,) each, of texts of unequal length that differ from each other."""
    random = np.random.default_rng(seed)
    text = np.repeat(np.arange(n_texts), random.integers(5, 17, n_texts))
    level = random.normal(0, 0.05, n_texts)[text]
    base = random.gamma(3.0, 1.0, len(text)).astype(np.float32)
    change = (0.03 + level + random.normal(0, 0.2, len(text))).astype(np.float32)
    last = np.append(text[1:] != text[:-1], True)
    missing = np.full(len(text), np.nan, np.float32)
    columns = {
        "kl": random.gamma(2.0, 0.02, len(text)) + (middle - 0.41),
        "nll_base": np.where(last, np.nan, base),
        "nll_npt": np.where(last, np.nan, base + change),
        "agrees": random.random(len(text)) < 0.87,
        "recovered": middle + level + random.normal(0, 0.3, len(text)) if share else missing,
        "relative_error": random.gamma(2.0, 0.1, len(text)),
    }
    columns = {name: np.asarray(values, np.float32) for name, values in columns.items()}
    columns["nll_change"] = columns["nll_npt"] - columns["nll_base"]
    if not predicted:
        columns |= {quantity.name: missing for quantity in QUANTITIES if quantity.layer is None}
    return columns | {"text": text}


def result_of(
    columns: dict, is_sink: np.ndarray, name: str, *, case: str, digest: str = "", **about
) -> ScanResult:
    """The scan of these tokens, in two parts, in a folder."""
    text = columns["text"]
    merged, folder = Merged(QUANTITIES, 3), ScanFolder(_folder() / f"{case} {name}".replace(" ", "-"))
    for number, rows in enumerate(np.array_split(np.arange(text.max() + 1), 2)):
        mine = np.isin(text, rows)
        n = int(mine.sum())
        windows = tuple(Window(int(i), int(i), f"line {i}", 0, np.arange((text == i).sum())) for i in rows)
        part = Part(number, windows, 1.0, len(rows))
        table = TokenTable(
            quantities=QUANTITIES,
            values=np.stack([columns[quantity.name][mine] for quantity in QUANTITIES], axis=1),
            window=text[mine],
            cluster=text[mine],
            position=np.concatenate([np.arange((text == i).sum()) for i in rows]),
            of_class=np.where(is_sink[mine], 0, CLASSES.index("word start")),
            place=np.zeros(n, np.int64),
            script=np.zeros(n, np.int64),
        )
        summary = summary_of(table, part, 3)
        folder.write_part(number, to_bytes(summary))
        merged.add(summary)
    total = merged.total
    assert total is not None
    return ScanResult(
        **(
            dict(
                model="m", checkpoint=name, mode="local", positions="deployed", layers=(LAYER,), corpus=("c",), window=512,
                max_tokens=None, skipped={}, is_finished=True, contexts={},
            )
            | about
        ),
        n_tokens=total.n_tokens,
        n_sinks=total.n_sinks,
        n_windows=total.n_windows,
        n_texts=total.n_texts,
        n_parts=2,
        digest=digest or "d",
        quantities=QUANTITIES,
        **numbers_of(total),
        folder=str(folder.path),
    )  # fmt: skip


def sinks_of(columns: dict, n: int) -> np.ndarray:
    """The first tokens of the first texts."""
    text = columns["text"]
    return np.append(True, text[1:] != text[:-1]) & (text < n)


def _scans() -> Iterator[Said]:
    ways = {
        "many texts": (dict(n_texts=23), 23, {}),
        "few texts": (dict(n_texts=5, seed=1), 1, {}),
        "no sink": (dict(n_texts=13, seed=2), 0, {}),
        "worse than nothing": (
            dict(n_texts=11, seed=3, middle=-0.7),
            11,
            dict(mode="propagated", positions="trained"),
        ),
        "no prediction": (dict(n_texts=11, seed=4, predicted=False), 11, {}),
        "no share": (dict(n_texts=11, seed=5, share=False), 11, {}),
        "not finished": (dict(n_texts=11, seed=6), 11, dict(is_finished=False)),
        "no share, not finished": (dict(n_texts=11, seed=7, share=False), 11, dict(is_finished=False)),
    }
    for case, (how, n_sinks, about) in ways.items():
        columns = drawn(**how)
        is_sink = sinks_of(columns, n_sinks)
        result = result_of(columns, is_sink, "a", case=case, **about)
        data = dict(
            values=columns, is_sink=is_sink, text=columns["text"], layer=LAYER, mode=result.mode,
            positions=result.positions, is_finished=result.is_finished,
        )  # fmt: skip
        yield Said("scan", case, scan(result), data)


def _comparisons() -> Iterator[Said]:
    ways = {
        "higher": (17, 0.03, True, "7 recovered"),
        "lower": (17, -0.2, True, "7 recovered"),
        "lower KL": (17, -0.02, True, "kl"),
        "cannot tell": (11, 0.002, True, "7 recovered"),
        "too few": (5, 0.2, True, "7 recovered"),
        "the same": (11, None, True, "7 recovered"),
        "apart": (17, 0.4, False, "7 recovered"),
        "apart, cannot tell": (17, 0.01, False, "7 recovered"),
        "apart, too few": (5, 0.01, False, "7 recovered"),
    }
    for case, (n_texts, shift, is_paired, key) in ways.items():
        a = drawn(n_texts)
        noise = np.random.default_rng(9).normal(0, 0.03, len(a["text"]))
        b = a if shift is None else a | {
            name: (a[name] + shift + noise).astype(np.float32) for name in ("recovered", "kl")
        }  # fmt: skip
        is_sink = sinks_of(a, n_texts)
        modes = ("local", "propagated" if case == "higher" else "local")
        results = [
            result_of(columns, is_sink, name, case=case, digest="" if is_paired else name, mode=mode)
            for columns, name, mode in zip((a, b), "ab", modes, strict=True)
        ]
        data = dict(
            a=a,
            b=b,
            is_sink=is_sink,
            text=a["text"],
            layer=LAYER,
            name_a="a",
            name_b="b",
            is_paired=is_paired,
            modes=modes,
            positions="deployed",
        )
        yield Said("scan_comparison", case, scan_comparison(compare_scans(*results), key), data)


def said_of_scans() -> list[Said]:
    """Every sentence about scans."""
    return [*_scans(), *_comparisons()]
