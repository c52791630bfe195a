"""The lines that a run tells its user: how fast it is, how long it will take, what waiting for input costs, and
how to go on."""

import jax

from mmvid import logs
from mmvid.data.groups import Group
from mmvid.logs import LOG
from mmvid.models import options_of
from mmvid.plans import learning, stills
from mmvid.plans.segment import Segment
from mmvid.run import devices, inference
from mmvid.run.build import Run


def _work(segment: Segment) -> float:
    """Frames that go through networks in a step: a rough measure in which segments' costs compare."""
    frames = sum(
        segment.streams[s].sampling.frames for network in segment.networks for read in network.reads for s in read
    )
    return float(frames * sum(group.batch_size * len(group.views) for group in segment.groups.values()))


def _left(run: Run, segment: Segment, step: int, seconds: float) -> float:
    """An estimate of the seconds to the end of the run, from the ``seconds`` that a step of this segment
    takes."""
    later = run.segments[run.segments.index(segment) + 1 :]
    # Scores and the compilation of later segments are left out.
    work = (segment.stop - step) * _work(segment) + sum(s.steps * _work(s) for s in later)
    return seconds * work / _work(segment)


def _clips(run: Run, group: Group) -> str:
    """The clips that a group shows, in words."""
    dataset = run.datasets[group.dataset]
    clips, info = len(dataset.split(group.split)), dataset.info
    return f"{clips} {group.split} clips of {info.name} (fingerprint {info.fingerprint})"


def _header(run: Run, segment: Segment, step: int, start: int, clock: logs.Clock) -> str:
    seconds = clock.seconds()
    data = " and ".join(dict.fromkeys(_clips(run, group) for group in segment.groups.values()))
    resumed = f", resumed at step {start}" if start > segment.first_step else ""
    return (
        f"{segment.name}{resumed}: {logs.machine()}; {data}; {1 / seconds:.2f} steps/s, "
        f"{logs.duration(_left(run, segment, step, seconds))} left in all; "
        f"{logs.free_disk(run.workdir)}"
    )


def say_idle_accelerator() -> None:
    """Warns where JAX computes on the CPU of a machine that has an accelerator."""
    if text := devices.warning(jax.default_backend(), jax.__version__):
        LOG.warning("%s", text)


def _random(config) -> list[str]:
    """The networks that start from random weights."""
    if stills.has_stills(config):
        return []
    # Copies begin as the parts of what they copy, and take no weights of their own.
    copies = {copy for parts in config.blend.copies.values() for copy in parts.values()}
    return [name for name, network in config.networks.items() if not network.weights and name not in copies]


def say_random(config) -> None:
    """Says which networks start from random weights, where the papers' start from ImageNet."""
    if not (bare := _random(config)):
        return
    option = f"--config.networks.{bare[0]}.weights=FILE.safetensors"
    if len(config.networks[bare[0]].reads[0]) > 1:
        # A published file is of one encoder, and a command line gives a network one text.
        option = f"networks.{bare[0]}.weights = {{stream: 'FILE.safetensors'}} in the experiment's file"
    LOG.info("%s: random weights at the start; %s takes ImageNet's", ", ".join(bare), option)


def say_untrained_norms(config) -> None:
    """Warns of networks whose batch norms are frozen as they are drawn."""
    for name in _random(config):
        spec = config.networks[name]
        options = learning.own(config.model_options, spec.options)
        if options.get("frozen_bn") == "all" and "frozen_bn" in options_of(spec.model):
            LOG.warning(
                "%s: its batch norms are frozen, and without trained weights they normalise nothing: give "
                "--config.networks.%s.weights=FILE, or --config.networks.%s.options.frozen_bn=none",
                name, name, name,
            )  # fmt: skip


def _estimate(run: Run, segment: Segment, step: int, clock: logs.Clock) -> None:
    """Says a first estimate of the run's time where the segment's header is more than some seconds away."""
    seconds = clock.seconds()
    if seconds > 1:
        LOG.info(
            "%s: the first step took %s (it is compiled then), the second %s: about %s in all; a closer "
            "figure follows in %s",
            segment.name,
            logs.duration(clock.first),
            logs.duration(seconds),
            logs.duration(_left(run, segment, step, seconds)),
            logs.duration(5 * seconds),
        )


def _say_shares(run: Run, segment: Segment) -> None:
    """Says what each of several networks that learn together costs, where they are not of one kind: a narrow
    auxiliary that sees more frames may not be as cheap as it looks."""
    learners = [network for network in segment.networks if not network.frozen]
    if len({_kind(run.config, segment, network) for network in learners}) < 2:
        return
    efforts = [inference.counted(network, segment.streams, run.config.size) for network in learners]
    LOG.info("%s: of a step's multiply-adds %s", segment.name, inference.said(inference.shares(efforts)))


def _kind(config, segment: Segment, network) -> str:
    """What decides a network's cost, but for its input's channels."""
    spec = config.networks[network.name]
    frames = [[segment.streams[stream].sampling.frames for stream in read] for read in network.reads]
    return f"{spec.model} {sorted(spec.options.to_dict().items())} {frames}"


def announce(run: Run, segment: Segment, step: int, start: int, clock: logs.Clock, values) -> None:
    """Says, after the steps at which each is known: an estimate of the run's time (second step, where steps are
    slow), the segment's header with its speed (seventh), and what waiting for input costs (sixtieth)."""
    # The first step compiles, the second is the first fair one.
    first, warm, shown = start + 1, start + 2, min(start + 7, segment.stop)
    if step in (first, warm, shown):
        # Steps are dispatched ahead of the device: without waiting, dispatch would be timed.
        jax.block_until_ready(values)
    if step == first:
        clock.first = clock.elapsed()
    if step == warm and shown > warm:
        _estimate(run, segment, step, clock)
    # The speed in the header is of the steps after these two.
    if step in (first, warm):
        clock.reset()
    if step == shown:
        LOG.info(_header(run, segment, step, start, clock))
        _say_shares(run, segment)
        if segment is run.segments[0]:
            say_random(run.config)
    if step == min(start + 60, segment.stop):
        loader = run.config.loader
        advice = logs.input_advice(clock, loader.workers, loader.threads)
        LOG.info("%s: %s", segment.name, advice)


def goodbye(run: Run, segment: Segment, step: int) -> str:
    """The message of a run that a signal has ended."""
    return (
        f"stopped by {run.stop.get('signal', 'another process')} at step {step} of "
        f"{segment.name}; everything is saved in {run.workdir}. The same command goes on."
    )
