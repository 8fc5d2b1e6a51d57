"""Share recovered by the default training over rank, components, targets and layers: it should not fall as they grow.

python -m benchmarks.defaults                      the whole grid; a row is printed as soon as it is there
python -m benchmarks.defaults --ranks 64 --components 1 --layers 15 --steps 1500 --seeds 2
python -m benchmarks.defaults --rows FILE          also keeps every run as a line of JSON there, and takes up what is there
python -m benchmarks.defaults --rows FILE --json   the same as JSON

Defaults are those of the library (npt_viz/training/recipe.py); only steps, seed and the number of tokens are set here.
"""

import argparse
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import npt_viz
from npt_viz.texts import bundled_texts
from npt_viz.training.data import Corpus, corpus_of
from npt_viz.training.recipe import FRESH_LOSSES, TOKENS
from npt_viz.training.streams import Captures

LAYERS, RANKS, COMPONENTS = (4, 15, 25), (8, 64, 128, 256), (1, 2, 4, 8)
TARGETS = ("gate", "gate,up", "gate,up,down")
STEPS = 300


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training."""

    layer: int
    targets: str
    rank: int
    components: int
    seed: int
    steps: int
    tokens: int
    losses: str
    recovered: float
    """Median over held-out tokens"""
    n_heldout: int
    seconds: float

    @property
    def cell(self) -> tuple:
        return (
            self.layer,
            self.targets,
            self.rank,
            self.components,
            self.seed,
            self.steps,
            self.tokens,
            self.losses,
        )


def main() -> None:
    options = _options()
    wanted = [
        (layer, targets, rank, components, seed, options.steps, options.tokens, options.losses)
        for layer, targets, seed, rank, components in itertools.product(
            options.layers, options.targets, range(options.seeds), options.ranks, options.components
        )
    ]
    done = {run.cell: run for run in _kept(options.rows)}
    if not options.json and not options.table:
        print(
            "| layer | targets | rank | components | seed | steps | share recovered | seconds |\n|---|---|---|---|---|---|---|---|"
        )
    if not options.table:
        for run in _runs([cell for cell in wanted if cell not in done]):
            done[run.cell] = run
            if options.rows:
                with options.rows.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(run)) + "\n")
            if not options.json:
                print(_row(run), flush=True)
    runs = [done[cell] for cell in wanted if cell in done]
    if options.json:
        print(json.dumps([asdict(run) for run in runs], indent=1))
    else:
        print("\n" + "\n".join(table(runs, options.components)))


def _runs(cells: Sequence[tuple]) -> Iterator[Run]:
    model = npt_viz.open_model("smollm2-135m")
    captures, corpora = Captures(keep=1), {}
    for layer, targets, rank, components, seed, steps, tokens, losses in cells:
        if tokens not in corpora:
            corpora[tokens] = corpus_of(model, bundled_texts(), tokens=tokens, seed=0)
        corpus: Corpus = corpora[tokens]
        spec = npt_viz.AdapterSpec(
            layers=(layer,), targets=tuple(targets.split(",")), rank=rank, components=components
        )
        started = time.monotonic()
        training = npt_viz.train(
            model, spec, corpus, losses, steps=steps, seed=seed, evaluate_every=steps, captures=captures
        )
        *_, last = training
        heldout = last.heldout[layer]
        yield Run(
            layer=layer,
            targets=targets,
            rank=rank,
            components=components,
            seed=seed,
            steps=steps,
            tokens=tokens,
            losses=losses,
            recovered=heldout.recovered,
            n_heldout=heldout.n_tokens,
            seconds=time.monotonic() - started,
        )


def table(runs: Sequence[Run], components: Sequence[int]) -> list[str]:
    """Lines of a Markdown table: a row for every layer, targets and rank, a column for every number of components.

    A cell is the mean over seeds, with their range where there are several; a fall against the next smaller rank or
    number of components is bold where it is larger than the widest range of seeds in the table.
    """
    of: dict[tuple, list[float]] = {}
    for run in runs:
        of.setdefault((run.layer, run.targets, run.rank, run.components), []).append(run.recovered)
    mean = {cell: sum(values) / len(values) for cell, values in of.items()}
    spread = max((max(values) - min(values) for values in of.values()), default=0.0)
    lines = [
        "| layer | targets | rank | " + " | ".join(f"k = {k}" for k in components) + " |",
        "|---|---|---|" + "---|" * len(components),
    ]
    for layer, targets, rank in sorted({cell[:3] for cell in of}, key=lambda c: (c[0], len(c[1]), c[2])):
        cells = []
        for k in components:
            values = of.get((layer, targets, rank, k))
            if values is None:
                cells.append("")
                continue
            here = mean[layer, targets, rank, k]
            smaller = [
                mean[cell]
                for cell in of
                if cell[:2] == (layer, targets)
                and cell[2] <= rank
                and cell[3] <= k
                and (cell[2], cell[3]) != (rank, k)
            ]
            text = f"{here:.3f}" + (f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else "")
            falls = smaller and max(smaller) - here > spread
            cells.append(f"**{text}**" if falls else text)
        lines.append(f"| {layer} | {targets} | {rank} | " + " | ".join(cells) + " |")
    worst = max(
        (
            mean[small] - mean[large]
            for small, large in itertools.permutations(of, 2)
            if small[:2] == large[:2] and small[2] <= large[2] and small[3] <= large[3]
        ),
        default=float("nan"),
    )
    fall = (
        f"largest fall to a larger shape {worst:.3f}" if worst > 0 else f"no fall; smallest rise {-worst:.3f}"
    )
    several = any(len(values) > 1 for values in of.values())
    seeds = f"widest range of seeds {spread:.3f}" if several else "one seed a cell"
    lines += ["", f"{len(runs)} runs; {seeds}; {fall}"]
    return lines


def _row(run: Run) -> str:
    return (
        f"| {run.layer} | {run.targets} | {run.rank} | {run.components} | {run.seed} | {run.steps} | "
        f"{run.recovered:.3f} | {run.seconds:.0f} |"
    )


def _kept(path: Path | None) -> list[Run]:
    if path is None or not path.is_file():
        return []
    return [Run(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS)
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS)
    parser.add_argument("--components", type=int, nargs="+", default=COMPONENTS)
    parser.add_argument("--targets", nargs="+", default=TARGETS, metavar="gate,up")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0 … n−1 of every cell")
    parser.add_argument("--tokens", type=int, default=TOKENS, help="of the bundled sample; 0 takes all")
    parser.add_argument("--losses", default=FRESH_LOSSES)
    parser.add_argument(
        "--rows", type=Path, metavar="FILE", help="JSON lines, one a run; what is there is not run again"
    )
    parser.add_argument("--table", action="store_true", help="only the table of what FILE has")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
