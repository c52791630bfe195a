"""Reads depth from 16-bit films, pictures and MATLAB's files."""

import functools
import os
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from mmvid.data.media import files as files_lib
from mmvid.data.media import film, timetable
from mmvid.data.media import pictures as pictures_lib
from mmvid.data.media.files import DecodeError, existing, listening
from mmvid.data.media.pictures import IMAGES, PICTURES_FPS


class Maps(NamedTuple):
    """Depth maps of a clip: ``maps``, uint16 [H, W] each, at ``times`` [n] seconds from the clip's start.

    ``numbers`` [n] are their places in the whole film, from 0. The whole film has ``count`` maps at ``fps`` on
    average, and lasts ``length`` seconds from the first to the last. Pictures that were given no rate have no
    clock: then ``fps`` is None, and times and length are nan.
    """

    maps: list[np.ndarray]
    numbers: np.ndarray
    times: np.ndarray
    fps: float | None
    count: int
    length: float


def extent(path: str | os.PathLike | list[pathlib.Path], *, fps: float | None = PICTURES_FPS) -> tuple[int, float]:
    """Returns (frames, seconds from the first to the last) of a whole video or depth film, keeping no frame.

    Pictures (a list, or a single one) and arrays are taken at ``fps``; with None the seconds are nan. Raises
    DecodeError.
    """
    if isinstance(path, list):
        count = len(path)
    elif (ending := existing(path).suffix.lower()) in IMAGES:
        count = 1
    elif ending == ".mat":
        count = len(_depth_matlab(pathlib.Path(path)))
    else:
        with listening("video") as logs:
            times = timetable.read(path).times
            # A clip may end before the damage, so reading the clip itself decides about that.
            logs.clear()
        return len(times), float(np.ptp(times)) if len(times) else 0.0
    return count, (count - 1) / fps if fps else np.nan


# Seconds. Matroska, which holds most depth, rounds times to milliseconds, so they may be off by half of one.
_TICK = 6e-4


def read(
    path: str | os.PathLike | list[pathlib.Path],
    *,
    fps: float | None = PICTURES_FPS,
    start: float = 0.0,
    end: float | None = None,
    frames: range | None = None,
    short_side: int = 0,
) -> Maps:
    """Reads depth from 16-bit PNGs (a folder, a pattern or a list, see ``sequence``), one PNG, a gray video
    (mkv with FFV1), or MATLAB's ``curFrame`` [H, W, T] (UWA3DII).

    It takes the maps from ``start`` to ``end`` seconds of their own clock or, where ``frames`` is given, those
    with these numbers in the whole film, as far as they exist. ``fps`` is the rate of pictures and arrays, None
    where they have no clock. Raises DecodeError, also where no map is left.
    """
    files = path if isinstance(path, list) else pictures_lib.sequence(path, (".png",))
    wanted = functools.partial(_wanted, start=start, end=end, frames=frames)
    where = f"between {start} s and {'the end' if end is None else end}"
    nothing = "no depth maps " + (f"from number {frames.start} to {frames.stop - 1}" if frames else where)
    if files is None and existing(path).suffix.lower() not in (".png", ".mat"):
        maps, times, rate, own = _depth_video(pathlib.Path(path), wanted, short_side, nothing)
        first = own.start
    else:
        readers = _depth_readers(files, path)
        times, rate = (np.arange(len(readers)) / fps if fps else np.full(len(readers), np.nan)), fps
        first, stop = wanted(times)
        if first == stop:
            raise DecodeError(f"{nothing}: there are {len(times)}")
        maps = _depth_maps(readers[first:stop], short_side)
    numbers = first + np.arange(len(maps))
    if len(shapes := {m.shape for m in maps}) > 1:
        raise DecodeError(f"depth maps of several sizes {sorted(shapes)} in {_name(path)}")
    return Maps(list(maps), numbers, times[numbers] - start, rate, len(times), float(np.ptp(times)))


