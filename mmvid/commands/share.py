"""Writes one network of a run into a folder of its own, for others to use:
weights, configuration and a model card in Hugging Face's form.

    python -m mmvid share runs/mml shared/rgb
    python -m mmvid share runs/mml:flow shared/flow --upload owner/name

Others use the folder as it is: python -m mmvid predict shared/rgb VIDEO. RUN is
the network of the run's headline, RUN:OUTPUT that of another output; of a run of
several segments the last one of its table counts, or --segment. The folder must
be new or empty. README.md tells what the network reads, how it scores, and on
which data; its licence is yours to add. --upload also sends all to the hub, as
a private repository, and needs huggingface_hub (pip install -r
requirements-hub.txt).
"""

import argparse
import os
import pathlib
import re

import mmvid
from mmvid import usage
from mmvid.commands import config as config_lib
from mmvid.commands import predict
from mmvid.data import fields
from mmvid.data.media import record
from mmvid.report import card
from mmvid.run import build, inference, shared
from mmvid.run import predict as predict_lib
from mmvid.run.build import Run
from mmvid.run.shared import Choice
from mmvid.scores import file, numbers
from mmvid.weights import files as weight_files

CONFIG = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say what is shared, and where it goes."""
    add = parser.add_argument
    add(
        "run",
        type=usage.a_part,
        metavar="RUN[:OUTPUT]",
        help="the workdir of a run that has ended, and perhaps one of its outputs",
    )
    add("folder", type=usage.on_disk, metavar="DIR", help="a new or empty folder")
    add("--segment", metavar="NAME", help="the segment whose network is shared; default the last one")
    add("--upload", metavar="OWNER/NAME", help="send it to Hugging Face's hub, too")


# ---------------------------------------------------------------------------- what is asked for
def _apart(text: str) -> tuple[pathlib.Path, str]:
    """Reads RUN[:OUTPUT] as (folder of the run, output or '')."""
    if os.path.isdir(text):
        return pathlib.Path(text), ""
    path, colon, output = text.rpartition(":")
    if colon and not output:
        raise usage.WrongUse(f"{text}: name an output behind the colon, or leave it out")
    return (pathlib.Path(path), output) if colon else (pathlib.Path(text), "")


def _check_folder(folder: pathlib.Path) -> None:
    """Raises WrongUse for a folder that holds anything."""
    usage.check_folder("DIR", folder)
    if folder.exists() and (held := sorted(path.name for path in folder.iterdir())):
        raise usage.WrongUse(f"{folder} is not empty, it holds {held[0]!r}: name a new folder, or empty it")


def _hub(name: str | None):
    """Returns the hub's library where something is to be uploaded. Raises WrongUse where it is not installed, or
    for a ``name`` that no repository can have."""
    if name is None:
        return None
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name):
        raise usage.WrongUse(f"--upload={name}: write the owner and the name of a repository, as in me/my-model")
    try:
        import huggingface_hub
    except ImportError:
        raise usage.WrongUse(
            "--upload needs huggingface_hub, which is optional: pip install -r requirements-hub.txt. Without "
            "--upload the folder is written, and can be sent from elsewhere"
        ) from None
    return huggingface_hub


# ---------------------------------------------------------------------------- the card
def _results(run: Run, choice: Choice) -> list[card.Result]:
    """What the shared output scores on each split that its segment was scored on."""
    output, found = choice.outputs[0], []
    for split in choice.segment.evaluate:
        path = run.workdir / choice.segment.name / "scores" / f"{split}.npz"
        if not path.exists():
            continue
        own = file.only(file.load(path), output)
        heads = numbers.summary(own, run.config.evaluation.aggregate).get(output, {})
        counts = own.meta["clips_used"], own.meta["clips_expected"]
        found += [card.Result(split, head, values, *counts) for head, values in heads.items()]
    return found


def _seen(run: Run, choice: Choice) -> tuple[list[str], list[str], str]:
    """What a segment has learnt from, with which published files it began, in words, and its key."""
    path = build.weights_path(run, choice.segment)
    metadata = weight_files.metadata(path)
    seen = weight_files.told(metadata, "seen", path, "{}")
    names = {alias: dataset.info.name for alias, dataset in run.datasets.items()}
    trained = [
        f"{own['clips']} clips of {own['split']} of {names.get(own['dataset'], own['dataset'])}, fingerprint "
        f"{own['fingerprint']}"
        for own in seen.get("trained", ())
    ]
    began = [pathlib.PurePath(name).name for name in seen.get("published", ())]
    return trained, began, metadata.get("key", "")


def _cut(run: Run, choice: Choice) -> str:
    """How clips are prepared, in words."""
    info = run.datasets[choice.segment.dataset].info
    settings = predict_lib.settings_of(info)
    only = choice.segment._replace(networks=(choice.network,), outputs=choice.outputs)
    read = predict_lib.fields_read(only)
    computed = [field for field in read if fields.FIELDS[field].computed]
    how = f"; {' and '.join(computed)} by {record.how_computed(info.settings)}" if computed else ""
    side = f" of a short side of {settings.short_side} pixels at most" if settings.short_side else ""
    return f"Pictures have {run.config.size} pixels a side, cut from frames{side}{how}."


def facts(run: Run, choice: Choice, name: str) -> card.Facts:
    """What the card of a shared network tells."""
    segment, network, config = choice.segment, choice.network, run.config
    info, own = run.datasets[segment.dataset].info, config.evaluation
    weights = build.weights_of(run, segment)["params"][network.name]
    trained, began, key = _seen(run, choice)
    read = dict.fromkeys(stream for together in network.reads for stream in together)
    streams = [segment.streams[stream] for stream in read]
    return card.Facts(
        name=name,
        network=network.name,
        model=config.networks[network.name].model,
        parameters=inference.parameters(weights),
        output=choice.outputs[0],
        inputs=[card.Input(s.name, s.modality, s.form, s.sampling.frames) for s in streams],
        heads={
            head: space.names or tuple(map(str, range(space.classes))) for head, space in segment.heads.items()
        },
        results=_results(run, choice),
        dataset=info.name,
        fingerprint=info.fingerprint,
        protocol=f"protocol {own.protocol}, crop {own.crops}",
        trained=trained,
        began=began,
        made={
            "trained as": f"{segment.title or segment.name}, plan {config.plan}, seed {config.seed}",
            "steps": str(segment.stop),
            **({"key": key} if key else {}),
        },
        cut=_cut(run, choice),
        version=mmvid.__version__,
    )


# ---------------------------------------------------------------------------- the command
def _verified(run: Run, choice: Choice, folder: pathlib.Path) -> None:
    """Opens a shared folder as its users will. Raises ValueError where it would answer otherwise than the run."""
    shared.check(run, choice, *shared.opened(folder, config_lib.of_run(folder, [])))


def _send(hub, name: str, folder: pathlib.Path) -> None:
    """Sends a shared folder to the hub. Raises OSError where that fails: the folder is whole, and stays."""
    try:
        hub.create_repo(name, private=True)
        hub.upload_folder(repo_id=name, folder_path=folder, commit_message="Shared by mmvid")
    # Of a token, a name, a connection, a full account: whatever it is, the library says it.
    except Exception as error:
        raise OSError(
            f"{folder} is written, and could not be sent to {name} ({' '.join(str(error).split())}). Once that is "
            f"cured, send it: hf upload {name} {folder}"
        ) from error


def execute(arguments: argparse.Namespace) -> None:
    """Shares a network of a run that has ended, and says how it is used."""
    workdir, output = _apart(arguments.run)
    _check_folder(arguments.folder)
    hub = _hub(arguments.upload)
    if shared.note_of(workdir) is not None:
        raise usage.WrongUse(
            f"{workdir} is shared already: copy the folder, or send it (hf upload OWNER/NAME DIR)"
        )
    run, segment = predict.opened(workdir, arguments.segment, 1)
    choice = shared.chosen(segment, output)
    name = arguments.upload.partition("/")[2] if hub else arguments.folder.resolve().name
    text = card.text(facts(run, choice, name))
    made = shared.write(run, choice, text, arguments.folder, lambda folder: _verified(run, choice, folder))
    for path in made:
        print(f"{path}: {path.stat().st_size / 1e3:,.1f} kB")
    print(
        f"{choice.network.name} of segment {segment.name}; weights and configuration read back, they are the run's"
    )
    if hub:
        _send(hub, arguments.upload, arguments.folder)
        print(f"sent to {arguments.upload}, where it is private until you change that")
    print(f"its licence is yours to add, in the first lines of {arguments.folder / 'README.md'}")
    print(f"next: python -m mmvid predict {arguments.folder} VIDEO")
