"""Experiments: one file each, variants by ``:argument``; ``common.py`` makes the configuration that they
change, with every option at its default."""
