"""A segment, that is, a stretch of training, and how one is made from a configuration."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from mmvid import optim
from mmvid.data.groups import Group
from mmvid.methods.base import Method
from mmvid.models.model import Needs
from mmvid.network import Network
from mmvid.plans import epochs, fit, keys, learning
from mmvid.plans import method as method_lib
from mmvid.plans import starts as starts_lib
from mmvid.plans.epochs import MAIN
from mmvid.plans.networks import configured, make_network, make_streams
from mmvid.plans.starts import Start
from mmvid.scores import temperature
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
    same files: they read and write nothing but files of runs, and never train. A segment that is resumed
    hands ``enter`` a Beginning of its frozen networks alone (`Beginning.of_frozen`), and only their weights
    are asked for.
    ``evaluate`` names the splits that are scored at the end and shown, ``also`` those that are scored then
    and not shown, ``measure`` those that are also scored before the first step. ``checkpoint`` says which
    one is scored and kept at the end: the 'last', or the 'best', by the output ``headline``. ``outputs`` are
    those that are scored, and () all of the networks that learn. A segment without a ``title`` is not shown in
    tables; outputs may have ``titles`` of their own. ``check(run)`` raises ValueError or FileNotFoundError, before
    anything is trained, for files of earlier runs that ``enter`` could not use.
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
    epoch_of: str = MAIN
    title: str = ""
    evaluate: tuple[str, ...] = ()
    first_step: int = 0
    also: tuple[str, ...] = ()
    measure: tuple[str, ...] = ()
    checkpoint: str = "last"
    headline: str = ""
    outputs: tuple[str, ...] = ()
    spec: Mapping = {}
    check: Callable | None = None
    titles: Mapping[str, str] = {}

    @property
    def stop(self) -> int:
        """The last step."""
        return self.first_step + self.steps

    @property
    def scored(self) -> tuple[str, ...]:
        """The splits that are scored at its end, shown or not."""
        return (*self.evaluate, *self.also) if self.evaluate else ()

    @property
    def needs(self) -> dict[str, Needs]:
        """{output: the streams that it needs} of every scored output. Frozen teachers are not scored."""
        learners = [network for network in self.networks if not network.frozen]
        found = {output: needs for network in learners for output, needs in network.needs.items()}
        return {output: needs for output, needs in found.items() if not self.outputs or output in self.outputs}

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
    the number of ``clips`` as {dataset: {split: clips}}, {dataset: fingerprint}, and the label spaces of
    ``further`` datasets, {dataset: {head: Head}}."""

    config: Any
    heads: dict[str, Head]
    clips: dict[str, dict[str, int]]
    stills_heads: dict[str, Head]
    fingerprints: Mapping[str, str] = {}
    further: Mapping[str, Mapping[str, Head]] = {}


def _networks(config, names: tuple[str, ...], heads) -> tuple[tuple[Network, ...], dict[str, Stream]]:
    """The networks ``names``, and the streams that they read."""
    streams = make_streams(config)
    built = tuple(make_network(config, name, heads, streams) for name in names)
    # What another segment's networks read would be decoded here for nothing.
    read = {stream for network in built for together in network.reads for stream in together}
    return built, {name: stream for name, stream in streams.items() if name in read}


def _steps(name: str, duration, per_epoch: float) -> int:
    """The steps of a ``duration``. Raises ValueError where there is none."""
    steps = optim.steps_of(duration, steps_per_epoch=per_epoch)
    if steps < 1:
        raise ValueError(f"segment {name!r} would last {steps} steps ({duration!r}): give it 1 or more")
    return steps


def _method(name: str, config, networks, streams, groups, heads, method: tuple[str, dict]) -> Method:
    """The method of segment ``name``, checked against its groups and streams."""
    outputs = tuple(output for network in networks for output in network.outputs)
    made = method_lib.make(method[0], outputs, heads, method[1])
    method_lib.check_passes(name, groups, made)
    method_lib.check_options(name, made, streams, config.ema)
    return made


def _enter(config, networks, streams, heads, method: str, starts: dict[str, Start]) -> Callable:
    """The ``enter`` of networks that begin with ``starts``: where they learn from each other, no two of them
    may begin equal. Raises ValueError where that is known already."""
    enter = starts_lib.starting_from(starts, networks, heads)
    # A student may well begin as its frozen teacher: the labels take it elsewhere.
    learners = tuple(network for network in networks if not network.frozen)
    if not method_lib.is_mutual(method, tuple(o for n in networks for o in n.outputs)):
        return enter
    starts_lib.check_starts(config, learners, streams, starts)
    return starts_lib.refuse_equals(enter, learners, streams)


def _headline(config, networks) -> str:
    """The output that speaks for a segment: the run's, or, where it does not train that one (MML's second CE run
    does not), its own first."""
    learners = [output for network in networks if not network.frozen for output in network.outputs]
    return config.headline if config.headline in learners else learners[0]


def seed_of(config, batches: str) -> int:
    """The seed of what is called ``batches``: the clips of every step, and what is drawn for them."""
    # Of them, not of the segment: a method and its baseline see the same batches. Python's own hash of a
    # text would differ from process to process.
    return zlib.crc32(f"{config.seed}/{batches}".encode())


