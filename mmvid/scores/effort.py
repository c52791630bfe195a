"""What networks take to say something of a clip, as runs keep it beside their scores."""

import pathlib
from collections.abc import Iterable, Mapping

from mmvid import files
from mmvid.scores import file
from mmvid.scores.file import Scores

# In the folder of a segment: {output: {'network', 'reads': streams, 'flops', 'parameters'}}, of a view of a clip;
# 'network' names what has to run only once for several outputs that read the same.
NAME = "flops.json"


def read(directory: pathlib.Path) -> dict[str, dict]:
    """Reads what was counted of a segment's outputs; {} where nobody has, as in runs of before."""
    return files.read_note(directory / NAME)


def together(efforts: Iterable[Mapping | None]) -> dict | None:
    """Adds up what several outputs take, of which some may be of one network: {'flops', 'parameters'}; None where
    nobody has counted one of them."""
    efforts = list(efforts)
    if not efforts or None in efforts:
        return None
    # A network that reads its streams in turn runs for each of them, with the same parameters.
    runs = {(own["network"], *own.get("reads", ())): own for own in efforts}
    weights = {own["network"]: own for own in efforts}
    return {
        "flops": sum(own["flops"] for own in runs.values()),
        "parameters": sum(own["parameters"] for own in weights.values()),
    }


def of_clip(found: Mapping[str, Mapping], scores: Scores, output: str) -> float | None:
    """Returns the GFLOPs that an output, or a sum of some, takes for all views of a clip; None where they were not
    counted."""
    whole = together(found.get(name) for name in file.summed(scores, output))
    return None if whole is None else whole["flops"] * file.shown_views(scores) / 1e9
