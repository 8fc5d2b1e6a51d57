"""Arms that differ in their losses and in nothing else: planned, trained, read back."""