def assembled(
    context: Context,
    name: str,
    networks: tuple[Network, ...],
    method: tuple[str, dict],
    made: Method,
    *,
    batches: str,
    streams,
    heads,
    groups: Mapping[str, Group],
    learnt: Mapping,
    steps: int,
    data: Mapping,
    spec: Mapping,
    steps_per_epoch: float | None = None,
    **fields,
) -> Segment:
    """Puts a segment together, with optimisers, seed and spec, of what is made and checked.

    ``made`` is the method (name, options), ``learnt`` is what `learning.of` gives for each network; ``data`` and
    ``spec`` are added to the segment's spec, ``fields`` to the segment.
    """
    config, seed = context.config, seed_of(context.config, batches)
    per_epoch = steps_per_epoch or epochs.steps(context, groups, fields.get("epoch_of", MAIN))
    tx, lr = learning.make(learnt, steps=steps, steps_per_epoch=per_epoch)
    # The schedule's length apart from `steps`: a continuation changes these and keeps the schedule.
    program = {
        "streams": streams,
        "heads": heads,
        "method": method,
        "learning": learnt,
        "schedule_steps": steps,
        "steps_per_epoch": per_epoch,
    }
    data = {"salt": seed, **data, **keys.of_groups(config, groups, context.fingerprints)}
    # Whatever changes this segment's weights must stand here: another run would reuse the wrong ones.
    spec = keys.spec(config, networks, program=program, data=data, steps=steps, first_step=0, **spec)
    return Segment(
        name=name,
        networks=networks,
        method=made,
        streams=streams,
        heads=heads,
        groups=groups,
        steps=steps,
        steps_per_epoch=per_epoch,
        tx=tx,
        lr=lr,
        seed=seed,
        leave=starts_lib.keep_weights(networks, heads, starts_lib.described(config, networks, streams)),
        spec=spec,
        **fields,
    )


def make(
    context: Context,
    name: str,
    networks: tuple[str, ...],
    method: tuple[str, dict],
    duration,
    starts: dict[str, Start],
    *,
    batches: str,
    title: str,
    groups: Mapping[str, Group] | None = None,
    epoch_of: str = MAIN,
    steps_per_epoch: float | None = None,
) -> Segment:
    """Makes a segment named ``name`` that trains ``networks`` with ``method`` (name, options) for
    ``duration`` (as `optim.steps_of` reads it), from ``starts`` {network: `Start`}.

    It learns from the main dataset, or from ``groups``, of which ``epoch_of`` counts the epochs, unless
    ``steps_per_epoch`` says how long one is. Segments
    of equal ``batches`` see the same batches and draw the same weights. Raises ValueError or FileNotFoundError
    for whatever cannot work.
    """
    config, heads, starts = context.config, context.heads, starts_lib.named(starts)
    groups = dict(groups or epochs.default_groups(config))
    built, streams = _networks(config, networks, heads)
    fit.check(config, built, starts, heads)
    per_epoch = steps_per_epoch or epochs.steps(context, groups, epoch_of)
    steps = _steps(name, duration, per_epoch)
    made = _method(name, config, built, streams, groups, heads, method)
    # Who is frozen is the method's to say; the configuration of a network knows nothing of it.
    built = tuple(n._replace(frozen=method_lib.teaches(n, made.teachers)) for n in built)
    fit.check_teachers(config, built, starts, heads)
    headline = _headline(config, built)
    # A share of 0 hides nothing: it must not change the key.
    missing = {field: share for field, share in config.missing.items() if share}
    segment = assembled(
        context,
        name,
        built,
        method,
        made,
        batches=batches,
        streams=streams,
        heads=heads,
        groups=groups,
        learnt={n.name: learning.of(config, n, fresh=fit.fresh(config, n, starts, heads)) for n in built},
        steps=steps,
        data={"missing": missing, "epoch_of": epoch_of},
        spec={"starts": starts, "checkpoint": keys.kept(config, headline, context.fingerprints)},
        steps_per_epoch=per_epoch,
        enter=_enter(config, built, streams, heads, method[0], starts),
        epoch_of=epoch_of,
        title=title,
        evaluate=tuple(config.evaluation.splits),
        checkpoint=config.evaluation.checkpoint,
        headline=headline,
    )
    return segment._replace(also=_also(context, segment))


def _also(context: Context, segment: Segment) -> tuple[str, ...]:
    """The splits that a segment is scored on beside those that are shown: the one that temperatures are fitted on,
    where there are such clips."""
    there = context.clips[segment.dataset].get(temperature.FITTED) and temperature.FITTED not in segment.evaluate
    return (temperature.FITTED,) if there else ()


def headline_network(config) -> str:
    """The name of the network that has the output ``config.headline``. Raises ValueError that lists the
    outputs where none has it."""
    owners = configured(config)
    if config.headline not in owners:
        raise ValueError(f"headline={config.headline!r} is unknown; choose one of {sorted(owners)}")
    return owners[config.headline].name
