"""A segment, that is, a stretch of training, and how one is made from a configuration."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mmvid import methods, optim
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.methods import METHODS
from mmvid.methods.base import WEIGHTS, Method
from mmvid.network import Network
from mmvid.plans import fit, keys, learning
from mmvid.plans import starts as starts_lib
from mmvid.plans.networks import configured, make_network, make_streams
from mmvid.plans.starts import STILLS, Start
from mmvid.streams import Head, Stream


class Segment(NamedTuple):
    """A stretch of training: the steps after ``first_step``, up to and with ``stop``. The shape of its
    TrainState follows from the segment alone.

    ``groups`` are the parts of its batch; an epoch shows each clip of the group ``epoch_of`` once. ``tx``
    and ``lr`` hold each network's optimiser and its learning rate by step. Batches, random keys and rates
    depend on the number of their step, so that a segment with a ``first_step`` goes on where another one
    ended.
    ``enter(Beginning, run) -> Beginning`` takes drawn weights and returns what the segment begins with;
    ``leave(state, directory)`` writes the final weights. Both run on the host, in every process on the
    same files: they read and write nothing but files of runs, and never train.
    ``evaluate`` names the splits that are scored at the end, ``measure`` those that are also scored before
    the first step. ``checkpoint`` says which one is scored and kept at the end: the 'last', or the 'best',
    by the output ``headline``. A segment without a ``title`` is not shown in tables.
    ``spec`` is the plain data that all this was made from (`keys.spec`), or {} where there is none.
    Segments with equal specs share compiled programs and results: who replaces a part of a segment must
    replace it there, too.
    """

    name: str
    steps: int
    networks: tuple[Network, ...]
    streams: dict[str, Stream]
    heads: dict[str, Head]
    method: Method
    tx: dict[str, Any]
    lr: dict[str, optim.Schedule]
    groups: dict[str, Group]
    steps_per_epoch: float
    enter: Callable
    leave: Callable
    seed: int
    epoch_of: str = "main"
    title: str = ""
    evaluate: tuple[str, ...] = ()
    first_step: int = 0
    measure: tuple[str, ...] = ()
    checkpoint: str = "last"
    headline: str = ""
    spec: Mapping = {}

    @property
    def stop(self) -> int:
        """The last step."""
        return self.first_step + self.steps

    @property
    def main(self) -> Group:
        """The group whose clips are an epoch: ``epoch_of``."""
        return self.groups[self.epoch_of]

    @property
    def dataset(self) -> str:
        """The dataset whose labels it learns, and whose splits it is scored on."""
        # Unlabelled clips of another dataset may count the epochs: nothing is scored on those.
        labelled = [group for group in self.groups.values() if group.labels]
        return (labelled or [self.main])[0].dataset


class Context(NamedTuple):
    """What a plan is made from: the configuration, the label spaces of the main dataset and of the stills,
    the number of ``clips`` as {dataset: {split: clips}}, and {dataset: fingerprint}."""

    config: Any
    heads: dict[str, Head]
    clips: dict[str, dict[str, int]]
    stills_heads: dict[str, Head]
    fingerprints: Mapping[str, str] = {}


def default_groups(config) -> dict[str, Group]:
    """The groups of a segment that names none: 'main', which shows the configured split in one view, 'train'."""
    return {"main": Group(config.split, config.batch_size, {"train": Augment(**config.augment)})}


def _clips_of(context: Context, name: str, group: Group) -> int:
    if group.dataset not in context.clips:
        raise ValueError(
            f"group {name!r} shows clips of the dataset {group.dataset!r}; there are {sorted(context.clips)}. "
            f"Write c.datasets.{group.dataset} = dict(path='data/..', command=())"
        )
    splits = context.clips[group.dataset]
    if not splits.get(group.split):
        raise ValueError(
            f"group {name!r} shows the split {group.split!r} of {group.dataset!r}, which has clips of {splits}: "
            "name another one (--config.split), make a subset of that name in config.subsets, or fill it"
        )
    return splits[group.split]


def epoch_steps(context: Context, groups: Mapping[str, Group], epoch_of: str = "main") -> float:
    """The number of steps, perhaps a fraction, in which the group ``epoch_of`` shows each of its clips once.
    Raises ValueError for a group whose dataset or split does not exist or is empty."""
    # All groups are counted, so that the error comes for the others, too.
    clips = {name: _clips_of(context, name, group) for name, group in groups.items()}
    return clips[epoch_of] / groups[epoch_of].batch_size


def check_passes(segment: str, groups: Mapping[str, Group], made: Method) -> None:
    """Raises ValueError where a method's passes read a view that no group of ``segment`` has, or where no
    pass reads one that a group has."""
    there = {(name, view) for name, group in groups.items() for view in group.views}
    read = {of for pass_ in made.passes for of in pass_.of}
    if lacking := sorted(read - there):
        raise ValueError(
            f"segment {segment!r}: its method reads view {lacking[0][1]!r} of group {lacking[0][0]!r}; its groups "
            f"have {sorted(there)}. Give the segment that group and view"
        )
    if idle := sorted(there - read):
        raise ValueError(
            f"segment {segment!r}: no pass of its method reads view {idle[0][1]!r} of group {idle[0][0]!r}, which "
            "would be decoded for nothing: leave it out"
        )


def check_options(segment: str, made: Method, streams: Mapping[str, Stream], ema: float) -> None:
    """Raises ValueError where a pass of a method hides a stream that is not there, or runs with weights of
    which there are none."""
    for pass_ in made.passes:
        if unknown := sorted(set(pass_.hide) - set(streams)):
            raise ValueError(
                f"segment {segment!r}: a pass of its method hides {unknown[0]!r}; there are the streams "
                f"{sorted(streams)}"
            )
        if pass_.weights not in WEIGHTS:
            raise ValueError(
                f"segment {segment!r}: a pass of its method runs with the weights {pass_.weights!r}: choose one "
                f"of {WEIGHTS}"
            )
        if pass_.weights == "ema" and not ema:
            raise ValueError(
                f"segment {segment!r}: a pass of its method runs with moving averages, and none are kept: set "
                "--config.ema, for instance to 0.999"
            )


def make_method(name: str, outputs: tuple[str, ...], heads, options: Mapping) -> Method:
    """The method ``name`` for these outputs and label spaces. Raises ValueError that lists the known methods
    for an unknown name, or the method's options for an unknown option."""
    if name not in METHODS:
        raise ValueError(f"method {name!r} is unknown; choose one of {sorted(METHODS)}")
    known = methods.options(name)
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise ValueError(f"method {name!r} has no option {unknown[0]!r}; its options: {list(known)}")
    return METHODS[name](outputs, heads, **options)


