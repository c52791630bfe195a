"""Published checkpoints into our trees and back, and the files that hand weights over.

Key names are facts: torchvision and timm ('layer1.0.conv1.weight', 'fc.weight'), TSM and MML
('base_model.layer1.0.conv1.net.weight', 'new_fc.weight'), with or without 'module.' in front.
"""

import json
import os
import pathlib
import re
from collections.abc import Mapping

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

Tree = dict

# torch's leaf names of a batch norm against ours; the second item names our collection.
_NORM = {
    "weight": ("scale", "params"),
    "bias": ("bias", "params"),
    "running_mean": ("mean", "stats"),
    "running_var": ("var", "stats"),
}


# ---------------------------------------------------------------------------- names
def _plain(key: str) -> str:
    """A torchvision name from any of the known spellings."""
    key = re.sub(r"^(module\.)?(base_model\.)?", "", key)
    key = key.replace(".net.", ".")
    return re.sub(r"^(new_fc|last_linear)\.", "fc.", key)


def _address(key: str, head: str) -> tuple[str, tuple[str, ...]] | None:
    """('params' or 'stats', path in our tree) of a torch key; None for counters, ValueError else."""
    plain = _plain(key)
    if plain.endswith("num_batches_tracked"):
        return None
    leaf = plain.rsplit(".", 1)[-1]
    if match := re.fullmatch(r"fc\.(weight|bias)", plain):
        return "params", ("classifier", head, "kernel" if match[1] == "weight" else "bias")
    pattern = r"(?:layer(\d)\.(\d+)\.)?(conv\d|bn\d|downsample\.[01])\.(\w+)"
    match = re.fullmatch(pattern, plain)
    if not match:
        raise ValueError(key)
    stage, block, layer, leaf = match.groups()
    prefix = (f"layer{stage}_{block}",) if stage else ()
    layer = {"downsample.0": "downsample_conv", "downsample.1": "downsample_bn"}.get(layer, layer)
    if "conv" in layer:
        if leaf != "weight":
            raise ValueError(key)
        return "params", (*prefix, layer, "kernel")
    if leaf not in _NORM:
        raise ValueError(key)
    name, collection = _NORM[leaf]
    return collection, (*prefix, layer, name)


def _ours(value: np.ndarray) -> np.ndarray:
    """(out, in, kH, kW) -> (kH, kW, in, out) and (out, in) -> (in, out)."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim)
    return np.transpose(value, axes) if axes else value


def _torchs(value: np.ndarray) -> np.ndarray:
    axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(value.ndim)
    return np.ascontiguousarray(np.transpose(value, axes) if axes else value)


def flatten(tree: Tree, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], np.ndarray]:
    """Nested dicts -> {path: array}."""
    flat = {}
    for name, value in tree.items():
        path = (*prefix, name)
        flat |= flatten(value, path) if isinstance(value, Mapping) else {path: np.asarray(value)}
    return flat


def unflatten(flat: Mapping[tuple[str, ...], np.ndarray]) -> Tree:
    """{path: array} -> nested dicts."""
    tree: Tree = {}
    for path, value in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = value
    return tree


# ---------------------------------------------------------------------------- reading
def _read_source(source) -> dict[str, np.ndarray]:
    if isinstance(source, Mapping):
        return {key: np.asarray(value) for key, value in source.items()}
    path = pathlib.Path(source)
    if not path.exists():
        raise FileNotFoundError(f"no weights at {path}: give a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if path.suffix in (".pth", ".pt", ".tar"):
        return _read_torch(path)
    raise ValueError(f"{path}: weights are read from .safetensors, .pth or .pt files")


def _opened(path: pathlib.Path):
    try:
        return safe_open(path, "numpy")
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {error}") from None


def _read_torch(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise ValueError(
            f"{path} needs PyTorch to be read; install it, or save the file once elsewhere with "
            "safetensors.torch.save_file and give that"
        ) from None
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    loaded = loaded.get("state_dict", loaded.get("model", loaded))
    return {key: value.numpy() for key, value in loaded.items()}


def change_input_channels(params: Tree, in_channels: int) -> Tree:
    """``params`` whose first convolution reads ``in_channels``: the mean over the old ones,
    repeated, no rescaling (papers.md 1.2). Unchanged where they agree."""
    kernel = np.asarray(params["conv1"]["kernel"])
    if kernel.shape[2] == in_channels:
        return params
    mean = np.repeat(kernel.mean(2, keepdims=True), in_channels, axis=2)
    return {**params, "conv1": {**params["conv1"], "kernel": mean.astype(kernel.dtype)}}


def _place(source: dict[str, np.ndarray], head: str) -> tuple[dict, list[str]]:
    """{(collection, *path): value} in our layout, and the keys that are nobody's."""
    placed, unknown = {}, []
    for key, value in source.items():
        try:
            address = _address(key, head)
        except ValueError:
            unknown.append(key)
            continue
        if address is not None:
            placed[address[0], *address[1]] = _ours(value)
    return placed, unknown


