"""The groups of a segment's batch, and the steps in which they show their clips once."""

from collections.abc import Mapping

from mmvid.data.augment import Augment
from mmvid.data.groups import Group

# The group of a segment that names none; epochs count its clips.
MAIN = "main"


def default_groups(config) -> dict[str, Group]:
    """The groups of a segment that names none: 'main', which shows the configured split in one view, 'train'."""
    return {MAIN: Group(config.split, config.batch_size, {"train": Augment(**config.augment)})}


def _clips_of(context, name: str, group: Group) -> int:
    if group.dataset not in context.clips:
        raise ValueError(
            f"group {name!r} shows clips of the dataset {group.dataset!r}; there are {sorted(context.clips)}. "
            f"Write c.datasets.{group.dataset} = dict(path='data/..', command=())"
        )
    # Scored beside the main dataset's splits, a further one's subset is learnt from as its own.
    own = context.config.subsets.get(group.split, {}).get("dataset", "dataset")
    if group.split in context.config.subsets and own != group.dataset:
        raise ValueError(
            f"group {name!r} shows the subset {group.split!r} of {group.dataset!r}, but it is one of {own!r}: "
            f"give the group dataset={own!r}, or name another split"
        )
    splits = context.clips[group.dataset]
    if not splits.get(group.split):
        raise ValueError(
            f"group {name!r} shows the split {group.split!r} of {group.dataset!r}, which has clips of {splits}: "
            "name another one (--config.split), make a subset of that name in config.subsets, or fill it"
        )
    return splits[group.split]


def steps(context, groups: Mapping[str, Group], epoch_of: str = MAIN) -> float:
    """The number of steps, perhaps a fraction, in which the group ``epoch_of`` shows each of its clips once.
    Raises ValueError for a group whose dataset or split does not exist or is empty."""
    # All groups are counted, so that the error comes for the others, too.
    clips = {name: _clips_of(context, name, group) for name, group in groups.items()}
    return clips[epoch_of] / groups[epoch_of].batch_size
