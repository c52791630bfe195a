"""What a run has learnt as one function: frames in, probabilities out, and what must be known to call it."""

import datetime
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import mmvid
from mmvid import infer, streams
from mmvid.data import augment, cut, sampling
from mmvid.plans.segment import Segment
from mmvid.run import build, feed, resize, score
from mmvid.run.build import Run
from mmvid.scores import numbers
from mmvid.streams import MODALITIES, Stream, form_of, stack_length

# How long JAX promises to read what it has exported, in days.
READABLE = 180
# What an export may differ by from the run; of bfloat16 three digits are kept.
TOLERANCE, ROUGH = 1e-5, 1e-2


class Export(NamedTuple):
    """A segment as a function: ``function`` {stream: [B, *shape]} -> {'output/head': probabilities [B, K]}.

    ``inputs`` {stream: (shape, dtype)} are of one clip, ``own`` is the run's answer to the same arrays, computed
    as the run scores, ``about`` is plain data that an exported file holds.
    """

    function: Callable
    inputs: dict[str, tuple[tuple[int, ...], str]]
    own: Callable
    about: dict


# ---------------------------------------------------------------------------- what goes in
class _Shown(NamedTuple):
    """How a video is shown: so many ``clips``, each in all ``windows``, as pictures of ``side`` pixels."""

    clips: int
    windows: list[augment.Geometry]
    side: int


def _how(run: Run, segment: Segment, frame: tuple[int, int]) -> _Shown:
    """Returns how the run's protocol shows clips whose pictures have ``frame`` (height, width) pixels."""
    own = run.config.evaluation
    views = feed.views(run, own.protocol, own.crops)
    # Of a clip of 1000 frames: how many a protocol cuts is asked for, not where.
    clips = max(len(sampling.test_indices(1000, s, views)) for s in feed.scored_streams(segment))
    return _Shown(clips, *augment.test_windows(*frame, run.config.size, views))


def _cropped(stream: Stream) -> bool:
    return form_of(stream).cut == "pictures"


