"""The report: tables, panels, figures, the page, and the end of a run."""

import os

# Before matplotlib is imported anywhere: what a notebook starts inherits the backend of the notebook's own
# environment, and where that backend is not installed, the import fails.
os.environ["MPLBACKEND"] = "agg"
