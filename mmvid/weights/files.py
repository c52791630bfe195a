"""Files of weights: reads and writes our own, and reads those that others published."""

import json
import math
import os
import pathlib
import pickle
import urllib.parse
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmvid import buckets, usage
from mmvid.files import whole
from mmvid.weights import names_resnet, trees
from mmvid.weights.trees import Layout, Path, Tree

_FORMAT, _VERSION = "mmvid", "1"
_RESERVED = ("format", "version", "empty")
# Before the path of a file: its kernels are repeated over time.
INFLATED = "inflated:"


# Endings of what PyTorch saves; the last one is SlowFast's code's.
TORCH = (".pth", ".pt", ".tar", ".pyth")


def _check_finite(path: pathlib.Path, tensors: Mapping) -> None:
    """Raises ValueError, which names the first tensor that holds a NaN or an infinity."""
    for name, value in tensors.items():
        # Asked this way round, as NumPy calls bfloat16 no kind of floating point.
        whole = np.issubdtype(value.dtype, np.integer) or value.dtype == bool
        if not whole and not np.isfinite(value).all():
            raise usage.Damaged(
                f"{path}: {name!r} holds numbers that are not finite (NaN or infinity); whatever learnt "
                "them had diverged, or the file is damaged. Give other weights"
            )


def _opened(path: pathlib.Path):
    try:
        return safe_open(path, "numpy")
    except SafetensorError as error:
        raise usage.Damaged(
            f"{path} is damaged or no safetensors file ({error}); fetch or write it again"
        ) from None


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"{path} needs PyTorch to be read; install it, or save the file once elsewhere with "
            "safetensors.torch.save_file and give that"
        ) from None
    try:
        # weights_only: a pickle of anything else may run code while it is read.
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged bytes raise whatever they happen to look like.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise usage.Damaged(
            f"{path} is damaged or holds more than tensors ({reason}); fetch it again, or save its "
            "state_dict alone, best with safetensors.torch.save_file"
        ) from None
    # Training scripts wrap the weights: 'state_dict' in TSM and MML.
    wrapped = [loaded[k] for k in ("state_dict", "model", "model_state") if k in loaded]
    tensors = wrapped[0] if wrapped else loaded
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{path}: expected a state_dict, found a {type(tensors).__name__}")
    if strange := sorted(k for k, v in tensors.items() if not isinstance(v, torch.Tensor)):
        raise ValueError(f"{path}: expected tensors under every key, not so under {strange}")
    # float(): NumPy has no bfloat16.
    return {key: (v.float() if v.is_floating_point() else v).detach().numpy() for key, v in tensors.items()}


