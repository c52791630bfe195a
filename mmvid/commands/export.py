"""Writes what a run has learnt as files that work without mmvid.

    python -m mmvid export runs/mml --out=exported
    python -m mmvid export runs/mml --out=exported --format=onnx

--format=jax writes one file, model.zip, for CPU, NVIDIA GPU and TPU: it takes
the frames of a clip as bytes and gives probabilities; the cut, the size, the
normalisation and the names of the classes are inside. A script of ten lines
that uses it is printed, and needs JAX and flatbuffers alone. --format=onnx
writes model.onnx, which takes and gives the same (jax2onnx must be installed).
--format=torch writes the networks' weights under the names that published code
gives them. --outputs=rgb exports one network of several, which needs only what
that one reads.

Each is checked before it is there: on drawn clips, and on two that the run has
scored where its dataset is there, it must say what the run says. JAX reads an
export for six months; what lasts is weights.safetensors beside config.json in
the run's folder.
"""

import argparse
import pathlib
import re
import time

from mmvid import files, usage
from mmvid.commands import predict
from mmvid.plans.segment import Segment
from mmvid.run import export, formats
from mmvid.run.build import Run

CONFIG = True
FORMATS = ("jax", "onnx", "torch")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say which run is exported, as what, and where to."""
    add = parser.add_argument
    add("run", type=usage.a_run, metavar="RUN", help="the workdir of a run that has ended")
    add("--out", type=usage.on_disk, required=True, metavar="DIR", help="a new folder for what is written")
    add("--format", default=FORMATS[0], metavar="NAME", help="jax, onnx or torch; default jax")
    add("--frame", default="", metavar="HxW", help="height and width of the frames; default those of the dataset")
    add("--outputs", metavar="A,B", help="those that are exported, such as rgb; default all of the segment")
    add("--segment", metavar="NAME", help="the segment whose networks are exported; default the last one")


def _frame(text: str) -> tuple[int, int] | None:
    """The (height, width) of '240x320'; None for ''. Raises WrongUse for anything else."""
    if not text:
        return None
    match = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
    if not match:
        raise usage.WrongUse(f"--frame={text}: write height and width in pixels, such as 240x320")
    return int(match[1]), int(match[2])


def _outputs(text: str, segment: Segment) -> tuple[str, ...]:
    """The outputs of 'rgb,flow', in the segment's order. Raises WrongUse for one that it lacks."""
    names = usage.chosen("--outputs", text, segment.needs, f"outputs of {segment.name}")
    return tuple(output for output in segment.needs if output in names)


def _check(arguments: argparse.Namespace) -> None:
    if arguments.format not in FORMATS:
        raise usage.WrongUse(f"--format={arguments.format}: choose one of {', '.join(FORMATS)}")
    usage.check_folder("--out", arguments.out)
    if arguments.out.exists() and any(arguments.out.iterdir()):
        # What is no export may be anything: nobody is told to remove it.
        known = (arguments.out / formats.ABOUT).exists()
        what, how = ("holds an export already", ", or remove it") if known else ("is not empty", "")
        raise usage.WrongUse(f"--out={arguments.out} {what}: name a new folder{how}")


def write(run: Run, segment: Segment, form: str, out: pathlib.Path, **how) -> dict:
    """Writes an export into the folder ``out``, whole or not at all; returns what it says of itself. ``how`` are
    the ``frame`` and ``outputs`` of `export.of_run`. Raises ValueError where it cannot be, or does not say what
    the run says."""
    out = out.absolute()
    out.parent.mkdir(parents=True, exist_ok=True)
    # First of all: where nothing can be written nobody waits for a program.
    with files.whole(out) as folder:
        folder.mkdir()
        made = export.of_run(run, segment, **how)
        if form == "torch":
            formats.write_torch(run, made, folder)
        else:
            {"jax": formats.write_jax, "onnx": formats.write_onnx}[form](made, folder)
    return files.read_json(out / formats.ABOUT)


def _checked(about: dict) -> str:
    """Says how an export was compared with its run."""
    if about["format"] == "torch":
        named = ", ".join(f"{name}: {own}" for name, own in about["spellings"].items())
        return f"read back, the tensors are the run's own; key names of {named}"
    said = f"on drawn clips its probabilities differ from the run's by {about['largest_difference']:.1e} at most"
    if known := about["scored"]:
        clips, worst = f"{known['clips']} clips of {known['split']!r}", known["largest_difference"]
        return f"{said}, on {clips} from those of its scores by {worst:.1e}"
    why = "they are gone, of another size, or were scored in another way"
    return f"{said}; none of the run's own clips were compared: {why}"


def execute(arguments: argparse.Namespace) -> None:
    """Exports a run, and prints what was written and how it is used."""
    _check(arguments)
    frame, began = _frame(arguments.frame), time.perf_counter()
    run, segment = predict.opened(arguments.run, arguments.segment, 1, arguments.overrides)
    outputs = () if arguments.outputs is None else _outputs(arguments.outputs, segment)
    about = write(run, segment, arguments.format, arguments.out, frame=frame, outputs=outputs)
    for path in sorted(arguments.out.iterdir()):
        size = path.stat().st_size
        print(f"{path}: {size / 1e6:.2f} MB" if size >= 1e6 else f"{path}: {size / 1e3:.1f} kB")
    print(f"{segment.name} of {arguments.run} as {arguments.format}, {time.perf_counter() - began:.0f} s")
    print(_checked(about))
    if arguments.format == "jax":
        print(f"JAX reads it until {about['readable_until']}; this script needs JAX and flatbuffers alone:\n")
        print(formats.SCRIPT.format(path=str(arguments.out / formats.PROGRAM)))
