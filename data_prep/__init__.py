"""From videos and annotations to a dataset that mmvid reads: ``python -m data_prep.build``."""