def _complain(name: str, missing, unknown, shapes) -> None:
    if not (missing or unknown or shapes):
        return
    lines = [f"these weights do not fit {name}:"]
    lines += [f"  {'/'.join(p)}: {a} in the file, {b} in the model" for p, a, b in shapes[:8]]
    lines += [f"  {'/'.join(p)}: not in the file" for p in missing[:8]]
    lines += [f"  {key}: no such tensor in the model" for key in unknown[:8]]
    lines.append("Name the model that the file was saved from (classifier='skip' leaves out fc).")
    raise ValueError("\n".join(lines))


def load(
    name: str,
    source: str | os.PathLike | Mapping[str, np.ndarray],
    *,
    params: Tree,
    stats: Tree,
    classifier: str = "load",
) -> tuple[Tree, Tree]:
    """Weights of ``source`` in the trees of model ``name``: new (params, stats).

    ``source``: a .safetensors or .pth file, or {key: array} of torch's layout. Every tensor is
    used or named in the error. The first convolution is averaged to the model's input channels;
    ``classifier`` 'skip' keeps the model's own. Raises ValueError (what does not fit, leaf by
    leaf), FileNotFoundError.
    """
    if classifier not in ("load", "skip"):
        raise ValueError(f"classifier={classifier!r}: choose 'load' or 'skip'")
    wanted = {("params", *p): v for p, v in flatten(params).items()}
    wanted |= {("stats", *p): v for p, v in flatten(stats).items()}
    heads = sorted({path[2] for path in wanted if path[1] == "classifier"})
    placed, unknown = _place(_read_source(source), heads[0])
    if classifier == "skip":
        placed = {path: v for path, v in placed.items() if path[1] != "classifier"}
        placed |= {path: v for path, v in wanted.items() if path[1] == "classifier"}
    first = ("params", "conv1", "kernel")
    if first in placed:
        tree = {"conv1": {"kernel": placed[first]}}
        placed[first] = change_input_channels(tree, wanted[first].shape[2])["conv1"]["kernel"]
    missing = sorted(set(wanted) - set(placed))
    unknown += ["/".join(p) for p in sorted(set(placed) - set(wanted))]
    shapes = [(p, placed[p].shape, wanted[p].shape) for p in sorted(set(placed) & set(wanted))
              if placed[p].shape != wanted[p].shape]  # fmt: skip
    _complain(name, missing, unknown, shapes)
    tree = unflatten({p: placed[p].astype(wanted[p].dtype) for p in wanted})
    return tree["params"], tree.get("stats", {})


def torch_names(params: Tree, stats: Tree, *, head: str = "action") -> dict[str, np.ndarray]:
    """Our trees back as {torchvision key: array}; ``head`` becomes 'fc'. Inverse of ``load``."""
    names = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
    out = {}
    for path, value in (flatten(params) | flatten(stats)).items():
        if path[0] == "classifier":
            if path[1] != head:
                continue
            path = ("fc", path[2])
        layer = path[-2].replace("downsample_conv", "downsample.0")
        layer = layer.replace("downsample_bn", "downsample.1")
        block = path[0].replace("_", ".") + "." if len(path) == 3 else ""
        out[f"{block}{layer}.{names.get(path[-1], path[-1])}"] = _torchs(value)
    return out


# ---------------------------------------------------------------------------- our own files
def save(path: str | os.PathLike, tree: Tree, metadata: Mapping[str, str]) -> None:
    """Writes a tree of arrays (keys joined by '/') and text ``metadata``, whole or not at all."""
    path = pathlib.Path(path)
    temporary = path.with_name(path.name + ".tmp")
    flat = {"/".join(p): np.ascontiguousarray(v) for p, v in flatten(tree).items()}
    save_file(flat, temporary, metadata={"format": "mmvid", "version": "1", **metadata})
    os.replace(temporary, path)


def read(path: str | os.PathLike) -> tuple[Tree, dict[str, str]]:
    """(tree, metadata) of a file that ``save`` wrote. Raises ValueError for another file."""
    with _opened(pathlib.Path(path)) as file:
        metadata = file.metadata() or {}
        if metadata.get("format") != "mmvid":
            raise ValueError(f"{path} was not written by mmvid; read it with weights.load")
        flat = {tuple(k.split("/")): file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    return unflatten(flat), {k: v for k, v in metadata.items() if k not in ("format", "version")}


def read_metadata(path: str | os.PathLike) -> dict[str, object]:
    """The metadata of an mmvid weights file, JSON values parsed where they are JSON."""
    metadata = read(path)[1]
    return {k: json.loads(v) if v[:1] in "[{" else v for k, v in metadata.items()}
