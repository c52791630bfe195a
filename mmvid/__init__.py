"""mmvid: video action recognisers that learn from many modalities and work with few."""

import importlib

__version__ = "0.1.0"


def load(run, *, segment=None, flow="as-trained"):
    """Opens a run that has ended, to predict clips of one's own: ``mmvid.load("runs/mml")("my_video.mp4")``.

    Returns ``predict(path, *, start=0.0, end=None, fps=None, depth=.., flow=.., audio=.., boxes=..)``: the clip is
    a video, a picture or a folder of pictures, and may have files beside it. It returns a
    `mmvid.run.predict.Prediction` (logits of every output, probabilities, class names; ``best(k)`` lists classes)
    and raises ValueError with the reason for a clip that cannot be predicted. ``segment`` names another segment
    than the last, ``flow`` is 'as-trained', 'dis' (quick) or 'skip'. Raises ValueError or
    FileNotFoundError for a folder that is no run that has ended.
    """
    # JAX takes seconds to import: whoever wants the version alone need not wait for it.
    return importlib.import_module("mmvid.commands.predict").load(run, segment=segment, flow=flow)
