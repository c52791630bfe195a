"""Stage 2: prepared clips -> sharded ArrayRecord, through a TFDS builder and without TensorFlow."""

import pathlib
import pickle

import numpy as np
import tensorflow_datasets as tfds

from mmvid.data import records


def features(heads: dict[str, dict]) -> tfds.features.FeaturesDict:
    """The record's schema (data_prep/README.md). Frames are bytes: decoded after indices are drawn."""
    f = tfds.features

    def label(spec):
        if spec["kind"] == "multi":
            return f.Tensor(shape=(len(spec["names"]),), dtype=np.uint8)
        return f.Scalar(np.int64)

    texts = ("id", "split", "rgb_video", "audio")
    integers, floats = ("num_frames", "height", "width", "audio_rate"), (
        "fps", "flow_bound", "depth_scale", "audio_start_s",
    )  # fmt: skip
    return f.FeaturesDict(
        {name: f.Text() for name in texts}
        | {name: f.Scalar(np.int64) for name in integers}
        | {name: f.Scalar(np.float32) for name in floats}
        | {name: f.Sequence(f.Text()) for name in ("rgb", "flow_x", "flow_y", "depth")}
        | {"boxes": f.Tensor(shape=(None, 9), dtype=np.float32)}
        | {"label": f.FeaturesDict({name: label(spec) for name, spec in heads.items()})}
    )


class Clips(tfds.core.GeneratorBasedBuilder):
    """Packs ``files`` {split: [prepared clip]} in the given order of ids."""

    VERSION = tfds.core.Version(f"{records.SCHEMA}.0.0")

    def __init__(self, *, files: dict[str, list[pathlib.Path]], heads: dict[str, dict], **kwargs):
        self._files, self._heads = files, heads
        super().__init__(file_format="array_record", **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(builder=self, features=features(self._heads))

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(files) for split, files in self._files.items()}

    def _generate_examples(self, files):
        for file in files:
            yield file.stem, pickle.loads(file.read_bytes())


def pack(files: dict[str, list[pathlib.Path]], heads: dict[str, dict], root: pathlib.Path) -> None:
    """Writes ``root/clips/<schema>/``; an unfinished one is started again by TFDS."""
    tfds.disable_progress_bar()
    builder = Clips(files=files, heads=heads, data_dir=str(root))
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(
            compute_stats=tfds.download.ComputeStatsMode.SKIP
        )
    )
