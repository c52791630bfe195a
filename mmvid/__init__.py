"""mmvid: video action recognisers that learn from many modalities and work with few."""

__version__ = "0.1.0"
