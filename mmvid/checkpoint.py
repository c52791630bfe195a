"""Training checkpoints, written and restored by Orbax, which no other module imports."""

import contextlib
import functools
import hashlib
import logging
import pathlib
import warnings
from collections.abc import Iterator

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

Checkpointer = ocp.training.Checkpointer


def _steps(directory: pathlib.Path) -> list[int]:
    return sorted(int(p.name) for p in directory.glob("*") if p.name.isdigit())


@contextlib.contextmanager
def _explaining_damage(directory: pathlib.Path, step: int | None = None) -> Iterator[None]:
    """Turns whatever Orbax raises inside into a ValueError that names the damaged checkpoint and says what to do.

    It is the one of ``step`` in ``directory``; None stands for the newest, which Orbax reads first. Errors of
    the disk pass unchanged.
    """
    # Orbax's tasks that nobody waits for any more would print stack traces.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        yield
    except Exception as error:
        steps = _steps(directory)
        # A disk that is full or cannot be read is no damage: deleting the checkpoint would cure nothing.
        if not steps or isinstance(error, OSError):
            raise
        step = steps[-1] if step is None else step
        others = [s for s in steps if s != step]
        before = f"step {max(others)}" if others else "the segment's start"
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"the checkpoint {directory}/{step} is damaged ({reason}). Delete that folder: the same command "
            f"goes on from {before}."
        ) from error


@contextlib.contextmanager
def opened(directory: str | pathlib.Path) -> Iterator[Checkpointer]:
    """Opens the checkpoints of a segment, of which the last and the best (by the metric 'score') are kept.

    What a killed save left behind is removed first. Leaving the context waits for saves under way. Raises
    ValueError where the newest checkpoint is damaged.
    """
    policies = ocp.training.preservation_policies
    best = policies.BestN(
        get_metric_fn=lambda metrics: metrics["score"], n=1, keep_checkpoints_without_metrics=False
    )
    with warnings.catch_warnings(), _explaining_damage(pathlib.Path(directory)):
        warnings.simplefilter("ignore")
        checkpointer = Checkpointer(
            pathlib.Path(directory).absolute(),
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(1), best]),
            # Which steps are saved is decided by the loop: Orbax is to refuse none of them.
            save_decision_policy=ocp.training.save_decision_policies.FixedIntervalPolicy(1),
            cleanup_tmp_directories=True,
        )
    try:
        yield checkpointer
    finally:
        checkpointer.close()


def digests(trees: dict) -> dict[str, str]:
    """{name: SHA-256 of its arrays' names, types, shapes and bytes}. Checkpoints keep these hashes in place of
    networks that never change."""
    found = {}
    for name, tree in trees.items():
        digest = hashlib.sha256()
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            array = np.ascontiguousarray(leaf)
            digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
            digest.update(array.tobytes())
        found[name] = digest.hexdigest()
    return found


def save(
    checkpointer: Checkpointer,
    step: int,
    state,
    *,
    frozen: dict[str, str] | None = None,
    score: float | None = None,
    again: bool = False,
) -> None:
    """Starts writing ``state`` as ``step``, and returns once it is copied off the device.

    A step that is saved already stays as it is, unless it is to be written ``again``, now with its
    ``score``. ``frozen`` are the `digests` of the networks that it was trained beside; they are not in
    ``state``.
    """
    if checkpointer.latest is not None and checkpointer.latest.step >= step and not again:
        return
    if again:
        checkpointer.wait()  # what is replaced may still be on its way to the disk
    metrics = None if score is None else {"score": float(score)}
    checkpointer.save_checkpointables_async(
        step,
        {"state": state},
        force=True,
        overwrite=again,
        metrics=metrics,
        custom_metadata={"frozen": frozen or {}},
    )


def latest_step(checkpointer: Checkpointer) -> int | None:
    """The step of the newest complete checkpoint; None where there is none."""
    return None if checkpointer.latest is None else checkpointer.latest.step


