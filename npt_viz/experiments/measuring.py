"""Measurements of a finished arm, and fingerprints that show that arms began alike."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict

from npt_viz.analysis.downstream import downstream
from npt_viz.analysis.health import health
from npt_viz.capture.inspection import inspect
from npt_viz.checkpoint import Checkpoint
from npt_viz.checkpoint.keys import named_tensors
from npt_viz.checkpoint.native import tensor_hash
from npt_viz.errors import NptVizError
from npt_viz.experiments.plan import Experiment
from npt_viz.model.base import BaseModel
from npt_viz.model.tokens import encode
from npt_viz.training.data import Corpus
from npt_viz.training.trainer import Training

SEQUENCES = 8
"""Held-out sequences on which predictions are measured."""

STRIP = 256
"""Tokens of the prompt; more are not seen side by side."""


def fingerprints(training: Training) -> dict[str, str]:
    """Fingerprints of the initial weights, the order of the batches so far, and the text with its split."""
    digest = hashlib.sha256()
    for _, adapter in sorted(training.initial.items()):
        for name, tensor in sorted(named_tensors(adapter).items()):
            digest.update(f"{name} {tensor_hash(tensor)}".encode())
    return {
        "initial": digest.hexdigest()[:16],
        "batches": training.batches_digest,
        "text": training.corpus.digest(),
    }


def measured(
    model: BaseModel,
    experiment: Experiment,
    training: Training,
    corpus: Corpus,
    progress: Callable[[float], None],
) -> dict:
    """Predictions on held-out text, findings of health, and the experiment's prompt token by token: JSON values.

    progress: called with the share done; may raise to stop.
    """
    checkpoint = training.checkpoint(experiment.name)
    held = [ids.tolist() for ids in corpus.heldout[:SEQUENCES]]
    truth = downstream(
        model,
        checkpoint,
        held,
        each_layer=False,
        positions=experiment.recipe.positions,
        progress=lambda done, of: progress(0.5 * done / of),
    )
    whole, notes, findings = truth.arms[0], [], ()
    try:
        texts = [model.tokenizer.decode(ids) for ids in held]
        report = health(
            model, checkpoint, texts, progress=lambda _, done=None: progress(0.5 + 0.5 * (done or 0))
        )
        findings = report.findings
    except NptVizError as error:
        notes.append(f"health has no verdict: {error}")
    return {
        "downstream": {
            "median_kl": whole.npt.median_kl,
            "mean_kl": whole.npt.mean_kl,
            "perplexity": whole.npt.perplexity,
            "agreement": whole.npt.agreement,
        },
        "base": {
            "perplexity": truth.perplexity_base,
            "off_median_kl": whole.off.median_kl,
            "off_perplexity": whole.off.perplexity,
        },
        "findings": [asdict(finding) for finding in findings],
        "strip": _strip(model, checkpoint, experiment, notes),
        "notes": notes,
    }


def _strip(model: BaseModel, checkpoint: Checkpoint, experiment: Experiment, notes: list[str]) -> dict:
    ids = encode(model, experiment.prompt).ids
    if len(ids) > STRIP:
        notes.append(f"the prompt was run up to token {STRIP} of {len(ids):,}")
    run = inspect(model, checkpoint, ids[:STRIP], positions=experiment.recipe.positions)
    columns = {"kl": run.kl}
    for layer, inspected in run.layers.items():
        for metric in ("recovered", "scalar", "update_norm"):
            columns[f"{layer} {metric}"] = inspected.values(metric)
    return {
        "tokens": list(run.tokens),
        "columns": {name: array.tolist() for name, array in columns.items()},
    }
