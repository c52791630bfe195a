"""Finds which depth map, which picture of given flow and which boxes belong to each frame of a clip's RGB.

A film (a video, or pictures whose rate the manifest names) has a clock, which counts seconds from its start.
Pictures without a rate, flow and boxes have none: they are numbered like the frames of the whole video.
"""

from typing import NamedTuple

import numpy as np

from mmvid.data.media import depth as depth_lib
from mmvid.data.media import files, flow_pictures
from mmvid.data.media import pictures as pictures_lib
from mmvid.data.media import video as video_lib
from mmvid.data.media.detections import Detections
from mmvid.data.media.item import Item


class Frames(NamedTuple):
    """The frames of a clip, which stand at ``times`` [n] in seconds from its start, ``fps`` a second on average.

    The whole video has ``whole`` frames, of which ``first`` lie before the clip; ``length`` seconds pass from
    its first frame to its last (NaN where it has no clock).
    """

    times: np.ndarray
    fps: float
    first: int
    whole: int
    length: float

    @property
    def number(self) -> int:
        """How many frames the clip has."""
        return len(self.times)

    @property
    def period(self) -> float:
        """Seconds from frame to frame; 0 where there is only one."""
        return 1 / self.fps if self.number > 1 else 0.0


def of_video(video: video_lib.Video, source) -> Frames:
    """Describes the frames of the RGB ``video``, which was read from ``source``, a file or a list of pictures."""
    whole, length = depth_lib.extent(source, fps=video.fps)
    return Frames(video.times, video.fps, video.first, whole, length)


def of_depth(maps: depth_lib.Maps) -> Frames:
    """Describes the frames of a clip without RGB: they are its depth maps, at the maps' own times."""
    return Frames(maps.times, maps.fps, int(maps.numbers[0]), maps.count, maps.length)


def of_flow(count: int, item: Item) -> Frames:
    """Describes the frames of a clip that has flow alone. ``count`` is the number of its pictures, already cut to
    the clip; as each leads from one frame to the next, there is one frame more."""
    fps = item.fps or pictures_lib.PICTURES_FPS
    first = _first(item, fps)
    times = (first + np.arange(count + 1)) / fps - item.start
    return Frames(times, fps, first, first + count + 1, count / fps)


def _first(item: Item, fps: float) -> int:
    """Returns the number of the clip's first picture in its folder."""
    # The first picture at or behind the start, where pictures stand at exactly n / fps.
    return int(np.ceil(item.start * fps - 1e-6))


