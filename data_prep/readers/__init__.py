"""The datasets that can be built, a row each.

A new one is a file beside these, whose function makes a `Manifest` of the dataset's own files, and a row in
READERS: the command line, the phases and the summary follow from the row.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from data_prep.manifest import Manifest
from data_prep.readers import (
    audioset,
    boxes,
    charades,
    epic,
    epic55,
    folder,
    kinetics,
    ntu,
    nwucla,
    something_else,
    splits,
    sports1m,
    ssv2,
    table,
    tabletop,
    ucf101,
    uwa3d,
)
from data_prep.tabletop import specs

MML, DMCL, DISTILL = "configs/mml.py", "configs/dmcl.py", "configs/distill.py"
GBLEND, CMPL = "configs/gblend.py", "configs/cmpl.py"
# The variants of the configurations for data that no published recipe is about.
OWN = {MML: "own", DMCL: "own"}


class Reader(NamedTuple):
    """Says how a dataset is read and what can be trained on it.

    ``about`` is its line in --help. ``read(args)`` makes the manifest and is given the whole command line
    (``args.out`` too). ``flags`` {'--name': arguments of argparse's add_argument} belong to this dataset
    alone. ``stored`` has the fields of `record.Settings` whose default differs here. ``variants``
    {configuration file: its variant} are the trainings that fit; the summary offers no others. ``scored`` is
    the split on which those of them are scored that are the dataset's own, ``during`` the one that they are
    scored on while they train.
    """

    about: str
    read: Callable[[argparse.Namespace], Manifest]
    flags: Mapping[str, dict] = {}
    stored: Mapping[str, Any] = {}
    variants: Mapping[str, str] = OWN
    scored: str = "test"
    during: str = "val"


# ---------------------------------------------------------------------------- flags
def _cameras(text: str) -> tuple[int, ...]:
    """Reads '1,2' from the command line as (1, 2)."""
    try:
        return splits.views(text)
    except ValueError:
        # Of a ValueError argparse would not show the text.
        raise argparse.ArgumentTypeError(
            f"{text!r}: give the numbers of cameras, with commas between them, as in 1,2"
        ) from None


def _participants(text: str) -> tuple[str, ...]:
    """Reads 'P26,P27' from the command line as ('P26', 'P27')."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _count(text: str) -> int:
    """Reads a number of clips or classes from the command line: at least one."""
    try:
        if int(text) > 0:
            return int(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give a whole number greater than 0")


def _duration(text: str) -> float:
    """Reads a number of seconds from the command line, 0 or more."""
    try:
        if 0 <= float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds, or 0 for all")


_ARCHIVES = {"--videos": dict(required=True, metavar="ROOT", help="folder of the unpacked archives")}
_LABELS = {"--annotations": dict(required=True, metavar="LABELS", help="folder of the official label files")}
_FILMS = {"--videos": dict(required=True, metavar="VIDEOS", help="folder of the videos")}
_KITCHENS = {"--videos": dict(required=True, metavar="ROOT", help="folder of P01/videos/P01_01.MP4 and its like")}
_SPLIT = {
    "--split": dict(default="compositional", choices=tuple(something_else.SPLITS), help="which of the splits"),
}
_VIEWS = {
    "--train_views": dict(type=_cameras, default="1,2", metavar="1,2", help="cameras to train on"),
    "--test_views": dict(type=_cameras, metavar="3", help="cameras to test on; all others where not given"),
}
_VERSION = {
    "--version": dict(type=int, default=0, choices=ntu.VERSIONS, help="which of the three halves is trained on"),
}
_FETCHED = {"--videos": dict(required=True, metavar="VIDEOS", help="folder below which the fetched videos lie")}
_WHOLE = {
    "--whole": dict(action="store_true", help="the files are whole videos, to be cut by the times of the lists"),
}
_BALANCED = {
    "--classes": dict(type=_count, default=audioset.CLASSES, metavar="N", help="classes, the most frequent"),
    "--clips": dict(type=_count, default=audioset.CLIPS, metavar="N", help="training clips, at most"),
}
_SPORTS = {
    "--train_clips": dict(type=_count, default=sports1m.CLIPS[0], metavar="N", help="clips of the training list"),
    "--val_clips": dict(type=_count, default=sports1m.CLIPS[1], metavar="N", help="clips of the test list"),
    "--seconds": dict(type=_duration, default=0.0, metavar="S", help="of each video, from its start; 0: all"),
}
_KITCHENS_55 = {
    "--videos": dict(required=True, metavar="ROOT", help="folder of videos/train/P01/P01_01.MP4 and its like"),
    "--val_participants": dict(
        type=_participants,
        default=",".join(epic55.VALIDATION),
        metavar="P26,P27",
        help="whose kitchens are kept for validation",
    ),
}
_UCF = {
    "--split": dict(type=int, default=1, choices=ucf101.SPLITS, help="which of the three official splits"),
}
_SEED = {"--seed": dict(type=int, default=0, help="another one renders other clips")}
_TABLETOP = {
    "--size": dict(default="small", choices=sorted(specs.SIZES), help="how many clips"),
    "--view": dict(default="verb", choices=specs.VIEWS, help="what a clip is labelled with"),
    **_SEED,
}
# Tabletop is 48 pixels and moves little: a coarser solver and a tighter bound serve it.
_SMALL = dict(flow="tvl1-fast", flow_bound=6.0)


# ---------------------------------------------------------------------------- rows
def _by_view(about: str, read: Callable[..., Manifest], variant: str) -> Reader:
    """Makes the row of a dataset that is split by camera; ``variant`` is DMCL's."""
    return Reader(
        about,
        lambda args: read(args.videos, train_views=args.train_views, test_views=args.test_views),
        flags=_ARCHIVES | _VIEWS,
        variants=OWN | {DMCL: variant},
    )


def _ntu(about: str, name: str) -> Reader:
    """Makes the row of NTU RGB+D or of a part of it."""
    return Reader(about, lambda args: ntu.read(args.videos, name), flags=_ARCHIVES, variants=OWN | {DMCL: name})


READERS = {
    "ssv2": Reader(
        "Something-Something v2",
        lambda args: ssv2.read(args.annotations, args.videos, named=args.boxes, out=args.out),
        flags=_LABELS | _FILMS | boxes.FLAGS,
        variants=OWN | {MML: "ssv2", DISTILL: "ssv2"},
        scored="val",
    ),
    "something_else": Reader(
        "Something-Else: Something-Something v2 split by the objects that are seen, with boxes",
        lambda args: something_else.read(
            args.annotations, args.videos, args.out, split=args.split, named=args.boxes
        ),
        flags=_LABELS | _FILMS | boxes.FLAGS | _SPLIT,
        variants=OWN | {DISTILL: "something_else"},
        scored="val",
    ),
    "epic100": Reader(
        "EPIC-Kitchens-100: nouns and verbs of what a cook does, with sound and hand-object boxes",
        lambda args: epic.read(args.annotations, args.videos),
        flags=_LABELS | _KITCHENS,
        variants=OWN | {DISTILL: "epic100"},
        scored="val",
    ),
    "epic55": Reader(
        "EPIC-Kitchens-55: nouns and verbs, validated in kitchens that nothing is learnt in, with sound",
        lambda args: epic55.read(args.annotations, args.videos, validation=args.val_participants),
        flags=_LABELS | _KITCHENS_55,
        # The windows of the sound that the audio network of EPIC-Kitchens sees are of 24 kHz.
        stored=dict(audio_rate=24_000),
        variants=OWN | {GBLEND: "epic55_verb"},
        scored="val",
    ),
    "kinetics400": Reader(
        "Kinetics-400, with sound; videos that were not fetched are listed",
        lambda args: kinetics.read(args.annotations, args.videos),
        flags=_LABELS | _FETCHED,
        variants=OWN | {GBLEND: "kinetics", CMPL: "k400_10pct"},
        scored="val",
    ),
    "charades": Reader(
        "Charades: 157 classes with their times, several a video",
        lambda args: charades.read(args.annotations, args.videos),
        flags=_LABELS | _FETCHED,
        variants=OWN | {MML: "charades"},
        scored="val",
    ),
    "ucf101": Reader(
        "UCF-101: 101 actions by its official lists, one of three splits",
        lambda args: ucf101.read(args.annotations, args.videos, split=args.split),
        flags=_LABELS | _FILMS | _UCF,
        # There is no split 'val', which others' variants are scored on while they train.
        variants={CMPL: "ucf101_10pct"},
        during="test",
    ),
    "minisports": Reader(
        "mini-Sports: 240,000 and 20,000 videos of Sports-1M, with sound",
        lambda args: sports1m.read(
            args.annotations, args.videos, clips=(args.train_clips, args.val_clips), seconds=args.seconds
        ),
        flags=_LABELS | _FETCHED | _SPORTS,
        variants=OWN | {GBLEND: "minisports"},
        scored="val",
    ),
    "audioset": Reader(
        "AudioSet: 527 classes of what is heard, several a clip, with the pictures",
        lambda args: audioset.read(args.annotations, args.videos, whole=args.whole),
        flags=_LABELS | _FETCHED | _WHOLE,
        variants=OWN | {GBLEND: "audioset"},
        scored="val",
    ),
    "mini_audioset": Reader(
        "mini-AudioSet: the frequent classes of AudioSet, balanced",
        lambda args: audioset.read_mini(
            args.annotations, args.videos, whole=args.whole, classes=args.classes, clips=args.clips
        ),
        flags=_LABELS | _FETCHED | _WHOLE | _BALANCED,
        variants=OWN | {GBLEND: "mini_audioset"},
        scored="val",
    ),
    "nwucla": _by_view("Northwestern-UCLA, RGB and depth before three cameras", nwucla.read, "nwucla"),
    "uwa3d": _by_view("UWA3D Multiview Activity II, RGB and depth before four cameras", uwa3d.read, "uwa3d"),
    "ntu60": _ntu("NTU RGB+D, 60 classes, RGB and depth, split by subjects", "ntu60"),
    "ntu120": _ntu("NTU RGB+D 120, RGB and depth, split by subjects", "ntu120"),
    "ntu120_mini": _ntu("NTU RGB+D 120, half of its training clips (DMCL)", "ntu120_mini")._replace(
        read=lambda args: ntu.read(args.videos, "ntu120_mini", version=args.version),
        flags=_ARCHIVES | _VERSION,
    ),
    "tabletop": Reader(
        "rendered here: a hand acts on objects, in all modalities",
        lambda args: tabletop.read(args.out, args.size, args.view, seed=args.seed, workers=args.workers),
        flags=_TABLETOP,
        stored=_SMALL,
        variants={MML: "", DMCL: "", DISTILL: ""},
    ),
    "tabletop_stills": Reader(
        "rendered here: pictures of single objects, Tabletop's ImageNet",
        lambda args: tabletop.read_stills(args.out, seed=args.seed),
        flags=_SEED,
        stored=_SMALL,
        variants={},
    ),
}

# A user's own files, which are no dataset with a name: {flag: row}; the flag takes the path that is read.
OWN_FILES = {
    "manifest": Reader(
        "a CSV of clips: id, path, label or label/<head>, split, depth, flow, ..",
        lambda args: table.read(args.manifest),
    ),
    "folder": Reader("a folder of class folders", lambda args: folder.read(args.folder)),
}


def chosen(args: argparse.Namespace) -> Reader:
    """Returns the row of the --dataset, --manifest or --folder that the command line names."""
    if args.dataset:
        return READERS[args.dataset]
    return next(row for flag, row in OWN_FILES.items() if getattr(args, flag) is not None)
