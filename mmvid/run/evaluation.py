"""What of a run is scored, and how: the options that stand under ``config.evaluation``."""

from typing import NamedTuple


class Evaluation(NamedTuple):
    """What is scored after training: the splits ``splits``, each clip cut by ``protocol`` in time and by
    ``crops`` in space; and while training: the split ``during``, by the two options named after it.

    A protocol 'DkUm' has k dense and m uniform clips (MML, table 10; ``variant`` 'code' or 'paper' says where
    they lie); 'Rn' has n random clips, frozen (DMCL, for streams sampled by 'segments'). ``resize`` is the
    short side in pixels before a crop, 0 stands for 256/224 of ``size``. Views of a clip are put together by
    ``aggregate``.

    Scored ``every`` so often, a segment ends with the ``checkpoint`` 'last', or with the 'best' on
    ``during``, as the codes of MML and DMCL, by the score of the 'headline' (MML), the 'oracle' (DMCL) or the
    'sum' (``best_by``). ``neighbours``: k of the nearest neighbours among features of random weights (DMCL,
    figure 3).
    """

    splits: tuple[str, ...] = ("test",)
    during: str = "val"
    during_protocol: str = "val"
    during_crops: str = "centre"
    protocol: str = "D0U1"
    variant: str = "code"
    crops: str = "centre"
    resize: int = 0
    aggregate: str = "logits"
    batch_size: int = 32
    every: str = "20%"
    checkpoint: str = "last"
    best_by: str = "headline"
    neighbours: tuple[int, ...] = ()
