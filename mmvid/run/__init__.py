"""A run, that is, a plan carried out in a workdir: how it is built, fed, scored and resumed, and what it
says."""
