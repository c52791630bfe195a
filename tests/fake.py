"""Records in memory, for tests of what reads them."""

import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data import pipeline, records
from mmvid.data.example import Eval, Train
from mmvid.streams import Views


class Source:
    """``n`` clips of small frames whose pixel value tells the clip and the frame; rows of ``absent`` lack flow,
    rows of ``silent`` sound and boxes. A box a frame moves to the right, another one stands in frame 2; the
    sound lasts as long as the clip, and its sample ``i`` is ``i % 1000``."""

    def __init__(self, n=7, frames=12, size=40, absent=(), silent=()):
        self.n, self.frames, self.size, self.absent, self.silent = n, frames, size, absent, silent
        self.split = "train"

    def __len__(self):
        return self.n

    def ids(self):
        return [f"clip{i}" for i in range(self.n)]

    def labels(self, head):
        return [self[row]["label"][head] for row in range(self.n)]

    def __getitem__(self, row):
        count = self.frames + row % 3
        blank = np.ones((self.size, self.size + 8), np.uint8)
        pixels = [blank * ((10 * row + t) % 256) for t in range(count)]
        images = [frames_lib.encode_png(image) for image in pixels]
        colour = [frames_lib.encode_jpeg(np.dstack([image] * 3)) for image in pixels]
        flow = [] if row in self.absent else images[:-1]
        boxes = [[t, t / 40, 0.25, t / 40 + 0.25, 0.5, 1, 0.9, 0, 1] for t in range(count)]
        boxes = np.float32([*boxes, [2, 0.5, 0.5, 1, 1, 2, 0.8, 1, 1]])
        sound = np.int16(np.arange(16000 * count // 12) % 1000)
        if row in self.silent:
            boxes, sound = boxes[:0], sound[:0]
        return {
            "id": f"clip{row}", "split": "train", "num_frames": count, "fps": 12.0,
            "height": self.size, "width": self.size + 8, "label": {"action": np.asarray(row % 5)},
            "rgb": colour, "rgb_video": b"", "flow_x": flow, "flow_y": flow, "flow_bound": 6.0,
            "depth": [], "depth_scale": 0.001, "audio": sound.tobytes(), "audio_rate": 16000,
            "audio_start_s": 0.0, "boxes": boxes,
        }  # fmt: skip


def trained(sources, groups, streams, *, start=0, stop=12, **rest):
    """The loader of training batches; ``rest`` are further entries of `Train`."""
    return pipeline.train_dataset(Train(sources, groups, streams, **rest), start, stop)


def tested(source, streams, *, heads, size, batch_size=4, process=(0, 1), **views):
    """The loader of test batches. Unlike a run's, its clips are not resized, where ``views`` do not say so."""
    how = Views(**{"resize": size} | views)
    return pipeline.eval_dataset(Eval(source, streams, heads, size, batch_size, how, process))


def dataset(count):
    """A dataset of ``count`` clips, the same ones in training and test."""
    source = Source(count)
    source.whole = "train"
    subsets = dict.fromkeys(("train", "test"), source)
    return records.Dataset(None, info(train=count, test=count), subsets)


def info(**splits):
    """An Info to go with fake sources."""
    heads = {"action": {"classes": 5, "kind": "single", "names": list("abcde")}}
    return records.Info("fake", 1, heads, splits, splits, {}, "0" * 12, 40, 48, 12.0, {})
