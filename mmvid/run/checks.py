"""Checks of a configuration against its data that find, before anything is trained, what would fail later."""

import os
import pathlib
import shlex
from collections.abc import Collection

from mmvid import sharding
from mmvid import streams as streams_lib
from mmvid.data import groups as groups_lib
from mmvid.data import records
from mmvid.data.groups import Group
from mmvid.plans import networks
from mmvid.plans import segment as segment_lib
from mmvid.report import text
from mmvid.run import values


def setting_of(config, name: str, group: Group) -> str:
    """The name of the setting that the batch size of the group ``name`` comes from, for messages; a plan may set a
    size of its own."""
    if group.dataset == "stills":
        return "stills.batch_size"
    if config.plan == "semi":
        return "semi.unlabelled_batch" if name == "unlabelled" else "semi.labelled_batch"
    return "batch_size"


def check_batches(config, mesh, segments) -> None:
    """Raises ValueError for a group whose batch does not divide into ``accumulate`` microbatches, or whose
    microbatch does not divide over the devices."""
    for segment in segments:
        for name, group in segment.groups.items():
            if group.batch_size < 1 or group.batch_size % config.accumulate:
                raise ValueError(
                    f"accumulate={config.accumulate} does not divide the batch of {group.batch_size} "
                    f"of group {name!r} of segment {segment.name!r}"
                )
            what = f"{setting_of(config, name, group)} (segment {segment.name!r}, group {name!r}, a microbatch)"
            sharding.check_batch_size(group.batch_size // config.accumulate, mesh, what)


def check_groups(segments, datasets: dict[str, records.Dataset], spaces) -> None:
    """Raises ValueError for a group whose views cannot be cut together, or that promises labels which its
    dataset lacks. ``spaces(info)`` gives the label spaces of a dataset."""
    for segment in segments:
        for name, group in segment.groups.items():
            groups_lib.check(name, group, segment.heads)
            if group.labels or group.audit:
                dataset = datasets[group.dataset]
                _check_labels(f"group {name!r}", segment.heads, dataset.root, spaces(dataset.info))


def check_data(segments, datasets: dict[str, records.Dataset], spaces) -> None:
    """Raises ValueError for a group whose dataset cannot serve its segment's streams, and for a split that a
    segment is to be scored on and that has no clips, or other ones than it can be scored on: they would end a
    run after hours. ``spaces(info)`` gives the label spaces of a dataset."""
    for segment in segments:
        for name, group in segment.groups.items():
            dataset = datasets[group.dataset]
            _check_fit(segment, f"group {name!r}", dataset.root, dataset.info)
        for split in (*segment.scored, *segment.measure):
            _check_scored(segment, split, datasets[segment.dataset], spaces)


def _check_fit(segment, what: str, where, info) -> None:
    for stream in segment.streams.values():
        if reason := streams_lib.unfit(stream, info.settings):
            raise ValueError(f"stream {stream.name!r}, {what}: {where} {reason}")


def _check_scored(segment, split: str, dataset: records.Dataset, spaces) -> None:
    source = dataset.split(split)
    if not len(source):
        raise ValueError(
            f"segment {segment.name!r} is to be scored on {split!r}, of which {dataset.root} has no clips: name "
            "another split, or fill it"
        )
    # A subset of a further dataset must be like what the segment learns from.
    if source.info.fingerprint != dataset.info.fingerprint:
        what = f"split {split!r} of segment {segment.name!r}"
        _check_fit(segment, what, source.info.name, source.info)
        _check_labels(what, segment.heads, source.info.name, spaces(source.info))


def _check_labels(what: str, heads, where, found) -> None:
    for head, space in heads.items():
        have = found.get(head)
        # As many classes under other names, or in another order, would train without an error.
        if have is None or have[:2] != space[:2] or (space.names and have.names != space.names):
            raise ValueError(
                f"{what} shows labelled clips of {where}, whose label spaces {sorted(found)} have "
                f"no {head!r} of the same {space.classes} classes ({space.kind}), in one order. Build it with "
                "those, or give the group labels=False"
            )


def made_by(spec) -> str:
    """The command that makes the dataset ``spec`` of a configuration; '' where it names none that does."""
    # A path that the command does not make is the user's own.
    return f"python -m {shlex.join(spec.command)}" if spec.path in spec.command else ""


def made_at(spec, path: str | os.PathLike) -> str:
    """The command that would make at ``path`` what the configuration's command makes elsewhere; '' for a
    configuration that knows none."""
    command = list(spec.command)
    if "--out" not in command[:-1]:
        return ""
    command[command.index("--out") + 1] = str(path)
    return f"python -m {shlex.join(command)}"


def fields_of(streams) -> tuple[str, ...]:
    """The fields of a record that ``streams`` read, each once."""
    return tuple(dict.fromkeys(streams_lib.MODALITIES[s.modality].field for s in streams.values()))


def check_missing(config, streams) -> None:
    """Raises ValueError where ``config.missing`` hides a field that no stream reads, or a share that is not
    between 0 and 1."""
    for field, share in config.missing.items():
        if not share:
            continue
        values.choose("missing", field, fields_of(streams))
        if not 0 <= share <= 1:
            raise ValueError(f"missing.{field}={share}: a share of the clips is a number from 0 to 1")


def _check_headline(config, dataset: records.Dataset, streams) -> None:
    """Raises ValueError where an evaluated split has no clip with what the headline's output needs: no clip
    of it could be scored."""
    needs = networks.configured(config)[config.headline].needs[config.headline]
    fields = [streams_lib.MODALITIES[streams[s].modality].field for s in needs.streams if s in streams]
    # An output that copes with absent streams is lost only where all of them are absent.
    short = all if needs.how == "any" else any
    for split in (config.evaluation.during, *config.evaluation.splits):
        # Counts are kept of whole splits, not of the subsets that a run makes of them.
        have = dataset.split(split).info.modalities.get(dataset.whole(split))
        if have is not None and fields and short(not have.get(field) for field in fields):
            field = next(field for field in fields if not have.get(field))
            raise ValueError(
                f"headline={config.headline!r} reads {field!r}, which no clip of {dataset.root}/{split} has: "
                f"there is {', '.join(k for k, n in have.items() if n) or 'nothing'}. Name another "
                "--config.headline or --config.evaluation.splits, or build the dataset with it."
            )


def _without(config, fields: Collection[str]) -> str:
    """What to type where clips lack ``fields``, so that nothing reads them; '' where too little would be left."""
    lacking = {
        name for name, spec in config.streams.items() if streams_lib.MODALITIES[spec.modality].field in fields
    }
    readers = [name for name, spec in config.networks.items() if any(lacking & set(own) for own in spec.reads)]
    headline = segment_lib.headline_network(config)
    if headline in readers or len(config.networks) - len(readers) < 2:
        return ""
    return f", or leave out what reads it: --config.without={','.join(readers)}"


def check_splits(config, dataset: records.Dataset, streams) -> None:
    """Raises ValueError for an evaluated split without clips, a headline that cannot be scored, and a stream
    that no training clip has or that the dataset was not built for."""
    for split in (config.evaluation.during, *config.evaluation.splits):
        if not len(dataset.split(split)):
            raise ValueError(f"the split {split!r} of {dataset.root} has no clips: name another, or fill it")
    _check_headline(config, dataset, streams)
    have = dataset.info.modalities.get(dataset.whole(config.split), {})
    fields = {stream.name: streams_lib.MODALITIES[stream.modality].field for stream in streams.values()}
    if lacking := {name: field for name, field in fields.items() if not have.get(field)}:
        name, field = next(iter(lacking.items()))
        others = [other for other in dict.fromkeys(lacking.values()) if other != field]
        raise ValueError(
            f"stream {name!r} reads {field!r}, which no training clip of {dataset.root} has"
            f"{f' (nor {text.listed(others)})' if others else ''}; there is "
            f"{', '.join(k for k, n in have.items() if n)}. Build the dataset with it (data_prep/README.md)"
            f"{_without(config, set(lacking.values()))}."
        )
    for stream in streams.values():
        field = fields[stream.name]
        # A modality that is there may still be stored in a form that this stream cannot be cut from.
        if reason := streams_lib.unfit(stream, dataset.info.settings):
            command = made_by(config.dataset)
            raise ValueError(
                f"stream {stream.name!r}: {dataset.root} {reason}: run the command that built it "
                f"again{f' ({command})' if command else ''}"
            )
        _check_edition(config.dataset, dataset, field)


def _check_edition(spec, dataset: records.Dataset, field: str) -> None:
    """Raises ValueError where ``field`` of a dataset is of an older edition than the configuration means, if the
    dataset is the one that the command of ``spec`` makes, here or at another place."""
    edition, wanted = dataset.info.settings.get("edition", 0), spec.since.get(field, 0)
    made = [pathlib.PurePath(word).name for word in spec.command]
    if edition < wanted and dataset.info.name in made:
        # The same folder as the run's own: who gave another path wants that one made again.
        again = [str(dataset.root) if name == dataset.info.name else w for name, w in zip(made, spec.command)]
        raise ValueError(
            f"{dataset.root} was made by an older mmvid (edition {edition}), whose {field!r} was something else: "
            f"this configuration means that of edition {wanted}. Make it again, which leaves pictures as they "
            f"are and changes the fingerprint:\n  python -m {shlex.join(again)}"
        )
