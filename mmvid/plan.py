"""Plans: a run is a list of segments; this file holds the few ways to make such a list."""

import inspect
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mmvid import optim
from mmvid import starts as starts_lib
from mmvid import streams as streams_lib
from mmvid.methods import METHODS
from mmvid.methods.base import Method
from mmvid.network import Network
from mmvid.networks import check_outputs, check_streams, make_network, make_streams
from mmvid.starts import Start
from mmvid.streams import Head, Stream


class Segment(NamedTuple):
    """A stretch of training. The state's tree is a function of the segment.

    ``enter(params, stats, workdir) -> (params, stats)`` gives its starting weights and
    ``leave(state, directory)`` keeps the final ones; both run on the host and never train.
    """

    name: str
    steps: int
    networks: tuple[Network, ...]
    streams: dict[str, Stream]
    heads: dict[str, Head]
    method: Method
    tx: dict[str, Any]
    lr: optim.Schedule
    batch_size: int
    steps_per_epoch: float
    enter: Callable
    leave: Callable
    seed: int
    split: str = "train"
    dataset: str = "dataset"
    title: str = ""
    evaluate: tuple[str, ...] = ()


class Context(NamedTuple):
    """What a plan is made from: the configuration, the label spaces, clips to train on."""

    config: Any
    heads: dict[str, Head]
    clips: dict[str, int]
    stills_heads: dict[str, Head]


def make_method(name: str, outputs: tuple[str, ...], heads, options: Mapping) -> Method:
    """METHODS[name]. Raises ValueError that lists the known names, or the method's options."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; choose one of {sorted(METHODS)}")
    known = list(inspect.signature(METHODS[name]).parameters)[2:]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"method {name!r} has no option {unknown[0]!r}; its options: {known}")
    return METHODS[name](outputs, heads, **options)


def _method(config) -> tuple[str, dict, str]:
    """The configured method's name, options (those under its name) and title."""
    name = config.method.name
    return name, dict(config.method.get(name) or {}), config.method.title or name.upper()


def _optimizers(config, networks, lr: optim.Schedule, starts: dict[str, Start], heads) -> dict:
    """{network: optimiser}. A classifier that starts afresh learns five times faster where the
    optimiser has TSM's groups (MML's code: off once the weights come from the same dataset)."""
    tx = {}
    for name in networks:
        start = starts.get(name)
        fresh = start is None or start.segment == STILLS or not starts_lib.inherits(start, heads)
        factor = config.networks[name].first_conv_lr
        tx[name] = optim.make(config.optimizer, lr, classifier_lr5=fresh, first_conv_lr=factor)
    return tx


def _teaches(network: Network, teachers: tuple[str, ...]) -> bool:
    """Whether a network is a frozen teacher. Raises ValueError where it would also learn."""
    own = [output in teachers for output in network.outputs]
    if any(own) and not all(own):
        raise ValueError(f"network {network.name!r} cannot be a teacher and learn, too: {network.reads}")
    return all(own)


def _check_teachers(config, networks, teachers, starts: dict[str, Start], heads) -> None:
    """Raises ValueError for a frozen network that nobody has trained for what it reads, or that the
    run is named after."""
    if config.headline in teachers:
        raise ValueError(f"headline={config.headline!r} is the frozen teacher: name one of its students")
    for network in networks:
        start = starts.get(network.name, Start())
        own = start.segment not in ("", STILLS) and start.network == network.name
        if network.frozen and not own and not (start.file and starts_lib.inherits(start, heads)):
            raise ValueError(
                f"network {network.name!r} is a frozen teacher, but plan {config.plan!r} trains none: take "
                "--config.plan=compare with 'independent' before the method in --config.compare"
            )


