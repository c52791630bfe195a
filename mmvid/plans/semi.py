"""The plan 'semi': learning from few labels and many clips without, and what it is compared with.

Every arm of ``config.semi.arms`` is a segment, and the run's own method, CMPL or FixMatch, is the last one. All
take as many steps, with the same rates; networks of one name begin alike and see the same batches.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from mmvid import methods
from mmvid.data.augment import Augment
from mmvid.data.groups import Group
from mmvid.methods.semi import LABELLED, STRONG, TRAIN, UNLABELLED, WEAK
from mmvid.plans import epochs, segment, stills
from mmvid.plans.epochs import MAIN
from mmvid.plans.segment import Context, Segment

# The segment of the run's own method.
METHOD = "method"
# What an arm may learn by, and what readers call it: from the labels alone, or from pseudo-labels as well.
ALONE = "single"
TITLES = {ALONE: "Supervised", "fixmatch": "FixMatch", "cmpl": "CMPL"}
# What the arm is called that others are compared with in tables.
BASELINE = "fixmatch"
# What an entry of semi.arms may say beside options of its method.
_OF_ARMS = ("networks", "method", "title", "labelled")


class Arm(NamedTuple):
    """A segment: ``networks`` learn with ``method`` (name, options) from the labels of the subset ``labelled``."""

    name: str
    networks: tuple[str, ...]
    method: tuple[str, dict]
    labelled: str
    title: str


def make(context: Context) -> list[Segment]:
    """The arms, and the run's own method; before them what the networks start from, where it is stills.

    Raises ValueError for a method that learns from no unlabelled clips, networks and splits that are not there,
    and for whatever else cannot work.
    """
    arms = _arms(context)
    networks = tuple(dict.fromkeys(name for arm in arms for name in arm.networks))
    first, starts = stills.beginnings(context, networks)
    return [*first, *(_segment(context, arm, starts) for arm in arms)]


# ---------------------------------------------------------------------------- arms
def _arms(context: Context) -> list[Arm]:
    """The arms in their order, the run's own last."""
    config = context.config
    semi, own = config.semi, config.method.name
    if own not in TITLES or own == ALONE:
        raise ValueError(
            f"method.name={own!r} learns nothing from unlabelled clips: plan 'semi' takes 'fixmatch' or 'cmpl'"
        )
    _check_splits(context)
    if METHOD in semi.arms:
        raise ValueError(f"semi.arms.{METHOD}: that is the run's own segment; choose another name")
    asked = {name: dict(spec) for name, spec in semi.arms.items()}
    title = config.method.title or TITLES[own]
    asked[METHOD] = {"networks": semi.networks or _headline_first(config), "method": own, "title": title}
    *arms, own = [_arm(context, name, spec) for name, spec in asked.items()]
    # A configuration is ordered by its names: what learns from less comes first.
    return [*sorted(arms, key=lambda arm: [*TITLES].index(arm.method[0])), own]


def _headline_first(config) -> tuple[str, ...]:
    """All networks, that of the headline before the others: it is the primary one."""
    main = segment.headline_network(config)
    return (main, *(name for name in config.networks if name != main))


def _arm(context: Context, name: str, spec: Mapping) -> Arm:
    """Reads an entry of ``semi.arms``. Raises ValueError for what it cannot say."""
    config, given = context.config, spec.get("networks", ())
    networks = (given,) if isinstance(given, str) else tuple(given)
    method = spec.get("method")
    known = methods.options(method) if method in TITLES else {}
    unknown = set(networks) - set(config.networks)
    if (not known and method != ALONE) or not networks or unknown or set(spec) - {*_OF_ARMS, *known}:
        raise ValueError(
            f"semi.arms.{name}={spec}: write dict(networks=(NAME, ..), method='fixmatch'), with networks of "
            f"{sorted(config.networks)}, a method of {tuple(TITLES)}, and perhaps a title, a labelled split and "
            f"options of the method: {', '.join(known) or 'this one has none'}"
        )
    options = known | dict(config.method.get(method) or {}) | {k: v for k, v in spec.items() if k in known}
    labelled = spec.get("labelled", config.semi.labelled)
    _check_split(context, f"semi.arms.{name}.labelled", labelled, "dataset")
    return Arm(name, networks, (method, options), labelled, spec.get("title", name))


