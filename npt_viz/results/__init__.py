"""Frozen results: numpy arrays and labels, no torch and no figures. The border between numbers and pictures."""
