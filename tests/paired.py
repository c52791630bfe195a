"""The configuration of a run of toys that two processes make, and how its dataset is made where it is not there:

python -m paired DATA       # with tests/ in PYTHONPATH; it takes its time
"""

import pathlib
import sys
import time

import runs

# Seconds that the dataset takes, in which a test may interrupt who makes it.
SLOWLY = 6


def get_config():
    """Forty steps; what is given more on the command line: the dataset's path and its command."""
    c = runs.configured("", "single", "single")
    c.steps.ce, c.log_every = "40", 5
    return runs.of_a_file(c)


if __name__ == "__main__":
    data = pathlib.Path(sys.argv[1])
    data.mkdir()
    try:
        time.sleep(SLOWLY)
    except KeyboardInterrupt:
        sys.exit(130)
    runs.prepare(data)
