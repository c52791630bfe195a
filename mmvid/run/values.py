"""Checks of a configuration by itself: names that nothing has, and values that cannot be meant."""

import math

from mmvid import names, optim, plans, usage
from mmvid.data import augment, sampling
from mmvid.plans import networks
from mmvid.plans import segment as segment_lib
from mmvid.plans.starts import of_option
from mmvid.scores import numbers
from mmvid.streams import Views
from mmvid.weights import files as weight_files


def choose(name: str, value, known) -> None:
    """Raises ValueError where the ``value`` of an entry is none of the ``known``."""
    if value not in known:
        raise ValueError(f"{name}={value!r} is unknown; choose one of {sorted(known)}")


def _check_datasets(config) -> None:
    """Raises ValueError for a further dataset whose name is none or taken, or that is described in another way
    than by a path, a command and perhaps its numbers of clips."""
    for name, spec in config.datasets.items():
        names.check("dataset", name)
        if name in ("dataset", "stills"):
            raise ValueError(f"datasets.{name}: that name is config.{name}'s; choose another one")
        if set(spec) - {"clips"} != {"path", "command"} or not spec["path"]:
            raise ValueError(
                f"datasets.{name}={dict(spec)}: write dict(path='data/..', command=()), or in command the one of "
                "data_prep that makes it"
            )


def _check_forms(config) -> None:
    """Raises ValueError for a label space or a subset that is written in another form, and for a subset whose
    scores could not be told from others."""
    for name, space in config.heads.items():
        if not isinstance(space, tuple | list) or len(space) != 2:
            raise ValueError(f"heads.{name}={space!r}: write (classes, 'single') or (classes, 'multi')")
    for name, rule in config.subsets.items():
        names.check("subset", name)
        if not hasattr(rule, "items"):
            raise ValueError(f"subsets.{name}={rule!r}: write a rule, for instance dict(of='train', share=0.1)")


def _check_counts(config) -> None:
    """Raises ValueError for a count that is too small."""
    counts = {name: config[name] for name in ("size", "accumulate", "batch_size", "log_every")}
    counts |= {name: config[name] for name in ("evaluation.batch_size", "stills.batch_size")}
    counts |= {f"semi.{name}": config.semi[name] for name in ("labelled_batch", "unlabelled_batch")}
    # What is no dict here, the plan refuses.
    alone = {name: dict(own) for name, own in config.teachers.alone.items() if hasattr(own, "items")}
    counts |= {f"teachers.alone.{name}.batch_size": own.get("batch_size", 1) for name, own in alone.items()}
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name}={count!r}: it must be 1 or more")
    # Every frame is what the clips are scored with anyway.
    if not all(isinstance(stride, int) and stride >= 2 for stride in config.semi.thinned):
        raise ValueError(f"semi.thinned={tuple(config.semi.thinned)}: numbers k of 'every k-th frame', 2 or more")
    for name in ("loader.workers", "loader.threads", "loader.prefetch", "seed"):
        if config[name] < 0:
            raise ValueError(f"{name}={config[name]}: it must be 0 or more")
    for name in ("save_every", "evaluation.every", "stills.steps"):
        try:
            # Read as for an epoch of a step and a segment of a hundred: for its errors alone.
            steps = optim.steps_of(config[name], steps_per_epoch=1.0, total=100)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        if steps < 0:
            raise ValueError(f"{name}={config[name]!r}: a duration is 0 or more")


# {entry: (the least that it may be, what it must stay below)}
_RANGES = {"momentum": (0, 1), "weight_decay": (0, math.inf), "clip": (0, math.inf), "dropout": (0, 1),
           "drop_path": (0, 1), "width": (1, math.inf)}  # fmt: skip