def method(config) -> tuple[str, dict, str]:
    """The configured method's name, its options (those under its name in ``config.method``) and its title."""
    name = config.method.name
    return name, dict(config.method.get(name) or {}), config.method.title or name.upper()


def _teaches(network: Network, teachers: tuple[str, ...]) -> bool:
    """Whether a network is a frozen teacher. Raises ValueError where only some of its outputs are teachers:
    the others would learn, and a network is frozen as a whole."""
    own = [output in teachers for output in network.outputs]
    if any(own) and not all(own):
        raise ValueError(f"network {network.name!r} cannot be a teacher and learn, too: {network.reads}")
    return all(own)


def _check_teachers(config, networks, teachers, starts: dict[str, Start], heads) -> None:
    """Raises ValueError for a frozen network that does not start with weights and a classifier trained for
    what it reads, and for one that holds the run's headline, since teachers are not scored."""
    if config.headline in teachers:
        raise ValueError(f"headline={config.headline!r} is the frozen teacher: name one of its students")
    for network in networks:
        start = starts.get(network.name, Start())
        # Stills are another task, and another network reads something else: neither can teach.
        own = start.segment not in ("", STILLS) and start.network == network.name
        if network.frozen and start.file and fit.fresh(config, network, starts, heads):
            raise ValueError(
                f"network {network.name!r} is a frozen teacher, but {start.file} brings no classifier for "
                f"{sorted(heads)}: name a weights.safetensors of a run with these classes"
            )
        if network.frozen and not own and not start.file:
            raise ValueError(
                f"network {network.name!r} is a frozen teacher, but plan {config.plan!r} trains none: take "
                "--config.plan=compare with 'independent' before the method in --config.compare"
            )


