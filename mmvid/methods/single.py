"""The baseline of every paper: each output learns alone, with cross-entropy."""

from mmvid.methods import terms as terms_lib
from mmvid.methods.base import Method
from mmvid.streams import Head


def make(outputs: tuple[str, ...], heads: dict[str, Head]) -> Method:
    """Makes the method of cross-entropy for each of ``outputs``, averaged over the heads."""

    def terms(results, batch, state, key):
        del state, key
        return {"ce": terms_lib.task_term(results["main", "train"], batch["main"], outputs, heads)}

    return Method(terms)
