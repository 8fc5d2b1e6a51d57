"""Base models: located, opened, checked, and their tokens."""
