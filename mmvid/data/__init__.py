"""From video files to batches: decode, flow, records, sampling, augmentation, pipeline."""
