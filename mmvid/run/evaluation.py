"""The options under ``config.evaluation``: which splits of a run are scored, when, and how."""

from typing import NamedTuple

from mmvid.scores import numbers
from mmvid.streams import Views

_VIEWS = Views()


class Evaluation(NamedTuple):
    """After training the splits ``splits`` are scored, and so is 'val', which tables leave out unless it is named:
    each clip is cut by ``protocol`` in time and by ``crops`` in space. While training, ``every`` so often (a
    duration, as in '20%'), the split ``during`` is scored by ``during_protocol`` and ``during_crops``.

    The protocol 'DkUm' has k dense and m uniform clips (MML, table 10); ``variant`` says whether they lie
    where MML's 'code' or its 'paper' puts them. 'Rn' has n random clips, drawn once (DMCL, for streams
    sampled by 'segments'), 'Cn' n of the streams' own kind (MMD, for 'ranges' and 'strided'), 'En' n strided ones
    evenly from end to end (G-Blend's ten); of 'C10t4' only every 4th frame is shown, for as long as four (CMPL,
    figure 5). Each may have three ``crops``: 'E10' and 'three_full_res' are 30 views.
    ``resize`` is the short side in pixels before a crop; 0 stands for 256/224 of ``config.size``. ``aggregate``
    says how the views of a clip are put together, ``batch_size`` how many clips are predicted at a time.

    A segment ends with the ``checkpoint`` 'last', or with the 'best' on ``during``, as MML's and DMCL's
    codes do. ``best_by`` names the score that decides: of the 'headline' output (MML), of the 'oracle'
    (DMCL) or of the 'sum'. ``neighbours`` are the k for which nearest neighbours are scored among features
    of random weights (DMCL, figure 3); () skips that.
    """

    splits: tuple[str, ...] = ("test",)
    during: str = "val"
    during_protocol: str = "val"
    during_crops: str = "centre"
    protocol: str = _VIEWS.protocol
    variant: str = _VIEWS.variant
    crops: str = _VIEWS.crops
    resize: int = _VIEWS.resize
    aggregate: str = numbers.HOW
    batch_size: int = 32
    every: str = "20%"
    checkpoint: str = "last"
    best_by: str = "headline"
    neighbours: tuple[int, ...] = ()
