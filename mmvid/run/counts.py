"""Counts what a segment's outputs take at test, once, and keeps it beside its scores: no report has to trace a
program."""

from mmvid import files
from mmvid.logs import LOG
from mmvid.network import Network
from mmvid.plans import keys
from mmvid.plans.segment import Segment
from mmvid.run import inference
from mmvid.run.build import Run
from mmvid.run.inference import Effort
from mmvid.scores import effort


def _counted(run: Run, segment: Segment, network: Network, side: int) -> Effort:
    """Counts a network, which takes about a second, unless an equal one of this run has been counted."""
    # Nobody knows whether networks of segments without a spec are equal.
    if not segment.spec:
        return inference.counted(network, segment.streams, side)
    program = segment.spec["program"]
    made = {**program["networks"][network.name], "reads": network.reads, "frozen": False}
    read = {name: segment.streams[name] for together in network.reads for name in together}
    key = "flops " + keys.digest({"network": made, "streams": read, "heads": program["heads"], "side": side})
    if key not in run.programs:
        run.programs[key] = inference.counted(network, segment.streams, side)
    return run.programs[key]


def _of_outputs(run: Run, segment: Segment) -> dict[str, dict]:
    """Counts what takes part in saying each scored output, for one view of a clip: {output: entry of the file}."""
    _, _, side = inference.shown(run, segment)
    found = {}
    for network in segment.networks:
        for index, output in enumerate(network.outputs):
            if output not in segment.needs:
                continue
            # One that reads its streams in turn says each output from one of them.
            alone = network._replace(reads=(network.reads[index],)) if len(network.reads) > 1 else network
            own = _counted(run, segment, alone, side)
            found[output] = {"network": network.name, "reads": own.reads, "flops": own.products.flops,
                             "parameters": own.parameters}  # fmt: skip
    return found


def note(run: Run, segment: Segment) -> None:
    """Writes what a segment's outputs take beside its scores (`effort.NAME`). What cannot be counted is logged: no
    run fails for a figure of its report."""
    try:
        files.write_json(run.workdir / segment.name / effort.NAME, _of_outputs(run, segment))
    except Exception as error:
        LOG.warning("%s: its FLOPs are not counted (%s: %s)", segment.name, type(error).__name__, error)
