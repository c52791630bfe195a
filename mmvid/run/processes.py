"""Finds the other processes of a run, and joins them: by the command line, the environment, or the cluster.

A launcher (`srun`, `mpirun`, a Kubernetes Job, SkyPilot) starts the same command several times. What is found
here comes before JAX computes anything, and costs a process that is alone nothing but a look at its environment.
"""

import importlib.util
import os
import pathlib
import re
import sys
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

from mmvid import lock, usage
from mmvid.run import devices

# Where process 0 listens if only its host is known; JAX_COORDINATOR_PORT names another one.
PORT = "8476"
# Seconds after which a process says that it waits for the others, and within which all must have come.
TOLD, MEET = 5.0, 300.0
# Seconds that a network file system may take to show to all hosts what one of them has written.
SHOWN = 60.0
_METADATA = "/computeMetadata/v1/instance/attributes/worker-network-endpoints"


class Launched(NamedTuple):
    """Which one of ``count`` processes this is; of those on its host, which, and how many there are.

    ``coordinator`` is where process 0 listens; where ``read`` is True, JAX reads it off the environment.
    """

    count: int
    index: int
    local: int = 0
    beside: int = 1
    coordinator: str = ""
    read: bool = False


# ---------------------------------------------------------------------------- launchers
def _whole(environ: Mapping[str, str], name: str, default: int) -> int:
    """A number of the environment; ``default`` where it is not there. Raises WrongUse for another text."""
    text = environ.get(name, "").strip()
    if text and not text.isdecimal():
        raise usage.WrongUse(f"{name}={text} in the environment: a whole number is expected")
    return int(text) if text else default


def _open_mpi(environ: Mapping[str, str]) -> Launched | None:
    """What `mpirun` tells of this process."""
    if "OMPI_COMM_WORLD_SIZE" not in environ:
        return None
    names = ("SIZE", "RANK", "LOCAL_RANK", "LOCAL_SIZE")
    count, index, local, beside = (_whole(environ, f"OMPI_COMM_WORLD_{name}", 0) for name in names)
    # From version 5 on, Open MPI does not say where its launcher listens.
    return Launched(count, index, local, max(beside, 1), read="OMPI_MCA_orte_hnp_uri" in environ)


def _expanded(tasks: str) -> list[int]:
    """The tasks of every host, from Slurm's '2(x3),1': [2, 2, 2, 1]."""
    found = re.findall(r"(\d+)(?:\(x(\d+)\))?", tasks)
    return [int(number) for number, times in found for _ in range(int(times or 1))]


def _slurm(environ: Mapping[str, str]) -> Launched | None:
    """What `srun` tells of this process; None outside of its steps, as in the batch script itself."""
    needed = ("JOB_ID", "STEP_NODELIST", "NTASKS", "PROCID", "LOCALID")
    if any(f"SLURM_{name}" not in environ for name in needed):
        return None
    tasks = _expanded(environ.get("SLURM_STEP_TASKS_PER_NODE") or environ.get("SLURM_TASKS_PER_NODE", ""))
    host = _whole(environ, "SLURM_NODEID", 0)
    beside = tasks[host] if host < len(tasks) else 1
    count, index, local = (_whole(environ, f"SLURM_{name}", 0) for name in ("NTASKS", "PROCID", "LOCALID"))
    # In the shell of `salloc -n 8`, a step of one task, SLURM_NTASKS is that of the whole job.
    count = _whole(environ, "SLURM_STEP_NUM_TASKS", count)
    return Launched(count, index, local, beside, read=True)


def _sky(environ: Mapping[str, str]) -> Launched | None:
    """What SkyPilot tells of the nodes of a task, of which each runs one process."""
    if "SKYPILOT_NODE_RANK" not in environ:
        return None
    first = environ.get("SKYPILOT_NODE_IPS", "").split()[:1]
    listens = f"{first[0]}:{environ.get('JAX_COORDINATOR_PORT', PORT)}" if first else ""
    count, index = (_whole(environ, f"SKYPILOT_{name}", 0) for name in ("NUM_NODES", "NODE_RANK"))
    return Launched(count, index, coordinator=listens)


def _devices_of(environ: Mapping[str, str], own: Launched) -> list[int] | None:
    """The GPUs of a process among those that it sees: an even share of them. None where there are none.

    JAX by itself would take one a process, and leave the others idle where a host runs a single process.
    """
    seen = devices.gpus(environ)
    if not seen or "JAX_LOCAL_DEVICE_IDS" in environ:
        return None
    # Where Slurm has bound GPUs to tasks, or there are fewer than tasks, each process sees its own alone.
    if "SLURM_GPUS_PER_TASK" in environ or seen < own.beside:
        return list(range(seen))
    share = seen // own.beside
    return list(range(own.local * share, (own.local + 1) * share))