def make(
    context: Context,
    name: str,
    networks: tuple[str, ...],
    method: tuple[str, dict],
    duration,
    starts: dict[str, Start],
    *,
    stage: str,
    title: str,
    groups: Mapping[str, Group] | None = None,
    epoch_of: str = "main",
) -> Segment:
    """Makes a segment named ``name`` that trains ``networks`` with ``method`` (name, options) for
    ``duration`` (as `optim.steps_of` reads it), from ``starts`` {network: `Start`}.

    It learns from the main dataset, or from ``groups``, of which ``epoch_of`` counts the epochs. Segments
    of one ``stage`` see the same batches and draw the same weights. Raises ValueError or FileNotFoundError
    for whatever cannot work.
    """
    config, heads = context.config, context.heads
    streams = make_streams(config)
    built = tuple(make_network(config, n, heads, streams) for n in networks)
    fit.check(config, built, starts, heads)
    # What another segment's networks read would be decoded here for nothing.
    read = {s for network in built for group in network.reads for s in group}
    streams = {s: streams[s] for s in streams if s in read}
    groups = dict(groups or default_groups(config))
    per_epoch = epoch_steps(context, groups, epoch_of)
    steps = optim.steps_of(duration, steps_per_epoch=per_epoch)
    if steps < 1:
        raise ValueError(f"segment {name!r} would last {steps} steps ({duration!r}): give it 1 or more")
    outputs = tuple(output for network in built for output in network.outputs)
    made = make_method(method[0], outputs, heads, method[1])
    check_passes(name, groups, made)
    check_options(name, made, streams, config.ema)
    # Who is frozen is the method's to say; the configuration of a network knows nothing of it.
    built = tuple(n._replace(frozen=_teaches(n, made.teachers)) for n in built)
    _check_teachers(config, built, made.teachers, starts, heads)
    enter = starts_lib.starting_from(starts, built, heads)
    # Equal networks are in vain only where they learn from each other: 'single' trains each alone.
    if len(outputs) > 1 and METHODS[method[0]] is not METHODS["single"]:
        starts_lib.check_starts(config, built, streams, starts)
        enter = starts_lib.refuse_equals(enter, built, streams)
    learnt = {n.name: learning.of(config, n, fresh=fit.fresh(config, n, starts, heads)) for n in built}
    tx, lr = learning.make(learnt, steps=steps, steps_per_epoch=per_epoch)
    # Of the stage, not the name: a method and its baseline see the same batches. Python's own hash of a
    # text would differ from process to process.
    seed = zlib.crc32(f"{config.seed}/{stage}".encode())
    # A segment need not train the run's headline (MML's second CE run does not): its own first output then.
    learners = [output for network in built if not network.frozen for output in network.outputs]
    headline = config.headline if config.headline in learners else learners[0]
    # Whatever changes this segment's weights must stand here: another run would reuse the wrong ones.
    spec = keys.spec(
        config, built,
        # The schedule's length apart from `steps`: a continuation changes these and keeps the schedule.
        program={"streams": streams, "heads": heads, "method": method, "learning": learnt,
                 "schedule_steps": steps, "steps_per_epoch": per_epoch},
        # A share of 0 hides nothing: it must not change the key.
        data={"salt": seed, "missing": {field: share for field, share in config.missing.items() if share},
              "epoch_of": epoch_of, **keys.of_groups(config, groups, context.fingerprints)},
        starts=starts, steps=steps, first_step=0, checkpoint=keys.kept(config, headline),
    )  # fmt: skip
    return Segment(
        name=name,
        steps=steps,
        networks=built,
        streams=streams,
        heads=heads,
        method=made,
        tx=tx,
        lr=lr,
        groups=groups,
        epoch_of=epoch_of,
        steps_per_epoch=per_epoch,
        enter=enter,
        leave=starts_lib.keep_weights(built, heads),
        seed=seed,
        title=title,
        evaluate=tuple(config.evaluation.splits),
        checkpoint=config.evaluation.checkpoint,
        headline=headline,
        spec=spec,
    )


def headline_network(config) -> str:
    """The name of the network that has the output ``config.headline``. Raises ValueError that lists the
    outputs where none has it."""
    owners = configured(config)
    if config.headline not in owners:
        raise ValueError(f"headline={config.headline!r} is unknown; choose one of {sorted(owners)}")
    return owners[config.headline].name
