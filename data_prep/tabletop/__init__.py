"""Tabletop, rendered into real files: the scene, and what is written of it."""
