"""The report: tables, panels, figures, the page, and the end of a run."""
