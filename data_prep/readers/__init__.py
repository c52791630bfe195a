"""One file a dataset: from its own files and folders to a manifest."""
