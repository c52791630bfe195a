"""What a file of weights is: whose names its tensors have, which networks they
fit, and what does not fit.

    python -m mmvid weights --check resnet50.pth
    python -m mmvid weights --check runs/mml/mml/weights.safetensors
    python -m mmvid weights --list

--list names the architectures and the key formats that are read and written.
--check looks at a published file (.safetensors, .pth, .pt, .tar, .pyth, .pkl)
or one of ours, PATH or PATH#NETWORK; --model=tsm_resnet50 compares it with one
network alone. Of one of ours, --write=OUT.safetensors --spelling=tsm writes a
network under published names, so that the code that they are of can load it
strictly.
A file that fits is given as --config.networks.rgb.weights=FILE.
"""

import argparse
import contextlib
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mmvid import files as files_lib
from mmvid import usage
from mmvid import weights as weights_lib
from mmvid.models import FUSION, MODELS, build_model
from mmvid.report.text import aligned
from mmvid.run import published
from mmvid.weights import files, sources, trees
from mmvid.weights.spellings import SPELLINGS

CONFIG = False
# Keys that do not fit of which so many are named.
NAMED = 8
# Beside clips of pictures: windows of sound, and boxes of some frames.
FURTHER_INPUTS = ((1, 96, 40, 1), (1, 8, 14, 8))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say what is looked at."""
    parser.add_argument("--list", action="store_true", help="architectures and key formats")
    parser.add_argument("--check", metavar="FILE", help="a file of weights")
    parser.add_argument("--model", metavar="NAME", help="the only architecture to compare it with")
    parser.add_argument("--write", type=usage.on_disk, metavar="OUT", help="a .safetensors of published names")
    parser.add_argument("--spelling", default="", metavar="NAME", help="whose names --write gives")
    parser.add_argument("--head", default="", metavar="NAME", help="whose classifier --write keeps")


# ---------------------------------------------------------------------------- what there is
def listing() -> str:
    """Writes the architectures, and the formats with an example of a key of each."""
    rows = [["format", "whose", "a key", "architectures", ""]]
    for name, own in SPELLINGS.items():
        rows.append([name, own.about, own.example, ", ".join(own.models), "" if own.key_of else "read only"])
    names = usage.folded("architectures: ", ", ".join(MODELS))
    return f"{aligned(rows)}\n\n{names}"


# ---------------------------------------------------------------------------- published files
def _shapes(model: str, found: weights_lib.Found) -> list[dict]:
    """{path: shape} of an architecture with the classes and channels that a file has, for each of the inputs that
    it can be built for; shapes of kernels depend on nothing else of these."""
    kernels = {path[1:-1]: np.shape(v) for path, v in found.placed.items() if path[-1] == "kernel"}
    channels = next((kernels[p][-2] for p in found.layout.first_convolutions if p in kernels), 3)
    ends = [shape[-1] for path, shape in kernels.items() if trees.within(path, found.layout.classifiers)]
    inputs = ((1, 8, 64, 64, channels), *FURTHER_INPUTS)
    if any(path in kernels for path in found.layout.first_convolutions):
        inputs = [shape for shape in inputs if shape[-1] == channels]
    made = []
    for shape in inputs:
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            built = build_model(model, num_classes=ends[0] if ends else 1, in_channels=shape[-1])
            x = jax.ShapeDtypeStruct(shape, jnp.float32)
            params, stats = jax.eval_shape(built.init, jax.random.key(0), x)
            leaves = trees.leaves({"params": params, "stats": stats})
            made.append({path: own.shape for path, own in leaves.items()})
    return made


class Fit(NamedTuple):
    """How a file fits the architecture ``model``: so many tensors ``fit`` of the ``whole`` that it has; ``other``
    says in words which are of other shapes, ``lacking`` which are not in the file, ``spare`` which the
    architecture lacks."""

    model: str
    fit: int
    whole: int
    other: list[str]
    lacking: list[str]
    spare: list[str]

    @property
    def all(self) -> bool:
        """Whether nothing is missing on either side."""
        return self.fit == self.whole > 0 and not self.spare


def compared(found: weights_lib.Found, model: str) -> Fit:
    """Compares a file with an architecture."""
    placed = {path: np.shape(value) for path, value in found.placed.items()}
    every = _shapes(model, found)
    wanted = max(every, key=lambda own: sum(placed.get(path) == shape for path, shape in own.items()), default={})
    fits = sum(placed.get(path) == shape for path, shape in wanted.items())
    other = [
        f"{found.keys.get(path, '/'.join(path))} is {placed[path]}, and {model} has {wanted[path]}"
        for path in sorted(set(placed) & set(wanted))
        if placed[path] != wanted[path]
    ]
    # Counters and tables that our trees do not keep stand beside layers that they do.
    layers = {path[:-1] for path in wanted}
    spare = sorted(found.keys.get(p, "/".join(p)) for p in set(placed) - set(wanted) if p[:-1] not in layers)
    lacking = sorted("/".join(path) for path in set(wanted) - set(placed))
    return Fit(model, fits, len(wanted), other, lacking, spare)


def _candidates(found: weights_lib.Found, model: str | None) -> list[str]:
    """The architectures that may be meant: the one that is named, or those with the file's blocks."""
    if model:
        if model not in MODELS:
            raise usage.WrongUse(f"--model={model}: there is no such architecture; there are {', '.join(MODELS)}")
        return [model]
    blocks = {path[1] for path in found.placed}
    layers = [name for name in blocks if name.startswith("layer") and "_" in name]

    def may(name: str) -> bool:
        stages = MODELS[name].get("stages", ())
        own = {f"layer{s + 1}_{i}" for s, count in enumerate(stages) for i in range(count)}
        return set(layers) == own if stages else not layers

    return [name for name in MODELS if name != FUSION and may(name)] or list(MODELS)


