"""The plan 'compare': several methods, each trained from the same draw of weights on the same batches."""

from mmvid.plans import method, segment, stills
from mmvid.plans.networks import configured
from mmvid.plans.segment import Context, Segment
from mmvid.plans.starts import Start
from mmvid.streams import Head


def make(context: Context) -> list[Segment]:
    """The methods of ``config.compare`` one after another, each from the same draw of weights on
    the same batches with the same schedule. Frozen teachers come from 'independent', which must
    stand before a method that asks for some, or, without it, from the file of weights that their network is
    given.

    Raises ValueError for a method named twice, none at all, or teachers that nobody has trained.
    """
    config, networks = context.config, tuple(context.config.networks)
    names = tuple(config.compare)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"compare={names}: name one or more methods, each once")
    first, starts = stills.beginnings(context, networks)
    segments: list[Segment] = []
    for name in names:
        options = dict(config.method.get(name) or {})
        # Only what stands before a method in the list has weights by the time that it is trained.
        teachers = _teachers(config, name, options, trained="independent" in names[: len(segments)])
        # The same batches and draws for all, so that methods differ in nothing but themselves.
        made = segment.make(
            context,
            name,
            networks,
            (name, options),
            config.steps.method,
            starts | teachers,
            batches="compare",
            title=TITLES.get(name, name.upper()),
        )
        segments.append(made)
    return [*first, *segments]


def _teachers(config, name: str, options: dict, *, trained: bool) -> dict[str, Start]:
    """The starts of a method's frozen networks, {network: Start}, from the segment 'independent'; {} where this
    has not ``trained`` them, and they begin with a file of weights.

    Raises ValueError where the method has teachers with neither.
    """
    owners = configured(config)
    # The method is made for its teachers alone, and who they are does not depend on the label spaces.
    teachers = method.make(name, tuple(owners), {"any": Head(2)}, options).teachers
    networks = tuple(dict.fromkeys(owners[t].name for t in teachers))
    if trained:
        return {network: Start("independent", network) for network in networks}
    # Whether a file holds what can teach is checked with all weights (`fit.check_teachers`).
    if untaught := [network for network in networks if not config.networks[network].weights]:
        raise ValueError(
            f"{name} learns from {', '.join(teachers)}, trained before: put 'independent' before it in "
            f"--config.compare, or name a run's weights.safetensors in --config.networks.{untaught[0]}.weights"
        )
    return {}


TITLES = {
    "independent": "Independent",
    "random_teacher": "Random teacher",
    "generalized_distillation": "GD",
}