def _launched(environ: Mapping[str, str]) -> Launched | None:
    """What a launcher tells that has started several processes; None where there is none."""
    # In this order: mpirun starts its own daemons by srun, whose numbers these are then.
    known = (own for own in (_open_mpi(environ), _slurm(environ), _sky(environ)) if own is not None)
    own = next(known, None)
    return own if own is not None and own.count > 1 else None


# ---------------------------------------------------------------------------- whom JAX asks
def _endpoints(environ: Mapping[str, str]) -> str:
    """The hosts of a TPU as Google's metadata server names them; '' where there is no such server."""
    host = environ.get("GCE_METADATA_IP", "metadata.google.internal")
    asked = urllib.request.Request(f"http://{host}{_METADATA}", headers={"Metadata-Flavor": "Google"})
    # Past a proxy that the environment may name: the server is this machine's own.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(asked, timeout=2) as answer:
            return answer.read().decode()
    except (OSError, ValueError):
        return ""


def _tpu_hosts(environ: Mapping[str, str], dev: pathlib.Path) -> int:
    """How many hosts share this TPU; 1 where there is none."""
    slices = _whole(environ, "MEGASCALE_NUM_SLICES", 1)
    names = environ.get("TPU_PROCESS_ADDRESSES") or environ.get("TPU_WORKER_HOSTNAMES")
    if not names and devices.has_tpu(environ, dev) and "TPU_SKIP_MDS_QUERY" not in environ:
        names = _endpoints(environ)
    return ((names or "").count(",") + 1) * slices