def segment(
    context: Context,
    name: str,
    networks: tuple[str, ...],
    method: tuple[str, dict],
    duration,
    starts: dict[str, Start],
    *,
    stage: str,
    title: str,
) -> Segment:
    """A segment on the main dataset. Segments of one ``stage`` see the same batches."""
    config, heads = context.config, context.heads
    streams = make_streams(config)
    built = tuple(make_network(config, n, heads, streams) for n in networks)
    starts_lib.check_models(config, starts)
    starts_lib.check_files(config, built, streams, starts, heads)
    read = {s for network in built for group in network.reads for s in group}
    streams = {s: streams[s] for s in streams if s in read}
    per_epoch = context.clips["dataset"] / config.batch_size
    steps = optim.steps_of(duration, steps_per_epoch=per_epoch)
    if steps < 1:
        raise ValueError(f"segment {name!r} would last {steps} steps ({duration!r}): give it 1 or more")
    lr = optim.schedule(config.schedule, steps=steps, steps_per_epoch=per_epoch)
    outputs = tuple(output for network in built for output in network.outputs)
    made = make_method(method[0], outputs, heads, method[1])
    built = tuple(n._replace(frozen=_teaches(n, made.teachers)) for n in built)
    _check_teachers(config, built, made.teachers, starts, heads)
    enter = starts_lib.starting_from(starts, {n: config.networks[n].model for n in networks}, heads)
    if len(outputs) > 1 and METHODS[method[0]] is not METHODS["single"]:
        starts_lib.check_starts(config, built, streams, starts)
        enter = starts_lib.refuse_equals(enter, built, streams)
    return Segment(
        name=name,
        steps=steps,
        networks=built,
        streams=streams,
        heads=heads,
        method=made,
        tx=_optimizers(config, networks, lr, starts, heads),
        lr=lr,
        batch_size=config.batch_size,
        steps_per_epoch=per_epoch,
        enter=enter,
        leave=starts_lib.keep_weights(built, heads),
        seed=zlib.crc32(f"{config.seed}/{stage}".encode()),
        title=title,
        evaluate=tuple(config.evaluation.splits),
    )


STILLS = "stills"


def has_stills(config) -> bool:
    """Whether the run begins with generated images."""
    return optim.steps_of(config.stills.steps, steps_per_epoch=1.0) > 0


def headline_network(config) -> str:
    """The network whose output names the run. Raises ValueError that lists the outputs."""
    reads = {s: name for name, spec in config.networks.items() for read in spec.reads for s in read}
    if config.headline not in reads:
        raise ValueError(f"headline={config.headline!r} is unknown; choose one of {sorted(reads)}")
    return reads[config.headline]


def stills(context: Context, network: str) -> Segment:
    """A still-frame classifier of generated images: Tabletop's stand-in for ImageNet weights.

    Raises ValueError for a network whose members would all start from it, equal.
    """
    config, heads = context.config, context.stills_heads
    spec = config.stills
    if shared := [read for read in config.networks[network].reads if len(read) > 1]:
        raise ValueError(
            f"network {network!r} cannot start from still images: its members {shared[0]} would be equal. Write "
            "--config.stills.steps=0"
        )
    # Pictures, whatever the network will read later: its first convolution is averaged then.
    one = streams_lib.Sampling("uniform", 1, 1)
    streams = {read[0]: Stream(read[0], "rgb", one) for read in config.networks[network].reads}
    name = next(iter(streams))
    built = make_network(config, network, heads, streams)._replace(reads=((name,),))
    per_epoch = context.clips["stills"] / spec.batch_size
    steps = optim.steps_of(spec.steps, steps_per_epoch=per_epoch)
    lr = optim.schedule(spec.schedule, steps=steps, steps_per_epoch=per_epoch)
    return Segment(
        name=STILLS,
        steps=steps,
        networks=(built,),
        streams={name: streams[name]},
        heads=heads,
        method=make_method("single", (name,), heads, {}),
        tx={network: optim.make(config.optimizer, lr, classifier_lr5=True)},
        lr=lr,
        batch_size=spec.batch_size,
        steps_per_epoch=per_epoch,
        enter=lambda params, stats, workdir: (params, stats),
        leave=starts_lib.keep_weights((built,), heads),
        seed=zlib.crc32(f"{config.seed}/stills".encode()),
        dataset="stills",
    )


def _beginnings(context: Context, networks) -> tuple[list[Segment], dict[str, Start]]:
    """Where the papers start from ImageNet: a weights file, generated stills, or a random draw."""
    config = context.config
    files = {n: Start(file=config.networks[n].weights) for n in networks
             if config.networks[n].weights}  # fmt: skip
    if not has_stills(config):
        return [], files
    head = headline_network(config)
    return [stills(context, head)], {n: Start(STILLS, head) for n in networks} | files


def single(context: Context) -> list[Segment]:
    """Every network alone with cross-entropy, stepped together."""
    networks = tuple(context.config.networks)
    first, starts = _beginnings(context, networks)
    steps = context.config.steps.ce
    ce = segment(context, "ce", networks, ("single", {}), steps, starts, stage="ce", title="CE")
    return [*first, ce]


