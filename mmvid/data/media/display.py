"""Turns a decoder's frames into the pictures that a player shows: deinterlaced and upright."""

import collections
from collections.abc import Iterator

import av
import numpy as np
from av.sidedata.sidedata import Type


def progressive(frames: Iterator[tuple[int, av.VideoFrame]]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yields (number, frame) as they come, deinterlaced.

    From the first interlaced frame on, all go through FFmpeg's bwdif. It makes one picture of each frame and
    its two neighbours, and leaves progressive frames alone.
    """
    graph, waiting, previous = None, collections.deque(), None
    for number, frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield number, frame
            previous = frame
            continue
        if graph is None:
            # The frame before goes in for the filter to see; it was yielded already, hence no number.
            graph = _bwdif(frame)
            if previous is not None:
                waiting.append(None)
                graph.push(previous)
        waiting.append(number)
        graph.push(frame)
        yield from _pulled(graph, waiting)
    if graph is not None:
        # The filter holds the last frame back, waiting for its neighbour.
        graph.push(None)
        yield from _pulled(graph, waiting)


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
    """Builds the filter for frames like ``frame``."""
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("bwdif", "mode=send_frame:deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(graph: av.filter.Graph, waiting: collections.deque) -> Iterator[tuple[int, av.VideoFrame]]:
    """Yields the frames that the filter has ready, each with its number from ``waiting``."""
    while True:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        # Pushed for its neighbour's sake alone.
        if (number := waiting.popleft()) is not None:
            yield number, frame


def upright(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turns ``picture`` [H, W, ...] by quarters and mirrors it, as the frame's display matrix asks: a view.

    A telephone that is held upright stores its frames lying down, and says so in this matrix.
    """
    matrix = frame.side_data.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return picture
    # Column x and row y are shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
