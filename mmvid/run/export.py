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
from mmvid.run import build, feed, resize, score, scored
from mmvid.run.build import Run
from mmvid.scores import numbers
from mmvid.streams import MODALITIES, Stream, form_of, stack_length

# What an export may differ by from the run, as a probability, and as a share of how far logits are spread, which
# tells mistakes apart that probabilities near 0 and 1 hide. Of bfloat16 three digits are kept.
TOLERANCE, ROUGH = (1e-5, 1e-3), (1e-2, 1e-1)
# Clips of its dataset that are compared.
CLIPS = 2


class Export(NamedTuple):
    """A segment as a function: ``function`` {stream: [B, *shape]} -> {'output/head': probabilities [B, K]}.

    ``inputs`` {stream: (shape, dtype)} are of one clip, ``own`` is the run's answer to the same arrays, computed
    as the run scores, ``scored`` are clips that it has scored with the probabilities in its files, None without
    its dataset. ``about`` is plain data that an exported file holds, ``allowed`` what it may differ by.
    ``segment`` has the networks alone that are exported, ``weights`` {'params': {network: tree}, 'stats': ..} are
    those of all.
    """

    function: Callable
    inputs: dict[str, tuple[tuple[int, ...], str]]
    own: Callable
    scored: "Known | None"
    about: dict
    allowed: tuple[float, float]
    segment: Segment
    weights: dict


class Known(NamedTuple):
    """Clips of a ``split`` as an export takes them, and the run's ``probabilities`` {'output/head': [n, K]}."""

    split: str
    inputs: dict[str, np.ndarray]
    probabilities: dict[str, np.ndarray]


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
    """Cuts a window of all pictures [B, n, H, W, C] and stacks them: [B, clips, *host_shape]. No test mirrors."""
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
    forward = jax.jit(infer.make_predict(segment.networks, segment.streams, tuple(segment.needs)))

    def own(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        shown = {name: _cut(segment.streams[name], x, how) for name, x in inputs.items()}
        return _together(run, segment, jax.device_get(forward(weights["params"], weights["stats"], _batch(shown))))

    return own


def _together(run: Run, segment: Segment, logits: Mapping) -> dict[str, np.ndarray]:
    """Puts logits {output: {head: [B, V, K]}} together as a report does: {'output/head': [B, K]}."""
    kinds, aggregate = _kinds(segment), run.config.evaluation.aggregate
    logits = jax.tree.map(np.float64, logits)
    of_head = lambda head, x: numbers.probabilities(x, aggregate, kind=kinds[head])  # noqa: E731
    return _all(logits, _members(run, segment), of_head)


def _known(run: Run, segment: Segment, inputs: Mapping) -> Known | None:
    """Clips that the run has scored, where its dataset is there."""
    found = scored.clips(run, segment, {name: shape for name, (shape, _) in inputs.items()}, CLIPS)
    if found is None:
        return None
    logits = {output: found.logits[output] for output in segment.needs}
    return Known(found.split, found.inputs, _together(run, segment, logits))


# ---------------------------------------------------------------------------- what is known of it
def _allowed(run: Run, segment: Segment) -> tuple[float, float]:
    """What an export may differ by: more where a network computes in less than float32."""
    networks = [run.config.networks.get(network.name) for network in segment.networks]
    options = [run.config.model_options, *(spec.options for spec in networks if spec)]
    rough = any("float32" not in str(own.get("dtype") or "float32") for own in options)
    return ROUGH if rough else TOLERANCE


def _about(run: Run, segment: Segment, inputs: Mapping, how: _Shown, frame: tuple[int, int]) -> dict:
    """Returns what a file says of itself, as plain data."""
    own, info = run.config.evaluation, run.datasets[segment.dataset].info
    return {
        "mmvid": mmvid.__version__,
        "jax": jax.__version__,
        "made": str(datetime.date.today()),
        "archive": "what lasts is the run's weights.safetensors and config.json",
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


def _narrowed(segment: Segment, outputs: tuple[str, ...]) -> Segment:
    """A segment of which only ``outputs`` are asked for; () are all of those that are scored."""
    outputs = outputs or tuple(segment.needs)
    networks = tuple(n for n in segment.networks if not n.frozen and set(n.outputs) & set(outputs))
    headline = segment.headline if segment.headline in outputs else outputs[0]
    return segment._replace(networks=networks, outputs=outputs, headline=headline)


def _streams(segment: Segment) -> list[Stream]:
    """The streams that a segment's networks must be given for its outputs: all those of a fusion at once, of
    networks that read several in turn those that are asked for."""
    read = {
        stream
        for network in segment.networks
        for output, needs in network.needs.items()
        if output in segment.outputs
        for stream in (needs.streams if len(network.reads) > 1 else network.reads[0])
    }
    return [stream for name, stream in segment.streams.items() if name in read]


def of_run(
    run: Run, segment: Segment, frame: tuple[int, int] | None = None, outputs: tuple[str, ...] = ()
) -> Export:
    """Makes the export of a segment that has ended, for pictures of ``frame`` (height, width) pixels, by default
    those of its dataset, and of the networks that ``outputs`` are of, by default all that are scored. Raises
    ValueError or FileNotFoundError where its weights are gone or damaged."""
    info = run.datasets[segment.dataset].info
    frame = frame or (info.height, info.width)
    weights, segment = build.weights_of(run, segment), _narrowed(segment, outputs)
    how = _how(run, segment, frame)
    inputs = {stream.name: _input(stream, how, frame) for stream in _streams(segment)}
    function, own = (of(run, segment, weights, how) for of in (_function, _own))
    about, allowed = _about(run, segment, inputs, how, frame), _allowed(run, segment)
    return Export(function, inputs, own, _known(run, segment, inputs), about, allowed, segment, weights)