def reduced(context: Context) -> list[Segment]:
    """MML's reduced pipeline (figure 2): CE; then the method with every network from the headline
    network's CE weights; and, to compare, CE continued from the same weights on the same batches."""
    config = context.config
    networks = tuple(n for n in config.networks if n != config.twin)
    both = {n: Start("ce", headline_network(config)) for n in networks}
    first, starts = _beginnings(context, networks)
    (name, options, title), steps = _method(config), config.steps.method
    plain = ("single", {})
    return [
        *first,
        segment(context, "ce", networks, plain, config.steps.ce, starts, stage="ce", title="CE"),
        segment(
            context, "ce_continued", networks, plain, steps, both, stage="2", title="CE continued"
        ),
        segment(context, name, networks, (name, options), steps, both, stage="2", title=title),
    ]


def full(context: Context) -> list[Segment]:
    """MML's best single model (figure 1): two CE runs, mutual learning of the two, then mutual
    modality learning with every network from C(RGB). CE is continued through the same two stages:
    the same batches, schedules and updates."""
    config = context.config
    head, twin, steps = headline_network(config), config.twin, config.steps
    networks = tuple(n for n in config.networks if n != twin)
    first, starts = _beginnings(context, (*networks, twin))
    (name, options, title), plain = _method(config), ("single", {})
    own = {n: s for n, s in starts.items() if n != twin}
    other = {twin: starts[twin]} if twin in starts else {}
    apart = {head: Start("ce", head), twin: Start("ce2", twin)}

    def after(segment_name, network=None):
        return {n: Start(segment_name, network or n) for n in networks}

    def stage(label, *what, **more):
        return segment(context, *what, stage=label, **more)

    return [
        *first,
        stage("ce", "ce", networks, plain, steps.ce, own, title="CE"),
        stage("ce2", "ce2", (twin,), plain, steps.ce, other, title=""),
        stage("2", "ce_again", networks, plain, steps.ml, after("ce", head), title=""),
        stage("3", "ce_continued", networks, plain, steps.method, after("ce_again"),
              title="CE continued"),
        stage("2", "ml", (head, twin), (name, options), steps.ml, apart, title="ML"),
        stage("3", name, networks, (name, options), steps.method, after("ml", head), title=title),
    ]  # fmt: skip


def compare(context: Context) -> list[Segment]:
    """The methods of ``config.compare`` one after another, each from the same draw of weights on
    the same batches with the same schedule. Frozen teachers come from 'independent', which must
    stand before a method that asks for some.

    Raises ValueError for a method named twice, none at all, or teachers that nobody has trained.
    """
    config, networks = context.config, tuple(context.config.networks)
    names = tuple(config.compare)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare={names}: name one or more methods, each once")
    first, starts = _beginnings(context, networks)
    segments: list[Segment] = []
    for name in names:
        options = dict(config.method.get(name) or {})
        teachers = _teachers(config, name, options, trained="independent" in names[: len(segments)])
        segments.append(segment(
            context, name, networks, (name, options), config.steps.method, starts | teachers,
            stage="compare", title=TITLES.get(name, name.upper()),
        ))  # fmt: skip
    return [*first, *segments]


def _teachers(config, name: str, options: dict, *, trained: bool) -> dict[str, Start]:
    """Where the frozen networks of a method come from."""
    reads = {o: name for name, s in config.networks.items() for read in s.reads for o in read}
    heads = {"any": Head(2)}
    teachers = make_method(name, tuple(reads), heads, options).teachers
    if teachers and not trained:
        raise ValueError(
            f"{name} learns from {', '.join(teachers)}, trained before: put 'independent' before it "
            "in --config.compare"
        )
    return {reads[t]: Start("independent", reads[t]) for t in teachers}


TITLES = {
    "independent": "Independent",
    "random_teacher": "Random teacher",
    "generalized_distillation": "GD",
}
PLANS = {"single": single, "reduced": reduced, "full": full, "compare": compare}
BASELINES = ("ce_continued", "independent")


def baseline(segments: list[Segment]) -> str:
    """The segment that the last one is compared with; '' where there is none before it."""
    return next((s.name for s in segments[:-1] if s.name in BASELINES and s.title), "")


def make(context: Context) -> list[Segment]:
    """The configured plan. Raises ValueError for an unknown name, or a stream that nobody reads, or two."""
    name = context.config.plan
    if name not in PLANS:
        raise ValueError(f"plan={name!r} is unknown; choose one of {sorted(PLANS)}")
    check_outputs(context.config)
    segments = PLANS[name](context)
    check_streams(context.config)
    return segments