def _published(path: str, model: str | None) -> list[str]:
    tensors = files.read_file(files.split(path)[0])
    name, found = sources.recognised(tensors, "action")
    known = len(tensors) - len(found.strange)
    lines = [f"{path}: {len(tensors)} tensors, of which {known} have names that are known ({name})"]
    if found.strange:
        rest = len(found.strange) - NAMED
        more = f" and {rest} more" if rest > 0 else ""
        lines.append(f"names of nothing here: {', '.join(found.strange[:NAMED])}{more}")
    if not known:
        return [*lines, "no architecture here has such tensors; --list names the formats that are read"]
    fits = sorted(
        (compared(found, own) for own in _candidates(found, model)), key=lambda own: -own.fit / max(own.whole, 1)
    )
    whole = [own for own in fits if own.all and not found.strange]
    # Of what has no tensor in common nobody wants to know.
    for own in whole or [own for own in fits[:3] if own.fit]:
        lines.append(f"{own.model}: {own.fit} of {own.whole} tensors fit")
        lines += [f"  {text}" for text in own.other[:NAMED]]
        for what, names in (("not in the file", own.lacking), (f"not in {own.model}", own.spare)):
            if names:
                lines.append(f"  {what}: {', '.join(names[:NAMED])}{' ..' * (len(names) > NAMED)}")
    if whole:
        models = " or ".join(repr(own.model) for own in whole)
        which = "; they have the same tensors, and differ in what they do: take the one that it was trained as"
        lines.append(
            f"all of it: --config.networks.NAME.weights={path}, of a network of the model {models}"
            + (which if len(whole) > 1 else "")
        )
    return lines


# ---------------------------------------------------------------------------- files of ours
def _ours(path: str) -> list[str]:
    source, _ = files.split(path)
    metadata = files.metadata(path)
    reads = files.told(metadata, "inputs", path, "{}")
    heads = files.told(metadata, "heads", path, "{}")
    seen = files.told(metadata, "seen", path, "{}")
    lines = [f"{source}: written by mmvid, key {metadata.get('key') or '-'}"]
    for network, count in files.parameters(source).items():
        own = reads.get(network, {})
        read = " and ".join(" + ".join(f"{m} ({form})" for _, m, form in each) for each in own.get("reads", ()))
        what = f"{own.get('model', 'a network')}, {count:,} parameters"
        lines.append(f"  {network}: {what}" + (f", reads {read}" if read else ""))
    for head, names in heads.items():
        lines.append(f"  head {head}: {names if isinstance(names, int) else len(names)} classes")
    for shown in seen.get("trained", ()):
        lines.append(f"  learnt from {shown['clips']} clips of {shown['split']} of {shown['dataset']}")
    lines += [f"  began with {file}" for file in seen.get("published", ())]
    return lines


def write(path: str, out: pathlib.Path, spelling: str, head: str) -> int:
    """Writes a network of one of our files under published names; returns how many tensors there are.

    Raises WrongUse for a file that is not ours, holds several networks of which none is named, or cannot be named
    so, and for a head that it lacks.
    """
    if not files.metadata(path):
        raise usage.WrongUse(f"{path} was not written by mmvid: it has published names already")
    files_lib.check_target("--write", out, [files.split(path)[0]])
    if spelling and spelling not in SPELLINGS:
        raise usage.WrongUse(f"--spelling={spelling}: there are {', '.join(SPELLINGS)}")
    with usage.wrong_use():
        found = weights_lib.found(path)
        tree = trees.unflatten(dict(found.placed))
        heads = weights_lib.heads_of(tree["params"], found.layout)
        if not head and len(heads) > 1:
            raise ValueError(f"{path} has the heads {', '.join(heads)}: keep one of them, --head={heads[0]}")
        # Of its options the file tells none.
        names = published.named(tree, head=head or "".join(heads), spelling=spelling, options={})
    out.parent.mkdir(parents=True, exist_ok=True)
    files.write(out, names, {})
    return len(names)


def execute(arguments: argparse.Namespace) -> None:
    """Lists, checks or writes. Raises WrongUse where neither is asked for."""
    if arguments.list:
        print(listing())
    elif not arguments.check:
        raise usage.WrongUse("name a file, --check=FILE, or ask for --list")
    if arguments.check:
        ours = bool(files.metadata(arguments.check))
        print("\n".join(_ours(arguments.check) if ours else _published(arguments.check, arguments.model)))
    if arguments.write:
        count = write(arguments.check or "", arguments.write, arguments.spelling, arguments.head)
        print(f"{arguments.write}: {count} tensors")
