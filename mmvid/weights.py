"""Published checkpoints into our trees and back, and the files that hand weights over.

Ours are safetensors files of a tree {network: {'params': .., 'stats': ..}}, keys joined by '/';
what published files call their tensors stands in ``weight_names``.
"""

import contextlib
import json
import os
import pathlib
import urllib.parse
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mmvid.weight_names import (
    Path,
    address,
    first_convolutions,
    members,
    to_ours,
    to_torch,
    torch_key,
    torch_video_key,
)

Tree = dict
Source = str | os.PathLike | Mapping[str, np.ndarray]

_FORMAT, _VERSION = "mmvid", "1"
_RESERVED = ("format", "version", "empty")


# ---------------------------------------------------------------------------- trees
def flatten(tree: Mapping, prefix: Path = ()) -> dict[Path, object]:
    """Nested dicts -> {path: leaf}; an empty dict below the top stays, as a leaf."""
    flat = {}
    for name, value in tree.items():
        path = (*prefix, name)
        inner = isinstance(value, Mapping) and value
        flat |= flatten(value, path) if inner else {path: value}
    return flat


def _leaves(tree: Mapping) -> dict[Path, object]:
    return {p: v for p, v in flatten(tree).items() if not isinstance(v, Mapping)}


def unflatten(flat: Mapping[Path, object]) -> Tree:
    """{path: leaf} -> nested dicts."""
    tree: Tree = {}
    for path, value in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


def change_input_channels(params: Tree, in_channels: int) -> Tree:
    """``params`` whose first convolution reads ``in_channels``: the mean over the old ones,
    repeated, no rescaling (MML's code). Unchanged where they agree; of each member where several
    networks share features.

    Raises ValueError for less than one channel, or a tree without 'conv1'.
    """
    if inside := members(params):
        return {**params, **{n: change_input_channels(params[n], in_channels) for n in inside}}
    if in_channels < 1:
        raise ValueError(f"in_channels={in_channels}: a first convolution reads at least one")
    if "conv1" not in params:
        raise ValueError(f"expected a first convolution 'conv1', the tree has {sorted(params)}")
    kernel = np.asarray(params["conv1"]["kernel"])
    if kernel.shape[-2] == in_channels:
        return params
    mean = kernel.mean(-2, keepdims=True).astype(kernel.dtype)
    return {**params, "conv1": {**params["conv1"], "kernel": np.repeat(mean, in_channels, axis=-2)}}


def fit_input_channels(params: Tree, like: Tree) -> Tree:
    """``params`` whose first convolutions read as many channels as those of ``like``; as they are
    where one of the two has no such layer."""
    found, wanted = (
        [flatten(tree).get((*path, "kernel")) for path in first_convolutions(tree)] for tree in (params, like)
    )
    if any(kernel is None for kernel in (*found, *wanted)):
        return params
    return change_input_channels(params, wanted[0].shape[-2])


# ---------------------------------------------------------------------------- reading
def _check_finite(path: pathlib.Path, tensors: Mapping) -> None:
    """Raises ValueError naming the first tensor that holds a NaN or an infinity."""
    for name, value in tensors.items():
        whole = np.issubdtype(value.dtype, np.integer) or value.dtype == bool
        if not whole and not np.isfinite(value).all():
            raise ValueError(
                f"{path}: {name!r} holds numbers that are not finite (NaN or infinity); whatever learnt "
                "them had diverged, or the file is damaged. Give other weights"
            )


def _opened(path: pathlib.Path):
    try:
        return safe_open(path, "numpy")
    except SafetensorError as error:
        raise ValueError(
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
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # Damaged bytes raise whatever they happen to look like.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path} is damaged or holds more than tensors ({reason}); fetch it again, or save its "
            "state_dict alone, best with safetensors.torch.save_file"
        ) from None
    wrapped = [loaded[k] for k in ("state_dict", "model", "model_state") if k in loaded]
    tensors = wrapped[0] if wrapped else loaded
    if not isinstance(tensors, Mapping):
        raise ValueError(f"{path}: expected a state_dict, found a {type(tensors).__name__}")
    if strange := sorted(k for k, v in tensors.items() if not isinstance(v, torch.Tensor)):
        raise ValueError(f"{path}: expected tensors under every key, not so under {strange}")
    return {key: (v.float() if v.is_floating_point() else v).detach().numpy() for key, v in tensors.items()}