class _Arrays(pickle.Unpickler):
    """Reads pickles of NumPy arrays and plain containers, and nothing that could run code."""

    _KNOWN = ("_reconstruct", "ndarray", "dtype", "scalar", "encode")

    def find_class(self, module: str, name: str):
        """Returns what a pickle names. Raises pickle.UnpicklingError for anything but arrays."""
        known = module.partition(".")[0] == "numpy" or (module, name) == ("_codecs", "encode")
        if not known or name not in self._KNOWN:
            raise pickle.UnpicklingError(f"it holds a {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _read_caffe2(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            loaded = _Arrays(file, encoding="latin1").load()
        blobs = loaded.get("blobs", loaded)
        return {str(key): np.asarray(value) for key, value in blobs.items()}
    except Exception as error:  # Damaged bytes raise whatever they happen to look like.
        raise usage.Damaged(
            f"{path} is damaged or holds more than arrays ({error}); fetch it again: Caffe2's files hold "
            "{'blobs': {name: array}}"
        ) from None


def read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads a published file as {key: array}, in the file's own layout.

    Raises FileNotFoundError, and ValueError for an unknown ending, a damaged file or numbers that are
    not finite.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: give a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    elif path.suffix in TORCH:
        tensors = _read_torch(path)
    elif path.suffix == ".pkl":
        tensors = _read_caffe2(path)
    else:
        raise ValueError(f"{path}: weights are read from .safetensors, {', '.join(TORCH)} or .pkl files")
    _check_finite(path, tensors)
    return tensors


def inflated(source: str | os.PathLike) -> bool:
    """Tells if ``source`` is an 'inflated:path': an image network's weights, for a network that convolves over
    time (`inflation`)."""
    return os.fspath(source).startswith(INFLATED)


def split(source: str | os.PathLike) -> tuple[pathlib.Path, str]:
    """Splits 'path#network' into (path, network); network is '' if it is left out. An 'inflated:' before it is no
    part of the path. Of a path in a bucket it is that of a copy (`buckets.fetched`). Raises ValueError for one
    without a path, or a bucket that cannot be read."""
    source = os.fspath(source)
    if source == INFLATED:
        raise ValueError(
            f"'{INFLATED}' names no file: fetch an image network's weights, for instance torchvision's ResNet-50 "
            f"(ImageNet), and give '{INFLATED}resnet50.pth'"
        )
    source = source.removeprefix(INFLATED)
    name, _, network = source.rpartition("#")
    # Only '.safetensors#' separates: a '#' elsewhere belongs to the path.
    own = name.endswith(".safetensors")
    path = name if own else source
    return buckets.fetched(path) if buckets.scheme(path) else pathlib.Path(path), network if own else ""


def metadata(source: str | os.PathLike) -> dict[str, str]:
    """Returns the metadata that `save` wrote into a file ('path' or 'path#network'); {} for other files."""
    path, _ = split(source)
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with _opened(path) as file:
        found = file.metadata() or {}
    return found if found.get("format") == _FORMAT else {}


def told(metadata: Mapping[str, str], entry: str, path: str | os.PathLike, default: str) -> dict | list:
    """Returns the JSON value, of the type of ``default``, of an ``entry`` of the metadata of a file of ours, and
    ``default`` where it lacks, as in older files. Raises Damaged, naming the file, for what is none."""
    try:
        found = json.loads(metadata.get(entry) or default)
        if type(found) is not type(json.loads(default)):
            raise ValueError(f"it is {metadata[entry][:40]!r}")
    except ValueError as error:
        raise usage.Damaged(
            f"{path} is damaged: the entry {entry!r} of its metadata is not what mmvid writes there ({error}). "
            "Put back the file that the run has written, or give other weights"
        ) from None
    return found


def parameters(path: pathlib.Path) -> dict[str, int]:
    """Counts the parameters of each network in a file of ours, {network: number}, from its header alone; {} for
    other files."""
    counts: dict[str, int] = {}
    with _opened(path) as file:
        for key in file.keys():  # noqa: SIM118
            network, kind, *_ = (*_unescaped(key), "", "")
            if kind == "params":
                size = math.prod(file.get_slice(key).get_shape())
                counts[network] = counts.get(network, 0) + size
    return counts


def describe_layouts(layouts: Mapping[str, Layout]) -> str:
    """Writes {network: layout} as text for a file's metadata."""
    plain = {name: {field: getattr(layout, field) for field in Layout._fields} for name, layout in layouts.items()}
    return json.dumps(plain)


def layout(metadata: Mapping[str, str], network: str, params: Mapping, path: str | os.PathLike = "") -> Layout:
    """Returns where the layers of a network in the file of ours at ``path`` stand.

    Files from before layouts were written do not say so; theirs is found from ``params``.
    """
    own = told(metadata, "layouts", path, "{}").get(network)
    if own is None:
        return names_resnet.layout_of(params)
    # A file may be older than a field.
    listed = ("first_convolutions", "classifiers", "necks")
    paths = {field: tuple(tuple(path) for path in own.get(field, ())) for field in listed}
    return Layout(**paths, encoders={k: tuple(path) for k, path in own["encoders"].items()})


def _escaped(path: Path) -> str:
    # A network may be called 'probe/rgb'; its '/' is none of ours.
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in path)


def _unescaped(key: str) -> Path:
    return tuple(urllib.parse.unquote(name) for name in key.split("/"))


def save(path: str | os.PathLike, tree: Tree, metadata: Mapping[str, str]) -> None:
    """Writes a tree of arrays (keys joined by '/') and ``metadata``, either all of it or nothing.

    Raises ValueError if ``metadata`` uses a name that the format reserves or holds anything but text.
    """
    if taken := sorted(set(metadata) & set(_RESERVED)):
        raise ValueError(f"metadata names {taken} belong to the file format; choose others")
    if strange := sorted(k for k, v in metadata.items() if not isinstance(v, str)):
        raise ValueError(f"metadata is text; {strange} hold something else: give json.dumps(..)")
    flat = trees.flatten(tree)
    # safetensors holds arrays alone: empty dicts go into the metadata.
    empty = json.dumps([_escaped(p) for p, v in flat.items() if isinstance(v, Mapping)])
    arrays = {_escaped(p): np.asarray(v) for p, v in flat.items() if not isinstance(v, Mapping)}
    own = {"format": _FORMAT, "version": _VERSION, "empty": empty}
    write(path, arrays, {**metadata, **own})


def write(path: str | os.PathLike, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Writes named arrays and ``metadata`` as a safetensors file, all of it or nothing. Raises OSError where the
    system does not let it."""
    arrays = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    with whole(path) as temporary:
        # safetensors makes files that their owner alone may read: this one gets the rights of any other.
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file(arrays, temporary, metadata=dict(metadata))
        except SafetensorError as error:  # what the system said, as text
            raise OSError(f"{path} could not be written: {error}") from error
        temporary.chmod(mode)


def read(path: str | os.PathLike) -> tuple[Tree, dict[str, str]]:
    """Reads a file that ``save`` wrote: (tree, metadata).

    Raises ValueError for any other file, another version or numbers that are not finite, and
    FileNotFoundError.
    """
    with _opened(pathlib.Path(path)) as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path} was not written by mmvid; read it with weights.load")
        if metadata.get("version") != _VERSION:
            raise ValueError(
                f"{path} is of version {metadata.get('version')}, this mmvid reads {_VERSION}: "
                "update mmvid, or train the segment again"
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    _check_finite(pathlib.Path(path), tensors)
    flat = {_unescaped(key): value for key, value in tensors.items()}
    flat |= {_unescaped(key): {} for key in told(metadata, "empty", path, "[]")}
    return trees.unflatten(flat), {k: v for k, v in metadata.items() if k not in _RESERVED}
