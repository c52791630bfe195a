"""Scores: the file of an evaluation, how it is made, and every number that is computed of it."""
