"""Omnivore (Girdhar et al. 2022): one network, shown one of its streams a step, learns with cross-entropy."""

from mmvid.methods import single
from mmvid.methods.base import Method, Pass
from mmvid.streams import Head


def make(outputs: tuple[str, ...], heads: dict[str, Head]) -> Method:
    """Makes the method of cross-entropy for the output whose stream the loader drew for the step: the whole batch
    shows that stream alone (as the baseline of multimodal distillation, Radevski et al. 2023)."""
    return single.make(outputs, heads)._replace(passes=(Pass(one_of=True),))