def _check_ranges(config) -> None:
    """Raises ValueError for a number of an optimiser or of a model that no training can mean."""
    parts = {"optimizer": config.optimizer, "model_options": config.model_options}
    for name, network in config.networks.items():
        parts |= {f"networks.{name}.optimizer": network.optimizer, f"networks.{name}.options": network.options}
    for part, entries in parts.items():
        for entry, (least, below) in _RANGES.items():
            value = entries.get(entry)
            # None is that of the run.
            if value is not None and not least <= value < below:
                what = f"{least} or more" if below == math.inf else f"from {least} to below {below}"
                raise ValueError(f"{part}.{entry}={value}: give a number {what}")


def _check_students(config) -> None:
    """Raises ValueError for an option of a further student that is no number where the method's own is one."""
    own = config.method.get(config.method.name) or {}
    for name, spec in config.students.items():
        for option, value in dict(spec).items() if hasattr(spec, "items") else ():
            meant = own.get(option)
            if isinstance(meant, float) and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ValueError(f"students.{name}.{option}={value!r}: give a number, as {meant}")


def check_weights(config) -> None:
    """Raises ValueError for a file of weights that a network is to start from and that is not there."""
    for name, spec in config.networks.items():
        named = {"": spec.weights} if isinstance(spec.weights, str) else dict(spec.weights.items())
        for part, source in named.items():
            with of_option(name):
                path, _ = weight_files.split(source)
            if source and not path.exists():
                entry = f"--config.networks.{name}.weights"
                given = f'{entry}="{{{part!r}: {source!r}}}"' if part else f"{entry}={source}"
                raise ValueError(
                    f"{given}: there is no {source if usage.scheme(source) else path}; name a .safetensors or "
                    ".pth file, or, for a teacher that comes trained, the workdir of its run"
                )


def check_names(config) -> None:
    """Raises ValueError for a name that nothing has, or a number out of range: all that the configuration
    shows by itself, without data."""
    _check_datasets(config)
    _check_forms(config)
    _check_counts(config)
    _check_ranges(config)
    _check_students(config)
    segment_lib.headline_network(config)
    choose("plan", config.plan, plans.PLANS)
    # The plan 'full' needs a twin; 'reduced' leaves out the one that is named.
    if config.twin or config.plan == "full":
        choose("twin", config.twin, set(config.networks))
    choose("evaluation.aggregate", config.evaluation.aggregate, numbers.AGGREGATES)
    choose("evaluation.checkpoint", config.evaluation.checkpoint, ("last", "best"))
    choose("evaluation.best_by", config.evaluation.best_by, ("headline", "sum", "oracle"))
    spec = config.evaluation
    sampling.check_streams(tuple(networks.make_streams(config).values()))
    # Tried on a clip of 1000 frames of 256 x 256 pixels: asked for the errors alone.
    for protocol, crops in ((spec.protocol, spec.crops), (spec.during_protocol, spec.during_crops)):
        views = Views(protocol, spec.variant, crops, spec.resize)
        for stream in networks.make_streams(config).values():
            sampling.test_indices(1000, stream, views)
        augment.test_windows(256, 256, config.size, views)
    if not spec.splits:
        raise ValueError("evaluation.splits=() leaves nothing to report: name at least one split")
    if len(set(spec.splits)) < len(spec.splits):
        raise ValueError(f"evaluation.splits={tuple(spec.splits)}: name each split once")
    if not all(isinstance(k, int) and k >= 1 for k in spec.neighbours):
        raise ValueError(f"evaluation.neighbours={spec.neighbours}: numbers of neighbours, 1 or more")
    if not 0 <= config.ema < 1:
        raise ValueError(f"ema={config.ema}: the decay of a moving average is a number from 0 (none) to below 1")
    own = {f"networks.{name}": network for name, network in config.networks.items()}
    for name, spec in {"": config, "stills": config.stills, **own}.items():
        # None is a network's rate where it has none of its own.
        lr = spec.schedule.lr
        if lr is not None and not 0 <= lr < float("inf"):
            raise ValueError(f"{name}.schedule.lr={lr}: a learning rate is a number, 0 or more".lstrip("."))
