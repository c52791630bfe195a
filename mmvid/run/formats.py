"""Writes an `Export` as a file of JAX, as ONNX or as weights under published names, and reads it back."""

import contextlib
import datetime
import importlib.metadata
import importlib.util
import json
import logging
import pathlib
import zipfile
from collections.abc import Callable, Collection, Iterator

import jax
import numpy as np

from mmvid import files, lowering, usage
from mmvid import weights as weights_lib
from mmvid.network import Network
from mmvid.plans import learning
from mmvid.run import agreement, published
from mmvid.run.build import Run
from mmvid.run.export import Export
from mmvid.weights import files as weight_files

PLATFORMS = ("cpu", "cuda", "tpu")
# How long JAX promises to read what it has exported, in days.
READABLE = 180
ABOUT, PROGRAM = "about.json", "model.zip"
# A script that needs JAX and flatbuffers alone, and tells what the export makes of grey pictures.
SCRIPT = """\
import json, zipfile
import jax.export
import numpy as np
with zipfile.ZipFile({path!r}) as file:
    about = json.loads(file.read("about.json"))
    program = jax.export.deserialize(bytearray(file.read("program.bin")))
clips = {{name: np.full((1, *own["shape"]), 128, own["dtype"]) for name, own in about["inputs"].items()}}
for name, rows in program.call(clips).items():
    print(name, about["classes"][name.split("/")[-1]][int(rows[0].argmax())], float(rows[0].max()))
"""
INSTALL = (
    "it is made by jax2onnx, which is not installed: pip install --no-deps -r requirements-onnx.txt "
    "(without --no-deps Orbax would be replaced by an older one)"
)


def _shaped(made: Export, batch) -> dict:
    return {name: jax.ShapeDtypeStruct((batch, *shape), dtype) for name, (shape, dtype) in made.inputs.items()}


@contextlib.contextmanager
def _refused(form: str, what: str, instead: str) -> Iterator[None]:
    """Makes whatever a converter or a runtime stumbles over in the block a ValueError: ``what`` cannot be, and
    which ``instead`` can."""
    try:
        yield
    except Exception as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(
            f"--format={form}: {what} ({type(error).__name__}: {said}). Take --format={instead}"
        ) from error


# ---------------------------------------------------------------------------- jax
def _check_serialiser() -> None:
    """Raises WrongUse where the package is missing with which JAX writes and reads exports."""
    if importlib.util.find_spec("flatbuffers") is None:
        raise usage.WrongUse("--format=jax: JAX writes exports by flatbuffers: pip install flatbuffers")


def write_jax(made: Export, folder: pathlib.Path) -> None:
    """Writes model.zip: the program for any batch, as `jax.export` serialises it, and what it says of itself.

    Raises ValueError where it does not say what the run says.
    """
    (batch,) = jax.export.symbolic_shape("b")
    _check_serialiser()
    with _refused("jax", "these networks cannot be traced for any number of clips", "torch"):
        exported = jax.export.export(jax.jit(made.function), platforms=PLATFORMS)(_shaped(made, batch))
        program = bytes(exported.serialize())
    checked = agreement.check(made, jax.jit(jax.export.deserialize(bytearray(program)).call))
    about = {
        **made.about,
        "format": "jax",
        "platforms": list(exported.platforms),
        "calling_convention": exported.calling_convention_version,
        # A promise of JAX, of the version that reads as well: later ones may refuse it.
        "readable_until": str(datetime.date.today() + datetime.timedelta(READABLE)),
        **checked,
    }
    with zipfile.ZipFile(folder / PROGRAM, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("program.bin", program)
        file.writestr(ABOUT, files.as_json(about))
    files.write_json(folder / ABOUT, about)


# ---------------------------------------------------------------------------- onnx
def _converter():
    """Imports (jax2onnx, onnx, onnxruntime). Raises WrongUse, which says how to install them."""
    try:
        import jax2onnx
        import onnx
        import onnxruntime
    except ImportError as error:
        raise usage.WrongUse(f"--format=onnx: {INSTALL} [{error}]") from None
    # A line for each constant whose shape it does not note down, which nothing needs.
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)
    return jax2onnx, onnx, onnxruntime