def _check_splits(context: Context) -> None:
    """Raises ValueError where a split or subset that ``config.semi`` names is not there, or has no clip."""
    semi = context.config.semi
    _check_split(context, "semi.labelled", semi.labelled, "dataset")
    _check_split(context, "semi.unlabelled", semi.unlabelled, semi.dataset)
    if semi.followed:
        _check_split(context, "semi.followed", semi.followed, "dataset")


def _check_split(context: Context, entry: str, split: str, dataset: str) -> None:
    if dataset not in context.clips:
        raise ValueError(
            f"semi.dataset={dataset!r} is unknown; there are {sorted(context.clips)}. Write "
            f"c.datasets.{dataset} = dict(path='data/..', command=())"
        )
    if not (known := context.clips[dataset]).get(split):
        raise ValueError(
            f"{entry}={split!r} is no split or subset with clips; there are {known}: name one of them, or write "
            f"c.subsets.labelled = dict(of='train', per_class=5) and c.subsets.unlabelled = dict(of='train', "
            "without='labelled')"
        )


# ---------------------------------------------------------------------------- segments
def _groups(context: Context, labelled: str) -> dict[str, Group]:
    """The groups of a step that learns from the clips ``labelled`` and from those without labels."""
    config, semi = context.config, context.config.semi
    # A flip exchanges the labels of these clips, too, although nobody reads them: both views or none.
    turned = tuple(config.augment.flip_labels)
    views = {name: Augment(**semi[name])._replace(flip_labels=turned) for name in (WEAK, STRONG)}
    audit = semi.dataset == "dataset" or _same_labels(context, semi.dataset)
    unlabelled = Group(semi.unlabelled, semi.unlabelled_batch, views, False, semi.dataset, audit)
    return {
        LABELLED: Group(labelled, semi.labelled_batch, {TRAIN: Augment(**config.augment)}),
        UNLABELLED: unlabelled,
    }


def _same_labels(context: Context, dataset: str) -> bool:
    """Whether a further dataset has the label spaces that are learnt, so that its own labels can tell which
    pseudo-labels are right."""
    own = context.further.get(dataset, {})
    return all(own.get(name) == head for name, head in context.heads.items())


def _segment(context: Context, arm: Arm, starts: Mapping) -> Segment:
    config, (method, _) = context.config, arm.method
    groups, epoch_of = _groups(context, arm.labelled), UNLABELLED
    # An epoch is one of the unlabelled clips for all, so that all have the same schedule.
    per_epoch = epochs.steps(context, groups, UNLABELLED)
    if method == ALONE:
        groups, epoch_of = {MAIN: groups[LABELLED]}, MAIN
    own = {target: start for target, start in starts.items() if target.partition(".")[0] in arm.networks}
    made = segment.make(
        context, arm.name, arm.networks, arm.method, config.steps.method, own, batches=METHOD, title=arm.title,
        groups=groups, epoch_of=epoch_of, steps_per_epoch=per_epoch,
    )  # fmt: skip
    also = tuple(dict.fromkeys([*made.also, *filter(None, [config.semi.followed])]))
    also = tuple(split for split in also if split not in made.evaluate)
    # Figures alone need it: one draw is enough.
    thinned = tuple(config.semi.thinned) if arm.labelled == config.semi.labelled else ()
    # Who is the primary network is said by their order, which nothing else in a spec tells.
    spec = {**made.spec, "program": {**made.spec["program"], "order": list(arm.networks)}}
    return made._replace(also=also, thinned=thinned, check=check_clips(groups), spec=spec)


def check_clips(groups: Mapping[str, Group]) -> Callable:
    """Returns a ``check(run)`` that raises ValueError where clips that a run is scored on are among those that its
    ``groups`` learn from, with or without labels."""

    def check(run) -> None:
        for group in groups.values():
            learnt = run.datasets[group.dataset].split(group.split)
            for split in run.config.evaluation.splits:
                source = run.datasets["dataset"].split(split)
                # Another dataset may well call other clips by the same names.
                same = source.info.fingerprint == learnt.info.fingerprint
                # A set of the split that is scored: of the clips to learn from there may be millions.
                if same and (both := {*source.ids()}.intersection(learnt.ids())):
                    raise ValueError(
                        f"the {'' if group.labels else 'un'}labelled clips {group.split!r} have {len(both)} of "
                        f"{split!r}, on which the run is scored (evaluation.splits): name clips of training, "
                        "--config.semi.labelled=.., --config.semi.unlabelled=train"
                    )

    return check
