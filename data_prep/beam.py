"""Phase 1 on Apache Beam, for those who outgrow one machine: pip install -r requirements-beam.txt.

Any runner works whose workers see the videos and the output folder under the same paths; Flink,
Spark and Dataflow take their own options, e.g. --beam_options=runner=FlinkRunner,parallelism=64.
"""

import pathlib

from data_prep import clips
from data_prep.manifest import Item
from mmvid.data.media import record


def flags(options: str) -> list[str]:
    """Beam's own flags of 'name=value,name=value'."""
    return [f"--{option.strip().lstrip('-')}" for option in options.split(",") if option.strip()]


def prepare(
    jobs: list[tuple[Item, str]],
    settings: record.Settings,
    directory: pathlib.Path,
    options: str,
) -> None:
    """Prepares ``jobs`` (clip, file name) into ``directory``. Raises ValueError with the line that
    installs Beam."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise ValueError("--beam_options needs Apache Beam: pip install -r requirements-beam.txt") from None

    def prepare(job: tuple[Item, str]) -> str:
        # Written to the shared folder, not returned: what is done survives a pipeline that breaks.
        return clips.write(*job, settings, directory)

    with beam.Pipeline(options=PipelineOptions(flags(options))) as pipeline:
        rows = pipeline | "Clips" >> beam.Create(jobs)
        # Reshuffle: otherwise the whole list may stay on the worker that created it.
        _ = rows | beam.Reshuffle() | "Prepare" >> beam.Map(prepare)
