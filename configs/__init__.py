"""Experiments: one file each, variants by ``:argument``; ``common.py`` holds every default."""
