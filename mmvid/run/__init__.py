"""A run: a plan in a workdir; what it is built of, fed with, scored by, and what it says."""
