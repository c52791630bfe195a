"""Finds what a file lacks of what its header promises.

What tells the truth, by container: MP4 and MOV hold an index of every packet, from which FFmpeg has
already cut what an edit list leaves out, so its length counts and nothing else does (the header's count
includes what was cut, the last frame may stand for seconds). AVI holds one too, at its end; a file that
lost it has the header's count. Matroska, WebM and FLV hold no count, but say how long they are in bytes:
a file of that length is whole, if too little is left behind the last packet to hold what seems to be
missing. A GIF ends with a byte of its own, an Ogg with a page that says so. Everywhere else there is only
the length in seconds, which is compared with where the last frame ends; where none is named (streams made
to be cut, such as MPEG's, and raw frames), a shorter film cannot be told from a cut one.
"""

import contextlib
import os
import pathlib

import av

# Each packet of theirs is a picture, unless it is a field of one.
_ONE_EACH = {"h264", "hevc", "vp9", "libdav1d", "mpeg1video", "mpeg2video", "mjpeg", "ffv1"}


def missing(path: str, container, stream, index: int, packets: list) -> str:
    """Returns what is missing of a file, for people to read; '' where it is whole.

    ``index`` is the number of entries in the container's index when it was opened, ``packets`` (see
    ``timetable.Packet``) are all packets that could be read of the stream.
    """
    name = container.format.name
    indexed = index >= len(packets) and ("mov" in name or name == "avi")
    promised = index if indexed else stream.frames
    # Headers are off by a frame or two.
    if promised - len(packets) > max(2, 0.02 * promised):
        return f"{len(packets)} of {promised} frames"
    if indexed and stream.frames:
        return ""
    if name in ("gif", "ogg"):
        return "" if _ended(pathlib.Path(path), name) else "its end"
    return _by_time(pathlib.Path(path), container, stream, packets)


def _ended(path: pathlib.Path, name: str) -> bool:
    """Tells whether a file ends as it should: a GIF with its last byte, an Ogg with a page that is marked as the
    last one (RFC 3533: the third bit of its sixth byte)."""
    with path.open("rb") as file:
        # A page of an Ogg has at most 65,307 bytes, so the last one begins within these.
        file.seek(max(path.stat().st_size - (1 << 17), 0))
        data = file.read().rstrip(b"\0")
    if name == "gif":
        return data.endswith(b";")
    page = data.rfind(b"OggS")
    return page >= 0 and len(data) > page + 5 and bool(data[page + 5] & 4)


def undecoded(packets: list, keys: list[int], decoded: list, stream) -> str:
    """Returns how many frames of ``packets`` were ``decoded``, for people to read; '' where none is missing.

    Only codecs are judged whose packets are a picture each.
    """
    # Frames shown before the first key are predicted from what the file does not hold.
    begin = packets[keys[0]].pts if keys else None
    shown = sum(not p.hidden and p.pts is not None and (begin is None or p.pts >= begin) for p in packets)
    if stream.codec_context.name in _ONE_EACH and shown - len(decoded) > max(2, 0.02 * shown):
        return f"{len(decoded)} of {shown} frames"
    return ""


def _by_time(path: pathlib.Path, container, stream, packets: list) -> str:
    """Returns how far the film reaches of the length that its header names, for people to read; '' where that
    is all of it, or where no length is named."""
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    stamps = [(p.dts if p.pts is None else p.pts, p.duration) for p in packets]
    ends = [(stamp + length) * float(stream.time_base) for stamp, length in stamps if stamp is not None]
    length, zero = _length(container, stream)
    reached = max(ends, default=len(packets) / rate) - zero
    # The duration of the last packet is often unknown.
    if not length or length - reached <= max(3 / rate, 0.02 * length):
        return ""
    # Bytes behind the last packet. Where they are too few to hold the rest, the length is wrong, not the file.
    left = path.stat().st_size - max((p.end for p in packets), default=0)
    if left < path.stat().st_size * (1 - reached / length) / 4 and _whole(path, container, stream):
        return ""
    return f"{reached:.2f} of {length:.2f} s"


def _length(container, stream) -> tuple[float | None, float]:
    """Returns (seconds of video that the header names, the second from which it counts them).

    The length is None where the header names none, or where it may be that of the sound.
    """
    if stream.duration:
        return float(stream.duration * stream.time_base), float((stream.start_time or 0) * stream.time_base)
    if seconds := _tagged(stream):
        return seconds, 0.0
    if container.duration and len(container.streams) == 1:
        return container.duration / av.time_base, min((container.start_time or 0) / av.time_base, 0.0)
    return None, 0.0


def _tagged(stream) -> float | None:
    """Returns the end of the track in seconds by Matroska's tag DURATION, None where there is no such tag."""
    with contextlib.suppress(ValueError):
        hours, minutes, seconds = map(float, stream.metadata.get("DURATION", "").split(":"))
        return 3600 * hours + 60 * minutes + seconds
    return None


def _whole(path: pathlib.Path, container, stream) -> bool:
    """Tells whether a file without a count of frames is as long, in bytes, as it says."""
    name = container.format.name
    if "matroska" in name:
        # A track that ends after the file: such a header is not believed.
        return (_tagged(stream) or 0) <= (container.duration or 0) / av.time_base + 0.1 and _whole_matroska(path)
    return name == "flv" and _whole_flv(path)


def _whole_matroska(path: pathlib.Path) -> bool:
    """Tells whether the Segment of a Matroska file ends within the file.

    The first bits of a length count its bytes (RFC 8794).
    """
    with path.open("rb") as file:
        data, place, size = file.read(4096), 0, 0
    for name in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):
        field = data[place + size : place + size + 12]
        if len(field) < 12 or field[:4] != name or not field[4]:
            return False
        width = 9 - field[4].bit_length()
        place, size = place + size + 4 + width, int.from_bytes(field[4 : 4 + width], "big") - (1 << 7 * width)
    # A size of ones alone means that it was unknown when the header was written.
    known = size != (1 << 7 * width) - 1
    return known and place + size <= os.path.getsize(path)


def _whole_flv(path: pathlib.Path) -> bool:
    """Tells whether an FLV ends with a whole tag: its last four bytes are the size of the tag before them."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        size = int.from_bytes(file.read(4), "big")
        if not 11 < size < file.tell() - 8:
            return False
        file.seek(-4 - size, os.SEEK_END)
        tag = file.read(4)
    return tag[0] in (8, 9, 18) and int.from_bytes(tag[1:], "big") == size - 11