def _converted(made: Export, convert: Callable):
    """Converts the function, a batch of any size, to ONNX: (model, names of its outputs). Raises ValueError, which
    names what ONNX or the converter lacks."""
    names = list(made.inputs)
    outputs = list(jax.eval_shape(made.function, _shaped(made, 1)))

    def positional(*arrays):
        found = made.function(dict(zip(names, arrays)))
        return tuple(found[name] for name in outputs)

    shapes = [jax.ShapeDtypeStruct(("B", *shape), dtype) for shape, dtype in made.inputs.values()]
    with _refused("onnx", "these networks cannot be converted", "jax"), lowering.portable():
        return convert(positional, shapes, input_names=names, output_names=outputs), outputs


def write_onnx(made: Export, folder: pathlib.Path) -> None:
    """Writes model.onnx and its weights, model.onnx.data, for any batch. Raises WrongUse where the converter is
    not installed, ValueError where it cannot convert these networks or what it made says something else."""
    jax2onnx, onnx, onnxruntime = _converter()
    model, outputs = _converted(made, jax2onnx.to_onnx)
    versions = {name: importlib.metadata.version(name) for name in ("jax2onnx", "onnx", "onnxruntime")}
    opsets = {own.domain or "ai.onnx": own.version for own in model.opset_import}
    about = {**made.about, "format": "onnx", **versions, "opsets": opsets}
    onnx.helper.set_model_props(model, {"about": json.dumps(about)})
    path = folder / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
    with _refused("onnx", "onnxruntime cannot read what jax2onnx made", "jax"):
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def answer(clips):
        with _refused("onnx", "onnxruntime cannot run what jax2onnx made", "jax"):
            return dict(zip(outputs, session.run(outputs, clips)))

    files.write_json(folder / ABOUT, about | agreement.check(made, answer))


# ---------------------------------------------------------------------------- torch
def _check_whole(path: pathlib.Path, network: Network, tree: dict, heads: Collection[str]) -> None:
    """Raises ValueError where the file at ``path``, read as any published one, is not the network bit for bit."""
    # A published file has one classifier: of several heads the layers below are compared.
    how = "load" if len(heads) == 1 else "skip"
    params, stats = weights_lib.load(network.name, path, layout=network.model, classifier=how, **tree)
    same = jax.tree.map(np.array_equal, {"params": params, "stats": stats}, dict(tree))
    if not all(jax.tree.leaves(same)):
        raise ValueError("read back, the numbers are others")


def write_torch(run: Run, made: Export, folder: pathlib.Path) -> None:
    """Writes NETWORK.safetensors for each network, of each head NETWORK-HEAD.safetensors where there are several.
    Raises ValueError for networks that nobody has published names for."""
    about = {**made.about, "format": "torch", "spellings": {}}
    for network in made.segment.networks:
        if network.model.encoders:
            raise ValueError(
                f"--format=torch: {network.name} reads several streams at once, and nobody has published such "
                "networks. Write its encoders one by one: python -m mmvid weights "
                f"--check={run.workdir}/{made.segment.name}/weights.safetensors#{network.name}."
                f"{next(iter(network.model.encoders))} --write=OUT.safetensors. Or take --format=jax"
            )
        about["spellings"][network.name] = _write_network(run, made, network, folder)
    files.write_json(folder / ABOUT, about)


def _write_network(run: Run, made: Export, network: Network, folder: pathlib.Path) -> str:
    """Writes the files of a network; returns whose names they have. Raises ValueError where there are none."""
    spec, heads = run.config.networks[network.name], made.segment.heads
    tree = jax.device_get({kind: made.weights[kind][network.name] for kind in ("params", "stats")})
    options, spelling = learning.own(run.config.model_options, spec.options), published.spelling_of(spec.model)
    note = {"format": "pt", "about": json.dumps(made.about)}
    for head in heads:
        path = folder / f"{network.name if len(heads) == 1 else f'{network.name}-{head}'}.safetensors"
        try:
            keys = published.named(tree, head=head, spelling=spelling, options=options)
            weight_files.write(path, keys, note)
            _check_whole(path, network, tree, heads)
        # Whatever a writer stumbles over, in layers that it does not know.
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"--format=torch: nobody has published names for all layers of {network.name}, "
                f"a network of the model {spec.model}. Take --format=jax, or other networks alone by --outputs"
            ) from error
    return spelling or "torchvision's rules, though no such file was published"
