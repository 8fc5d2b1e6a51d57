"""The first inspection without any app: import torch and transformers, load the model, inspect once.

plain_inspection.py MODEL CHECKPOINT PROMPT
"""

import sys

import npt_viz

named, checkpoint, prompt = sys.argv[1:]
model = npt_viz.open_model(named)
npt_viz.inspect(model, npt_viz.open_checkpoint(checkpoint, model), prompt)
