"""A sweep: many runs of one configuration that differ in a few entries, in one folder, and their table."""
