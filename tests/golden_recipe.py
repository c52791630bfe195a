"""Weights and inputs of the golden files by their documented rule, and the numbers kept of a map.

A tensor is drawn from default_rng(crc32(key) + seed).standard_normal(shape) = n, in float64:
running_mean and biases 0.1 n, running_var 1 + 0.1 |n|, two and more dimensions
n sqrt(2 / fan_in), scales 1 + 0.1 n, counters 0; then the first matching gain multiplies, then
float32. Inputs and directions are plain n of the names 'input:<case>' and 'direction:<key>'.
"""

import hashlib
import json
import pathlib
import re
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parent / "golden"


def load(name: str):
    """(spec, arrays) of a golden file."""
    return json.loads((GOLDEN / f"{name}.json").read_text()), np.load(GOLDEN / f"{name}.npz")


def _normal(label: str, shape, seed: int) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(label.encode()) + seed).standard_normal(shape)


def _tensor(key: str, shape, spec) -> np.ndarray:
    leaf = key.rpartition(".")[2]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    n = _normal(key, shape, spec["seed"])
    if leaf == "running_mean" or (len(shape) == 1 and leaf == "bias"):
        value = 0.1 * n
    elif leaf == "running_var":
        value = 1 + 0.1 * np.abs(n)
    elif len(shape) > 1:
        value = n * np.sqrt(2 / np.prod(shape[1:]))
    else:
        value = 1 + 0.1 * n
    gains = (factor for pattern, factor in spec["recipe"]["gains"] if re.search(pattern, key))
    return np.asarray(value * next(gains, 1.0), np.float32)


def weights(spec) -> dict[str, np.ndarray]:
    """{torch key: array} of a golden network: its state_dict without the tables that it computes itself."""
    own = spec["recipe"].get("buffers", ())
    return {key: _tensor(key, tuple(shape), spec) for key, shape, _ in spec["state_dict"] if key not in own}


def checksum(tensors: dict[str, np.ndarray]) -> str:
    """What a golden file calls the sha256 of its weights: names and bytes, names sorted."""
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(tensors[key]).tobytes())
    return digest.hexdigest()


def case_input(spec, case: str) -> np.ndarray:
    """The float32 input of a case, in the reference's layout."""
    shape = next(c for c in spec["cases"] if c["name"] == case)["input"]["shape"]
    return np.float32(_normal(f"input:{case}", shape, spec["seed"]))


def direction(key: str, shape, spec) -> np.ndarray:
    """What a gradient is multiplied with for 'grad_dot'."""
    return _normal(f"direction:{key}", shape, spec["seed"])


def probes(array: np.ndarray) -> dict[str, np.ndarray]:
    """The numbers kept of a feature map that is in the reference's layout."""
    flat = np.asarray(array, np.float64).ravel()
    index = (np.arange(32, dtype=np.uint64) * 2654435761 + 12345) % flat.size
    return {
        "mean": flat.mean(),
        "std": flat.std(),
        "first32": flat[:32],
        "probe32": flat[index.astype(np.int64)],
    }
