"""Tabletop, the embedded dataset: a seeded renderer whose clips are written as real files.

A hand acts on textured objects. Each modality knows something else: direction lives in motion, nouns in
appearance, near and far in depth, impacts in sound, layout in boxes. specs.py says which clips there are,
sizes.py how many, actions.py what moves, scene.py how it looks, sound.py how it sounds,
detect.py which boxes a detector would find, render.py puts a clip together, files.py writes them all.
"""