def _read_file(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: give a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    elif path.suffix in (".pth", ".pt", ".tar"):
        tensors = _read_torch(path)
    else:
        raise ValueError(f"{path}: weights are read from .safetensors, .pth, .pt or .tar files")
    _check_finite(path, tensors)
    return tensors


def _split(source: str | os.PathLike) -> tuple[pathlib.Path, str]:
    """'path#network' in its two parts; the second may be left out."""
    name, _, network = os.fspath(source).rpartition("#")
    own = name.endswith(".safetensors")
    return pathlib.Path(name if own else source), network if own else ""


def metadata(source: str | os.PathLike) -> dict[str, str]:
    """What `save` was told of a file ('path' or 'path#network'); {} for files of others."""
    path, _ = _split(source)
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    with _opened(path) as file:
        found = file.metadata() or {}
    return found if found.get("format") == _FORMAT else {}


def _own_network(source: str | os.PathLike) -> dict[Path, np.ndarray] | None:
    """{(collection, *path): array} of one network of a file that ``save`` wrote, which is named
    as 'path#network' where the file holds several; None if the file is not ours."""
    path, network = _split(source)
    if not metadata(source):
        return None
    tree = read(path)[0]
    if network not in tree and (network or len(tree) != 1):
        given = f"has no network {network!r}" if network else "holds several networks"
        raise ValueError(f"{path} {given}; give it as '{path}#NAME', NAME one of {sorted(tree)}")
    return _leaves(tree[network or next(iter(tree))])


def _published(source: Source, head: str) -> tuple[dict[Path, np.ndarray], dict[Path, str], list]:
    """Of a published checkpoint: {(collection, *path): array in our layout}, {path: its key}, and
    a line on each key that is nobody's."""
    ours = isinstance(source, Mapping)
    tensors = dict(source) if ours else _read_file(pathlib.Path(source))
    placed, keys, strange = {}, {}, []
    for key, value in tensors.items():
        try:
            path = address(key, head)
        except ValueError:
            strange.append(key)
            continue
        if path in placed:
            strange.append(f"{key} (beside {keys[path]})")
            continue
        placed[path], keys[path] = to_ours(np.asarray(value)), key
    return placed, keys, strange


# ---------------------------------------------------------------------------- loading
def _misfits(placed, keys, strange, wanted) -> list[str]:
    """One line a shape that differs, one for all that is missing, one for all that is too much."""
    lines = [
        f"  {'/'.join(p)}: {placed[p].shape} in the file, {wanted[p].shape} in the model"
        for p in sorted(set(placed) & set(wanted))
        if placed[p].shape != wanted[p].shape
    ]
    if missing := sorted("/".join(p) for p in set(wanted) - set(placed)):
        lines.append(f"  {len(missing)} not in the file: {', '.join(missing)}")
    extra = [keys.get(p, "/".join(p)) for p in set(placed) - set(wanted)]
    if extra := sorted(extra + strange):
        lines.append(f"  {len(extra)} not in the model: {', '.join(extra)}")
    return lines


def _adapted(placed: dict[Path, np.ndarray], wanted, params: Tree, classifier: str) -> dict[Path, np.ndarray]:
    """What may differ made equal: no counters of batch norms, the model's own classifier where it
    is skipped, the first convolution over the model's channels."""
    placed = {p: v for p, v in placed.items() if p[-1] != "count" or (*p[:-1], "mean") not in wanted}
    if classifier == "skip":
        placed = {p: v for p, v in placed.items() if not _head(p, params)}
        placed |= {p: v for p, v in wanted.items() if _head(p, params)}
    for first in first_convolutions(params):
        path = ("params", *first, "kernel")
        if np.ndim(placed.get(path, 0)) in (4, 5) and path in wanted:
            one = {"conv1": {"kernel": placed[path]}}
            placed[path] = change_input_channels(one, wanted[path].shape[-2])["conv1"]["kernel"]
    return placed


def _head(path: Path, params: Tree) -> str:
    """The head of a classifier's leaf; '' of all others. ``params``: the model's own."""
    inside = path[2:] if len(path) > 2 and path[1] in members(params) else path[1:]
    return inside[1] if inside[0] == "classifier" else ""


def load(
    name: str,
    source: Source,
    *,
    params: Tree,
    stats: Tree,
    classifier: str = "load",
) -> tuple[Tree, Tree]:
    """Weights of ``source`` in the trees of model ``name``: new (params, stats).

    ``source``: a .safetensors or .pth file, {key: array} in torch's layout, or a file that
    ``save`` wrote ('path#network' where it holds several). ``params``, ``stats``: the model's own
    (shapes suffice to 'load'). Every tensor is used or named in the error. The first convolution is
    averaged to the model's input channels (MML); ``classifier`` 'skip' keeps ``params``'.
    Raises ValueError (what does not fit, leaf by leaf), FileNotFoundError.
    """
    if classifier not in ("load", "skip"):
        raise ValueError(f"classifier={classifier!r}: choose 'load' or 'skip'")
    wanted = _leaves({"params": params, "stats": stats})
    heads = sorted({head for path in wanted if (head := _head(path, params))})
    own = None if isinstance(source, Mapping) else _own_network(source)
    if not own and members(params):
        raise ValueError(
            f"{name} for {', '.join(members(params))}, which share features, starts from a file of such a "
            "network ('path#NAME' of another run) alone: from one published network all would start equal"
        )
    placed, keys, strange = (own, {}, []) if own else _published(source, "".join(heads[:1]))
    placed = _adapted(placed, wanted, params, classifier)
    if lines := _misfits(placed, keys, strange, wanted):
        raise ValueError("\n".join([f"these weights do not fit {name}:", *lines, _advice(lines, heads)]))
    tree = unflatten({p: np.asarray(placed[p]).astype(v.dtype) for p, v in wanted.items()})
    return tree.get("params", {}), tree.get("stats", {})


def _advice(lines: list[str], heads: list[str]) -> str:
    if all("classifier/" in line for line in lines):
        several = f" to one of the heads {heads}" if len(heads) > 1 else ""
        return (
            f"Only the classifier differs, and a checkpoint's fits{several} alone if the classes "
            "agree: classifier='skip' leaves it out and starts afresh."
        )
    return "Name the model (and its options) that the file was saved from, or give another file."


def torch_names(params: Tree, stats: Tree, *, head: str = "action") -> dict[str, np.ndarray]:
    """Our trees as {torchvision key: array in torch's layout}; ``head``'s classifier becomes 'fc',
    others stay behind. A first convolution over time tells a video network, whose keys are others.
    Inverse of ``load``. Raises ValueError for an unknown head, or for several networks in one tree."""
    if inside := members(params):
        raise ValueError(f"{', '.join(inside)} share features; give one of them: params[{inside[0]!r}]")
    heads = sorted(params.get("classifier", ()))
    if heads and head not in heads:
        raise ValueError(f"head={head!r}: these weights have the heads {heads}; choose one")
    name = torch_video_key if np.ndim(params.get("conv1", {}).get("kernel")) == 5 else torch_key
    return {
        name(path): to_torch(np.asarray(value))
        for path, value in (flatten(params) | flatten(stats)).items()
        if path[0] != "classifier" or path[1] == head
    }


# ---------------------------------------------------------------------------- our own files
def _escaped(path: Path) -> str:
    # A network may be called 'probe/rgb'; its '/' is none of ours.
    return "/".join(name.replace("%", "%25").replace("/", "%2F") for name in path)


def _unescaped(key: str) -> Path:
    return tuple(urllib.parse.unquote(name) for name in key.split("/"))


def save(path: str | os.PathLike, tree: Tree, metadata: Mapping[str, str]) -> None:
    """Writes a tree of arrays (keys joined by '/') and text ``metadata``, whole or not at all.

    Raises ValueError where ``metadata`` uses a name of the format's own or holds no text.
    """
    if taken := sorted(set(metadata) & set(_RESERVED)):
        raise ValueError(f"metadata names {taken} belong to the file format; choose others")
    if strange := sorted(k for k, v in metadata.items() if not isinstance(v, str)):
        raise ValueError(f"metadata is text; {strange} hold something else: give json.dumps(..)")
    path = pathlib.Path(path)
    flat = flatten(tree)
    empty = json.dumps([_escaped(p) for p, v in flat.items() if isinstance(v, Mapping)])
    arrays = {_escaped(p): np.asarray(v, order="C") for p, v in flat.items() if not isinstance(v, Mapping)}
    own = {"format": _FORMAT, "version": _VERSION, "empty": empty}
    temporary = path.with_name(path.name + ".tmp")
    try:
        save_file(arrays, temporary, metadata={**metadata, **own})
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


def _flush(path: pathlib.Path) -> None:
    # Without this a power cut may keep the new name and lose what it names.
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def read(path: str | os.PathLike) -> tuple[Tree, dict[str, str]]:
    """(tree, metadata) of a file that ``save`` wrote. Raises ValueError for any other file, or numbers
    that are not finite, FileNotFoundError."""
    with _opened(pathlib.Path(path)) as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"{path} was not written by mmvid; read it with weights.load")
        if metadata["version"] != _VERSION:
            raise ValueError(
                f"{path} is of version {metadata['version']}, this mmvid reads {_VERSION}: "
                "update mmvid, or train the segment again"
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    _check_finite(pathlib.Path(path), tensors)
    flat = {_unescaped(key): value for key, value in tensors.items()}
    flat |= {_unescaped(key): {} for key in json.loads(metadata.get("empty", "[]"))}
    return unflatten(flat), {k: v for k, v in metadata.items() if k not in _RESERVED}
