"""Weights and inputs of the golden files from their documented rule (tests/golden/README.md)."""

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
    n = _normal(key, shape, spec["seed"])
    leaf = key.rpartition(".")[2]
    if leaf == "running_mean" or (len(shape) == 1 and leaf == "bias"):
        value = 0.1 * n
    elif leaf == "running_var":
        value = 1 + 0.1 * np.abs(n)
    elif len(shape) > 1:
        value = n * np.sqrt(2 / np.prod(shape[1:]))
    else:
        value = 1 + 0.1 * n
    gains = (factor for pattern, factor in spec["recipe"]["gains"] if re.search(pattern, key))
    return np.float32(value * next(gains, 1.0))


def weights(spec) -> dict[str, np.ndarray]:
    """{torch key: array} of a golden network."""
    return {
        key: _tensor(key, tuple(shape), spec)
        for key, shape, _ in spec["state_dict"]
        if not key.endswith("num_batches_tracked")
    }


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