def _input(stream: Stream, how: _Shown, frame: tuple[int, int]) -> tuple[tuple[int, ...], str]:
    """Returns (shape, dtype) of what a clip gives to a stream: all frames that are read, one after another, or
    what the loader makes of sound and boxes, of all clips one after another."""
    form = form_of(stream)
    if _cropped(stream):
        count = how.clips * stream.sampling.frames * form.stack
        return (count, *frame, form.raw // form.stack), form.dtype
    first, *rest = streams.host_shape(stream, how.side)
    return (how.clips * first, *rest), form.dtype


# ---------------------------------------------------------------------------- the function
def _shown(stream: Stream, x, how: _Shown):
    """Turns the input of a stream, [B, *shape], into all of its views, [B, V, *host_shape]."""
    if not _cropped(stream):
        views = x.reshape(x.shape[0], how.clips, -1, *x.shape[2:])
        return jnp.repeat(views, len(how.windows), axis=1)
    made = [_seen(stream, x, window, how) for window in how.windows]
    # The crops of a clip stand together.
    return jnp.stack(made, 2).reshape(-1, how.clips * len(made), *made[0].shape[2:])


def _seen(stream: Stream, x, window: augment.Geometry, how: _Shown):
    """Cuts a window of all pictures [B, n, H, W, C] and stacks them: [B, clips, *host_shape]."""
    rows, columns = augment.pixels(window, *x.shape[2:4])
    x = x[:, :, rows, columns]
    nearest = MODALITIES[stream.modality].nearest
    x = resize.resize(x, how.side, augment.resizing(*x.shape[2:4], how.side, nearest=nearest))
    frames, stack, channels = stream.sampling.frames, stack_length(stream), x.shape[-1]
    x = x.reshape(-1, how.clips, frames, stack, how.side, how.side, channels)
    # Time-major channels, as `cut` stacks them.
    return jnp.moveaxis(x, 3, 5).reshape(-1, how.clips, frames, how.side, how.side, stack * channels)


def probabilities(logits, how: str, kind: str):
    """Returns the probabilities of the classes of a head, [B, V, K] -> [B, K], as `numbers.probabilities`."""
    certain = jax.nn.softmax if kind == "single" else jax.nn.sigmoid
    if how == "logits":
        return certain(logits.mean(1))
    values = certain(logits).mean(1) if how == "probs" else certain(logits).max(1)
    return values / values.sum(-1, keepdims=True) if kind == "single" else values


def _members(run: Run, segment: Segment) -> list[str]:
    """Returns the outputs whose logits are added up, of a clip that lacks nothing."""
    # What plan 'semi' trains is its primary network: the auxiliary one is there to teach it.
    return [segment.headline] if run.config.plan == "semi" else score.members(segment)


def _kinds(segment: Segment) -> dict[str, str]:
    """Returns {head: whether its probabilities are a softmax, 'single', or sigmoids, 'multi'}."""
    softmax = segment.method.multi == "softmax"
    return {head: "single" if softmax else space.kind for head, space in segment.heads.items()}


def _all(logits: Mapping, members: list[str], of_head: Callable) -> dict:
    """Returns {'output/head': of_head(head, its logits)} with the sum of ``members`` first, where there are
    several."""
    found = {f"{output}/{head}": x for output, heads in logits.items() for head, x in heads.items()}
    if len(members) > 1:
        name, heads = " + ".join(members), logits[members[0]]
        found = {f"{name}/{head}": sum(logits[output][head] for output in members) for head in heads} | found
    return {name: of_head(name.rpartition("/")[2], x) for name, x in found.items()}


def _batch(shown: Mapping) -> dict:
    """Makes a batch of clips that lack nothing of {stream: [B, V, *host_shape]}."""
    present = {name: jnp.ones(x.shape[:1], bool) for name, x in shown.items()}
    return {"main": {"inputs": {"test": shown}, "present": present}}


def _function(run: Run, segment: Segment, weights: dict, how: _Shown) -> Callable:
    """Makes the function that is exported."""
    members, kinds, aggregate = _members(run, segment), _kinds(segment), run.config.evaluation.aggregate
    predict = infer.make_predict(segment.networks, segment.streams, tuple(segment.needs))

    def function(inputs: Mapping) -> dict:
        shown = {name: _shown(segment.streams[name], x, how) for name, x in inputs.items()}
        logits = predict(weights["params"], weights["stats"], _batch(shown))
        return _all(logits, members, lambda head, x: probabilities(x, aggregate, kinds[head]))

    return function


# ---------------------------------------------------------------------------- the run's own answer
def _cut(stream: Stream, x: np.ndarray, how: _Shown) -> np.ndarray:
    """Cuts what `_shown` takes on the host, as the run's loader does, to what it gives."""
    if not _cropped(stream):
        return np.repeat(x.reshape(len(x), how.clips, -1, *x.shape[2:]), len(how.windows), axis=1)
    order, made = np.arange(x.shape[1]), []
    frames = {stream.name: order.reshape(how.clips, stream.sampling.frames, stack_length(stream))}
    for clip in x:
        decoded = {cut.field_of(stream): (order, clip)}
        shows = [cut.Show({stream.geometry: window}, how.side) for window in how.windows]
        crops = [cut.cut({}, decoded, [stream], frames, show)[stream.name] for show in shows]
        made.append(np.stack(crops, 1).reshape(-1, *crops[0].shape[1:]))
    return np.stack(made)


def _own(run: Run, segment: Segment, weights: dict, how: _Shown) -> Callable:
    """Makes the function that answers as the run does when it scores: cut on the host, put together in float64."""
    members, kinds, aggregate = _members(run, segment), _kinds(segment), run.config.evaluation.aggregate
    forward = jax.jit(infer.make_predict(segment.networks, segment.streams, tuple(segment.needs)))

    def own(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shown = {name: _cut(segment.streams[name], x, how) for name, x in inputs.items()}
        logits = jax.device_get(forward(weights["params"], weights["stats"], _batch(shown)))
        logits = jax.tree.map(np.float64, logits)
        return _all(logits, members, lambda head, x: numbers.probabilities(x, aggregate, kind=kinds[head]))

    return own


def drawn(inputs: Mapping[str, tuple], count: int) -> dict[str, np.ndarray]:
    """Draws ``count`` clips for the ``inputs`` of an `Export`, always the same ones: {stream: [count, *shape]}."""
    rng = np.random.default_rng(0)
    made = {}
    for name, (shape, dtype) in inputs.items():
        low, high = {"uint8": (0, 256), "int16": (-3000, 3000)}.get(dtype, (0, 1))
        # Whole numbers: the categories of boxes are some of them. Each clip has a brightness of its own.
        values = rng.uniform(low, high, (count, *shape)) * rng.uniform(0.3, 1, (count, *(1,) * len(shape)))
        made[name] = values.astype(dtype)
    return made


def difference(export: Export, answer: Callable) -> float:
    """Returns the largest difference of a probability between the run and ``answer`` on drawn clips, of a batch of
    two and of one. Raises ValueError where it is beyond the tolerance."""
    differences = []
    for count in (2, 1):
        clips = drawn(export.inputs, count)
        own, found = export.own(clips), answer(clips)
        differences += [np.abs(np.asarray(found[name]) - own[name]).max() for name in own]
    # Not Python's max, to which 0 is more than NaN.
    worst = float(np.max(differences))
    if not worst <= export.about["tolerance"]:
        raise ValueError(
            f"the export does not say what the run says: probabilities differ by up to {worst:.2g}, and "
            f"{export.about['tolerance']:g} is allowed. Nothing was written; take another --format"
        )
    return worst


# ---------------------------------------------------------------------------- what is known of it
def _about(run: Run, segment: Segment, inputs: Mapping, how: _Shown, frame: tuple[int, int]) -> dict:
    """Returns what a file says of itself, as plain data."""
    own, info, made = run.config.evaluation, run.datasets[segment.dataset].info, datetime.date.today()
    rough = "float32" not in str(run.config.model_options.get("dtype", "float32"))
    return {
        "mmvid": mmvid.__version__,
        "jax": jax.__version__,
        "made": str(made),
        "readable_until": str(made + datetime.timedelta(READABLE)),
        "archive": "JAX promises to read an export for six months. What lasts is the run's weights.safetensors "
        "and config.json: export them again.",
        "run": run.workdir.resolve().name,
        "segment": segment.name,
        "dataset": info.name,
        "protocol": own.protocol,
        "clips": how.clips,
        "crops": own.crops,
        "aggregate": own.aggregate,
        "frame": list(frame),
        "inputs": {name: _described(segment.streams[name], *of, info.settings) for name, of in inputs.items()},
        "classes": {
            head: list(space.names or map(str, range(space.classes))) for head, space in segment.heads.items()
        },
        "kinds": _kinds(segment),
        "tolerance": ROUGH if rough else TOLERANCE,
    }


def _described(stream: Stream, shape: tuple, dtype: str, settings: Mapping) -> dict:
    """Returns what a caller must know of a stream: the array, which frames it holds, how they were stored."""
    kept = {name: settings[name] for name in MODALITIES[stream.modality].settings if name in settings}
    return {
        "shape": list(shape),
        "dtype": dtype,
        "modality": stream.modality,
        "form": stream.form,
        "sampling": stream.sampling._asdict(),
        "stack": stack_length(stream),
        **kept,
    }


def of_run(run: Run, segment: Segment, frame: tuple[int, int] | None = None) -> Export:
    """Makes the export of a segment that has ended, for pictures of ``frame`` (height, width) pixels, by default
    those of its dataset. Raises ValueError or FileNotFoundError where its weights are gone or damaged."""
    info = run.datasets[segment.dataset].info
    frame = frame or (info.height, info.width)
    weights, how = build.weights_of(run, segment), _how(run, segment, frame)
    read = {stream for needs in segment.needs.values() for stream in needs.streams}
    inputs = {name: _input(s, how, frame) for name, s in segment.streams.items() if name in read}
    function, own = (of(run, segment, weights, how) for of in (_function, _own))
    return Export(function, inputs, own, _about(run, segment, inputs, how, frame))