def scored(checkpointer: Checkpointer) -> bool:
    """Whether the newest checkpoint was saved with a score."""
    latest = checkpointer.latest
    return latest is not None and bool(latest.metrics) and "score" in latest.metrics


def best_step(checkpointer: Checkpointer) -> int | None:
    """The step with the highest score among the checkpoints that are kept, the latest of equals (`opened` keeps
    that one, too); None where none was scored."""
    checkpointer.wait()  # the last save and its score may still be on their way
    scored = [c for c in checkpointer.checkpoints if c.metrics and "score" in c.metrics]
    return max(((c.metrics["score"], c.step) for c in scored), default=(None, None))[1]


def _shape(leaf) -> tuple:
    # Orbax describes typed PRNG keys by their data.
    if isinstance(leaf, jax.ShapeDtypeStruct) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return tuple(jax.eval_shape(jax.random.key_data, leaf).shape)
    return tuple(leaf.shape)


def _shapes(tree) -> dict[str, tuple]:
    """{path of a leaf: its shape}, alike for our own trees and for those that Orbax describes."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    name = functools.partial(jax.tree_util.keystr, simple=True, separator="/")
    return {name(path): _shape(leaf) for path, leaf in leaves if hasattr(leaf, "shape")}


def _explain(directory, step: int, found: dict, wanted: dict) -> str:
    missing = sorted(set(wanted) - set(found))
    unknown = sorted(set(found) - set(wanted))
    shapes = [k for k in sorted(set(found) & set(wanted)) if found[k] != wanted[k]]
    lines = [f"the checkpoint {directory}/{step} does not fit this configuration:"]
    lines += [f"  {k}: {found[k]} in the file, {wanted[k]} in the model" for k in shapes[:5]]
    lines += [f"  {k}: not in the file" for k in missing[:5]]
    lines += [f"  {k}: in the file only" for k in unknown[:5]]
    lines.append("Give another --workdir, or the configuration that this one was started with.")
    return "\n".join(lines)


def _check_frozen(directory, step: int, saved: dict[str, str], frozen: dict[str, str]) -> None:
    """Raises ValueError that names a frozen network whose hash is not the one that was ``saved``."""
    for name in sorted(saved | frozen):
        if saved.get(name) != frozen.get(name):
            raise ValueError(
                f"the checkpoint {directory}/{step} was trained beside another network {name!r}: it is frozen, "
                f"its weights had the hash {saved.get(name)} and now have {frozen.get(name)}. Put back the file "
                f"that {name!r} starts from (an earlier segment's weights.safetensors, or that of "
                f"--config.networks.{name}.weights), or give another --workdir."
            )


def restore(checkpointer: Checkpointer, like, step: int | None = None, *, frozen: dict[str, str] | None = None):
    """Returns the state saved as ``step`` (by default the newest) in the shapes and shardings of ``like``, None
    where nothing is saved.

    Raises ValueError that names the leaves that do not fit, the folder that is damaged, or the network
    whose hash in ``frozen`` is not the one that the state was saved with.
    """
    checkpointer.wait()  # what is asked for may still be on its way to the disk
    step = latest_step(checkpointer) if step is None else step
    if step is None:
        return None
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
    with _explaining_damage(pathlib.Path(checkpointer.directory), step):
        metadata = checkpointer.checkpointables_metadata(step)
        found = _shapes(metadata.metadata["state"])
        if not found:  # Orbax says so in its log, and goes on
            raise ValueError("what it holds cannot be read")
    saved = (metadata.custom_metadata or {}).get("frozen", {})
    _check_frozen(checkpointer.directory, step, saved, frozen or {})
    # Compared here, so that the message names the leaves and says what to do.
    wanted = _shapes(abstract)
    if found != wanted:
        raise ValueError(_explain(checkpointer.directory, step, found, wanted))
    with _explaining_damage(pathlib.Path(checkpointer.directory), step):
        state = checkpointer.load_checkpointables(step, {"state": abstract})["state"]
    # Orbax gives a key the sharding of its data, which has an axis more: asked for again, no key fits it.
    return jax.tree.map(lambda x, own: jax.device_put(x, own.sharding), state, abstract)