def _wanted(times: np.ndarray, start: float, end: float | None, frames: range | None) -> tuple[int, int]:
    """Returns the range [first, stop) of maps to read, by number or by time; all of them where times are nan."""
    if frames is not None:
        return min(frames.start, len(times)), min(frames.stop, len(times))
    if np.isnan(times).any():
        return 0, len(times)
    first, stop = np.searchsorted(times, (start - _TICK, (np.inf if end is None else end) - _TICK))
    return int(first), int(stop)


def _name(path: str | os.PathLike | list[pathlib.Path]) -> str:
    """Returns what messages call the maps: the file or folder that holds them."""
    return path[0].parent.name if isinstance(path, list) else pathlib.Path(path).name


def _depth_readers(files: list[pathlib.Path] | None, path: str | os.PathLike) -> list[Callable]:
    """Returns for each map a function that reads it, so that only the wanted ones are read."""
    if files is None and pathlib.Path(path).suffix.lower() == ".mat":
        return [functools.partial(_depth_array, plane) for plane in _depth_matlab(pathlib.Path(path))]
    return [functools.partial(_depth_image, file) for file in files or [pathlib.Path(path)]]


def _depth_maps(readers: list[Callable], short_side: int) -> list[np.ndarray]:
    """Reads maps and shrinks them. Raises DecodeError where they need too much memory."""
    # Nearest throughout: the mean of two depths would be a surface that is not there.
    maps, size = [], 0
    for read in readers:
        maps.append(pictures_lib.fit(read(), short_side, cv2.INTER_NEAREST))
        size += maps[-1].nbytes
        files_lib.check_room(len(maps), size)
    return maps


def _depth_matlab(path: pathlib.Path) -> np.ndarray:
    """Returns MATLAB's ``curFrame`` as [T, H, W], of any type. Raises DecodeError."""
    # Imported here: whoever reads records needs no MATLAB.
    from scipy.io import loadmat

    try:
        found = loadmat(path)
    except NotImplementedError:
        raise DecodeError(f"{path.name} is MATLAB 7.3: save it with -v7") from None
    except Exception as error:  # its reader raises whatever damaged bytes lead it to
        raise DecodeError(f"not readable as a .mat file: {error}") from None
    array = found.get("curFrame")
    if array is None or array.ndim not in (2, 3) or not array.size:
        names = sorted(name for name in found if not name.startswith("_"))
        raise DecodeError(f"{path.name} has no array curFrame [H, W, T]; it has {names}")
    # MATLAB drops a last axis of length 1.
    return np.moveaxis(array if array.ndim == 3 else array[..., None], -1, 0)


def _depth_array(plane: np.ndarray) -> np.ndarray:
    """Converts one map [H, W] of any type to uint16."""
    # Whatever is nan in an array has no reading, which is 0 from here on.
    return np.clip(np.nan_to_num(plane), 0, 65535).astype(np.uint16, order="C")


def _depth_video(path: pathlib.Path, wanted: Callable, short_side: int, nothing: str) -> tuple:
    """Returns (maps [T, H, W], times of all frames of the film, fps, range of the maps' numbers)."""
    reformatter = VideoReformatter()

    def convert(frame: av.VideoFrame, _) -> np.ndarray:
        return pictures_lib.fit(film.pixels(frame, reformatter, "gray16le"), short_side, cv2.INTER_NEAREST)

    with pictures_lib.naming(path):
        return film.read(path, "depth", lambda table: wanted(table.times), convert, nothing)


def _depth_image(path: pathlib.Path) -> np.ndarray:
    """Reads one map, uint16 [H, W], from a gray PNG. Raises DecodeError."""
    picture = pictures_lib.imdecode(existing(path).read_bytes(), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 2:
        raise DecodeError(f"depth image {path.name} is not a one-channel PNG, or damaged")
    return picture.astype(np.uint16)