def _spare(count: int) -> int:
    """Returns by how many frames two recordings of one event may differ where one has ``count`` frames: by a
    tenth, but by one at least."""
    # Two cameras need not start and stop at the same instant.
    return max(count // 10, 1)


def _seconds(length: float, count: int) -> float:
    """Returns the seconds that a film of ``count`` frames lasts; ``length`` pass from its first to its last."""
    # The last frame is taken to be shown as long as the others are on average.
    return length * count / max(count - 1, 1)


def _lasting(length: float, count: int) -> str:
    """Writes for a message how long a film of ``count`` frames lasts, ' in 2.00 s', where ``length`` seconds pass
    from its first frame to its last; '' where there is no clock."""
    return "" if np.isnan(length) else f" in {_seconds(length, count):.2f} s"


def _film(count: int, length: float) -> str:
    """Writes for a message how many maps a whole recording has, and how long it lasts."""
    return f"{count} depth map{'s' * (count != 1)}{_lasting(length, count)}"


def _mismatch(what: str, frames: Frames, hint: str) -> files.DecodeError:
    """Makes the error which says that ``what`` does not go with the clip's ``frames``, and a ``hint``."""
    whole = f"{frames.whole} frames{_lasting(frames.length, frames.whole)}"
    if frames.number < frames.whole:
        whole += f", of which the clip has {frames.first} to {frames.first + frames.number - 1}"
    return files.DecodeError(f"{what} for {whole}: more than a tenth apart. {hint}")


# ---------------------------------------------------------------------------- depth
def depth(source, item: Item, frames: Frames | None, *, short_side: int, beside_pictures: bool) -> depth_lib.Maps:
    """Reads the depth of a clip, a map for each of its ``frames``; all maps as they are where ``frames`` is None.

    Maps are matched by number where there are as many as the video has frames, and where they have no clock
    (pictures ``beside_pictures``, or whose rate the manifest does not name). Otherwise each frame gets the map
    that is nearest in time among those that lie in the clip. Raises DecodeError where depth cannot be read, or
    where depth and frames differ by more than a tenth (or one frame, if that is more) in number or in seconds.
    """
    if frames is None:
        options = dict(fps=item.fps or pictures_lib.PICTURES_FPS, start=item.start, end=item.end)
        return depth_lib.read(source, **options, short_side=short_side)
    fps = None if beside_pictures else item.fps
    count, length = depth_lib.extent(source, fps=fps)
    if np.isnan(length) or count == frames.whole:
        return _by_number(source, (count, length), frames, dict(fps=fps, short_side=short_side))
    options = dict(fps=fps, start=item.start, end=item.end, short_side=short_side)
    return _by_time(depth_lib.read(source, **options), frames)


def _by_number(source, extent: tuple[int, float], frames: Frames, options: dict) -> depth_lib.Maps:
    """Returns for each frame the map of its number, or the last map where a few are lacking at the end.
    ``extent`` is the number of maps and the seconds between the first and the last. Raises DecodeError where
    numbers or lengths differ too much."""
    count, length = extent
    lacking = frames.first + frames.number - count
    if abs(count - frames.whole) > _spare(frames.whole) or lacking > min(_spare(frames.number), frames.number - 1):
        hint = "Pictures without a rate are counted like the video's frames; the column fps names theirs"
        raise _mismatch(_film(count, length), frames, hint)
    # Equal numbers at unequal rates would pair moments that drift apart.
    if not np.isnan(length) and abs(length - frames.length) > max(0.1 * frames.length, frames.period) + 1e-3:
        hint = "One of the clocks is wrong: store the depth at the video's rate"
        raise _mismatch(_film(count, length), frames, hint)
    made = depth_lib.read(source, **options, frames=range(frames.first, frames.first + frames.number))
    return _chosen(made, np.minimum(np.arange(frames.number), len(made.maps) - 1))


def _by_time(made: depth_lib.Maps, frames: Frames) -> depth_lib.Maps:
    """Returns for each frame the map that is nearest in time, the earlier where two are equally near. Raises
    DecodeError where the maps do not reach over the clip."""
    times = made.times
    # One map alone tells no rate.
    period = max(1 / made.fps if made.count > 1 else 0.0, frames.period)
    spare = max(0.1 * float(np.ptp(frames.times)), period) + 1e-3
    if max(abs(times[0] - frames.times[0]), abs(times[-1] - frames.times[-1])) > spare:
        hint = (
            f"In the clip, maps stand from {times[0]:.2f} to {times[-1]:.2f} s, frames from "
            f"{frames.times[0]:.2f} to {frames.times[-1]:.2f} s"
        )
        raise _mismatch(_film(made.count, made.length), frames, hint)
    return _chosen(made, _nearest(times, frames.times))


def _chosen(made: depth_lib.Maps, places: np.ndarray) -> depth_lib.Maps:
    """Returns the maps at ``places``, in this order."""
    return made._replace(
        maps=[made.maps[i] for i in places], numbers=made.numbers[places], times=made.times[places]
    )


def _nearest(times: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Returns for each of ``wanted`` the place of the nearest of ``times``, which must rise; the first place where
    two are equally near."""
    # Clocks that round to milliseconds shall not decide what lies in the middle of two.
    middles = (times[1:] + times[:-1]) / 2 + 1e-3
    return np.searchsorted(middles, wanted)


# ---------------------------------------------------------------------------- what counts frames
def flow(
    made: flow_pictures.FlowPictures, item: Item, frames: Frames | None, places: list[int] | None
) -> flow_pictures.FlowPictures:
    """Returns the pictures of given flow that belong to a clip: picture i leads from frame i of the whole video to
    frame i + 1. ``places`` are the frames that were kept where RGB and depth were paired, else None.

    Where a few are lacking, up to a tenth, the last one is repeated, so that no frame of the RGB goes unread
    for want of flow. Raises DecodeError where more are lacking, or where there are more pictures than frames.
    """

    def cut(pictures: list[bytes]) -> list[bytes]:
        if places is not None:
            pictures = [pictures[i] for i in places if i < len(pictures)]
        return _cut_flow(pictures, item, frames)

    return made._replace(x=cut(made.x), y=cut(made.y) if made.y else [])


def _cut_flow(pictures: list[bytes], item: Item, frames: Frames | None) -> list[bytes]:
    """Returns the pictures of one direction that belong to the clip: see `flow`."""
    if frames is None:
        fps = item.fps or pictures_lib.PICTURES_FPS
        stop = None if item.end is None else int(np.ceil(item.end * fps - 1e-6))
        if kept := pictures[_first(item, fps) : stop]:
            return kept
        raise files.DecodeError(f"no pictures of flow from {item.start} s on: there are {len(pictures)}")
    kept = pictures[frames.first : frames.first + frames.number]
    lacking = frames.number - len(kept)
    least = frames.whole - _spare(frames.whole)
    if not kept or lacking > _spare(frames.number) or not least <= len(pictures) <= frames.whole:
        hint = "As many pictures belong to the whole video as it has frames, or one less"
        raise _mismatch(f"{len(pictures)} pictures of flow", frames, hint)
    # Less one, as n frames have n - 1 pictures of flow; [] where nothing is lacking.
    return kept + [kept[-1]] * (lacking - 1)


def numbers(item: Item, frames: Frames, rate: float | None) -> np.ndarray:
    """Returns which of the frames that boxes count each frame of the clip is, int [T]: the frame of its number or,
    where boxes count ``rate`` frames a second, the one nearest in time."""
    if rate is None:
        return frames.first + np.arange(frames.number)
    return np.floor((item.start + frames.times) * rate + 0.5).astype(int)


def boxes(found: Detections, numbers: np.ndarray, frames: Frames, rate: float | None) -> np.ndarray:
    """Returns the rows of boxes, float32 [n, 9], that lie in the clip, their frames counted from its first one.

    ``numbers`` [T] are the clip's frames as the boxes count them, ``rate`` a second. Raises DecodeError where they
    speak of frames that the whole video does not have.
    """
    _check_boxes(found, frames, rate)
    if rate is None:
        rows = found.rows - np.float32([frames.first] + [0] * 8)
        return rows[(rows[:, 0] >= 0) & (rows[:, 0] < frames.number)]
    rows = found.rows[np.argsort(found.rows[:, 0], kind="stable")]
    # A picture of a faster film shares its boxes with the next, one of a slower film skips some.
    low, high = (np.searchsorted(rows[:, 0], numbers, side) for side in ("left", "right"))
    places = [np.arange(*ends) for ends in zip(low, high)]
    chosen = rows[np.concatenate(places)]
    chosen[:, 0] = np.repeat(np.arange(len(numbers)), high - low)
    return chosen


def _check_boxes(found: Detections, frames: Frames, rate: float | None) -> None:
    """Raises DecodeError where boxes are of a longer video, or of a shorter one though they should be of all of
    it."""
    lowest, last = found.rows[:, 0].min() if len(found.rows) else 0, found.count - 1
    # Without a clock the length is NaN, and nothing can be compared with it.
    whole = frames.whole if rate is None else _seconds(frames.length, frames.whole) * rate
    spare = _spare(frames.whole) if rate is None else max(0.1 * whole, frames.period * rate, 1)
    if lowest < 0 or last > whole - 1 + spare or (found.whole and found.count < whole - spare):
        hint = "count from 0, from the start of the whole video"
        clock = "" if rate is None else f", or {whole:.0f} at {rate:g} a second"
        raise files.DecodeError(
            f"boxes of the frames {lowest:.0f} to {last:.0f} of a video that has {frames.whole}{clock}: {hint}"
        )
