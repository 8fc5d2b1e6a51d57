"""Permanent updates of a base model's weights.

Each line imports only lines above it (kept by tests/editing/test_import_order.py):

    updates      an update: factors of ΔW, its origin, sums of updates
    cases        facts to write and prompts to judge by
    base_check   whether an update belongs to a base model
    changes      updates as changes of a running layer
    realised     updates as rounded weights
    making       updates from a source text or a published history
    judging      what an update does: preview, strengths, scores, leakage
    files        recipes, merged models, LoRA adapters
    ledger       the updates that an edited model has: apply, undo, export
    transplant   one token's weight change at another token
"""