def _is_asked_of_kubernetes(environ: Mapping[str, str]) -> bool:
    """Whether this is a pod of an indexed Job, of which JAX asks Kubernetes.

    Raises WrongUse where JAX cannot ask: a pod that trained alone would be one of several in a workdir.
    """
    if not {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"} <= set(environ):
        return False
    if importlib.util.find_spec("kubernetes") is None:
        raise usage.WrongUse(
            f"this pod is number {environ['JOB_COMPLETION_INDEX']} of an indexed Job, and nobody says how many "
            "train together: set JAX_NUM_PROCESSES and JAX_COORDINATOR_ADDRESS=HOST:PORT of pod 0 in the pods' "
            "env (docs/scale.md), or install the package kubernetes, which JAX asks; --processes=1 is for pods "
            "that train apart"
        )
    return True


# ---------------------------------------------------------------------------- what is given
_MISSING = {
    "coordinator_address": "--coordinator=HOST:PORT (JAX_COORDINATOR_ADDRESS), where process 0 listens",
    "num_processes": "--processes=N (JAX_NUM_PROCESSES), how many there are",
    "process_id": "--process=I (JAX_PROCESS_ID), which of them this is, from 0 on",
}


def _given(environ: Mapping[str, str], coordinator: str, count: int, index: int) -> dict:
    """What the command line says and, where it is silent, the environment, under JAX's names."""
    coordinator = coordinator or environ.get("JAX_COORDINATOR_ADDRESS", "")
    count = count or _whole(environ, "JAX_NUM_PROCESSES", 0)
    index = index if index >= 0 else _whole(environ, "JAX_PROCESS_ID", -1)
    if index < 0 and (coordinator or count):
        index = _whole(environ, "JOB_COMPLETION_INDEX", -1)  # of a pod of an indexed Job
    told = {"coordinator_address": coordinator} if coordinator else {}
    told |= {"num_processes": count} if count else {}
    return told | ({"process_id": index} if index >= 0 else {})


def _checked(told: dict, *, read: bool) -> dict:
    """``told``; its coordinator may be missing where JAX can ``read`` it. Raises WrongUse where anything else is
    missing, or cannot be."""
    missing = [name for name in _MISSING if name not in told and not (read and name == "coordinator_address")]
    if missing:
        raise usage.WrongUse(
            "several processes are to train together, and this one knows too little of them: give "
            f"{'; '.join(_MISSING[name] for name in missing)}. --processes=1 trains with this one alone"
        )
    if told["process_id"] >= told["num_processes"]:
        last = told["num_processes"] - 1
        raise usage.WrongUse(f"--process={told['process_id']}: the processes are numbered from 0 to {last}")
    listens = told.get("coordinator_address", f"host:{PORT}")
    if not re.fullmatch(r".+:\d+", listens):
        raise usage.WrongUse(f"--coordinator={listens}: HOST:PORT is expected, as 10.0.0.1:{PORT}")
    return told


def found(
    environ: Mapping[str, str] = os.environ, *, coordinator: str = "", count: int = 0, index: int = -1,
    dev: pathlib.Path = devices.DEV,
) -> dict | None:  # fmt: skip
    """What `jax.distributed.initialize` is to be told; what is not in it, JAX finds. None for a process that is
    alone, as any is of which ``count`` is 1.

    ``coordinator``, ``count`` and ``index`` are the command line's. Raises WrongUse where something says that
    there are several processes, and not enough is known of them.
    """
    given = _given(environ, coordinator, count, index)
    if given.get("num_processes") == 1:
        return None
    if _tpu_hosts(environ, dev) > 1:
        return given
    own = _launched(environ)
    if own is None and "num_processes" not in given and _is_asked_of_kubernetes(environ):
        return given
    if own is None and not given:
        return None
    told = {} if own is None else {"num_processes": own.count, "process_id": own.index}
    if own is not None and own.coordinator:
        told["coordinator_address"] = own.coordinator
    if own is not None and (ids := _devices_of(environ, own)) is not None:
        told["local_device_ids"] = ids
    return _checked(told | given, read=own is not None and own.read)


# ---------------------------------------------------------------------------- together
def _unmet(reason: str) -> str:
    """What is said where the processes have not met."""
    return (
        f"the processes of this run have not met ({reason}). All of them must be started, must reach process 0's "
        "host and port, and give the same number of processes; --processes=1 trains with this one alone"
    )


def _watched(met: threading.Event, told: dict) -> None:
    """Says whom this process waits for, and ends it with exit code 1 where they have not come in time."""
    which = "waiting for the other processes of this run"
    if "process_id" in told:
        which += f"; this is number {told['process_id']} of 0 to {told['num_processes'] - 1}"
    if "coordinator_address" in told:
        which += f", they meet at {told['coordinator_address']}"
    if met.wait(TOLD):
        return
    print(f"mmvid: {which}", file=sys.stderr, flush=True)
    if met.wait(MEET - TOLD):
        return
    print(f"\nmmvid: {_unmet(f'not all have come in {MEET:g} seconds')}", file=sys.stderr, flush=True)
    # The main thread waits in JAX, which knows no signal; a moment later it would abort with a trace of C++.
    os._exit(1)


def join(*, coordinator: str = "", count: int = 0, index: int = -1) -> None:
    """Joins the other processes where there are any; ``coordinator``, ``count`` and ``index`` are the command
    line's. Raises WrongUse where too little is known of them, ValueError where they do not meet; where they have
    not come after MEET seconds it says so and ends the process with exit code 1."""
    told = found(coordinator=coordinator, count=count, index=index)
    if told is None:
        return
    met = threading.Event()
    threading.Thread(target=_watched, args=(met, told), daemon=True).start()
    try:
        jax.distributed.initialize(**told, initialization_timeout=int(MEET) + 60)
    # JAX's own errors are RuntimeErrors: a port that is taken, Kubernetes that does not answer.
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(_unmet((str(error).splitlines() or [type(error).__name__])[0])) from error
    finally:
        met.set()


def _shown(path: pathlib.Path, mark: int) -> bool:
    """Whether the lock file at ``path`` is the one of that ``mark``, once it had time to come."""
    end = time.monotonic() + SHOWN
    while _mark(path) != mark:
        if time.monotonic() > end:
            return False
        time.sleep(lock.LOOK)
    return True


def _mark(path: pathlib.Path) -> int:
    """A number that stands for whoever holds a lock."""
    return zlib.crc32(repr(sorted(lock.holder(path).items())).encode())


def check_shared(workdir: pathlib.Path) -> None:
    """Raises ValueError, in every process, where the ``workdir`` is not the same folder for all of them, by the
    lock that process 0 holds there."""
    if jax.process_count() == 1:
        return
    from jax.experimental import multihost_utils

    path = workdir / lock.RUN
    mark = multihost_utils.broadcast_one_to_all(np.asarray(_mark(path), np.uint32))
    same = multihost_utils.process_allgather(np.asarray(_shown(path, int(mark))))
    if strangers := np.flatnonzero(~same.reshape(-1)).tolist():
        raise ValueError(
            f"--workdir={workdir} is another folder for process {', '.join(map(str, strangers))} than for process "
            "0: checkpoints are written and read by all of them, so name one that their hosts share"
        )
