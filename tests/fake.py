"""Records in memory, for tests of what reads them."""

import numpy as np

from mmvid.data import frames as frames_lib
from mmvid.data import records


class Source:
    """``n`` clips of small frames whose pixel value tells the clip and the frame."""

    def __init__(self, n=7, frames=12, size=40, absent=()):
        self.n, self.frames, self.size, self.absent = n, frames, size, absent
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
        images = [frames_lib.encode_png(blank * (10 * row + t)) for t in range(count)]
        colour = [frames_lib.encode_jpeg(np.dstack([blank * (10 * row + t)] * 3)) for t in range(count)]
        flow = [] if row in self.absent else images[:-1]
        return {
            "id": f"clip{row}", "split": "train", "num_frames": count, "fps": 12.0,
            "height": self.size, "width": self.size + 8, "label": {"action": np.asarray(row % 5)},
            "rgb": colour, "rgb_video": b"", "flow_x": flow, "flow_y": flow, "flow_bound": 6.0,
            "depth": [], "depth_scale": 0.001, "audio": b"", "audio_rate": 16000,
            "audio_start_s": 0.0, "boxes": np.zeros((0, 9), np.float32),
        }  # fmt: skip


def info(**splits):
    """An Info to go with fake sources."""
    heads = {"action": {"classes": 5, "kind": "single", "names": list("abcde")}}
    return records.Info("fake", 1, heads, splits, splits, {}, "0" * 12, 40, 48, 12.0, {})
