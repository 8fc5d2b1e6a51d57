"""Scan of a corpus: read, cut into numbered parts, measured part by part, merged in their order, kept in a folder."""
