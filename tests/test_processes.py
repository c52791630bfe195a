"""Who trains together is found by what launchers leave in the environment; nobody trains alone by mistake."""

import http.server
import os
import pathlib
import socket
import subprocess
import sys
import threading
import types

import numpy as np
import pytest
from absl.testing import flagsaver
from jax.experimental import multihost_utils

from mmvid import lock, main, usage
from mmvid.run import processes

ROOT = pathlib.Path(__file__).parents[1]
SRUN = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_NODELIST": "node[01-02]", "SLURM_NTASKS": "8", "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
}  # fmt: skip
MPIRUN = {
    "OMPI_COMM_WORLD_SIZE": "8", "OMPI_COMM_WORLD_RANK": "5", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911",
}  # fmt: skip
SKY = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2\n"}
POD = {"KUBERNETES_SERVICE_HOST": "10.1.0.1", "JOB_COMPLETION_INDEX": "3"}
SAID = {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"}
FIVE = {"num_processes": 8, "process_id": 5}
SKYS = {"coordinator_address": "10.0.0.1:8476", "num_processes": 2, "process_id": 1}
ALL = {"coordinator_address": "a:1", "num_processes": 4}


@pytest.fixture
def dev(tmp_path):
    (tmp_path / "dev").mkdir()
    return tmp_path / "dev"


@pytest.mark.parametrize("environ, given, told", [
    ({}, {}, None),
    ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, {}, None),  # a batch script without srun
    (SRUN | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, {}, None),
    (SRUN, {}, FIVE),
    (SRUN | {"SLURM_STEP_NUM_TASKS": "8"}, {}, FIVE),
    # The shell that salloc -n 8 opens on the first host.
    (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_PROCID": "0"}, {}, None),
    (SRUN, {"count": 1}, None),
    (SRUN | {"JAX_NUM_PROCESSES": "1"}, {}, None),  # what a sweep says to its runs
    (SRUN, {"coordinator": "b:2"}, FIVE | {"coordinator_address": "b:2"}),
    (MPIRUN, {}, FIVE),
    (MPIRUN | SRUN | {"SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, {}, FIVE),
    (SKY, {}, SKYS),
    (SKY | {"JAX_COORDINATOR_PORT": "9"}, {}, SKYS | {"coordinator_address": "10.0.0.1:9"}),
    (SKY | {"SKYPILOT_NUM_NODES": "1", "SKYPILOT_NODE_RANK": "0"}, {}, None),
    (SAID, {}, ALL | {"process_id": 2}),
    (SAID, {"index": 0}, ALL | {"process_id": 0}),
    (SAID | SRUN, {}, ALL | {"process_id": 2}),
    (POD | {k: v for k, v in SAID.items() if k != "JAX_PROCESS_ID"}, {}, ALL | {"process_id": 3}),
    (POD | {"JAX_NUM_PROCESSES": "1"}, {}, None),
    ({"KUBERNETES_SERVICE_HOST": "10.1.0.1"}, {}, None),  # a pod of no Job
    ({"TPU_WORKER_HOSTNAMES": "a,b"}, {}, {}),
    ({"TPU_WORKER_HOSTNAMES": "a"}, {}, None),
    ({"TPU_PROCESS_ADDRESSES": "local"}, {}, None),
    ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, {}, {}),
])  # fmt: skip
def test_what_a_launcher_tells(environ, given, told, dev):
    assert processes.found(environ, dev=dev, **given) == told


@pytest.mark.parametrize("environ, given, match", [
    ({"JAX_COORDINATOR_ADDRESS": "a:1"}, {}, r"--processes=N .*; --process=I"),
    ({}, {"coordinator": "a:1", "count": 2}, "give --process=I"),
    ({}, {"count": 2, "index": 0}, "give --coordinator=HOST:PORT"),
    ({}, {"coordinator": "a:1", "count": 2, "index": 2}, "numbered from 0 to 1"),
    ({}, {"coordinator": "node1", "count": 2, "index": 0}, "HOST:PORT is expected"),
    (SAID | {"JAX_PROCESS_ID": "x"}, {}, "JAX_PROCESS_ID=x in the environment: a whole number"),
    (SRUN | {"SLURM_PROCID": "-1"}, {}, "SLURM_PROCID=-1"),
    ({k: v for k, v in MPIRUN.items() if "hnp" not in k}, {}, "give --coordinator=HOST:PORT"),
    (SKY | {"SKYPILOT_NODE_IPS": ""}, {}, "give --coordinator=HOST:PORT"),
])  # fmt: skip
def test_who_knows_too_little_does_not_train_alone(environ, given, match, dev):
    with pytest.raises(usage.WrongUse, match=match):
        processes.found(environ, dev=dev, **given)


def test_a_pod_of_many_asks_kubernetes_or_says_what_is_missing(dev, monkeypatch):
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(usage.WrongUse, match=r"number 3 of an indexed Job.*JAX_NUM_PROCESSES"):
        processes.found(POD, dev=dev)
    monkeypatch.setattr(processes.importlib.util, "find_spec", lambda name: types.SimpleNamespace())
    assert processes.found(POD, dev=dev) == {}


@pytest.mark.parametrize("environ, seen, found", [
    (SRUN, 4, [1]),  # a task a GPU
    (SRUN, 8, [2, 3]),
    (SRUN | {"SLURM_LOCALID": "0", "SLURM_STEP_TASKS_PER_NODE": "1(x8)"}, 8, list(range(8))),  # a task a host
    (SRUN | {"SLURM_GPUS_PER_TASK": "2"}, 2, [0, 1]),  # bound: it sees its own alone
    (SRUN, 1, [0]),
    (SRUN | {"SLURM_STEP_TASKS_PER_NODE": "7,4"}, 4, [1]),
    (SRUN | {"JAX_LOCAL_DEVICE_IDS": "3"}, 4, None),
    (MPIRUN, 4, [1]),
    (MPIRUN, 0, None),
])  # fmt: skip
def test_gpus_of_a_host_are_shared_out(environ, seen, found, dev):
    shown = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(seen)))}
    told = processes.found(environ | shown, dev=dev)
    assert told.get("local_device_ids") == found


def test_all_processes_of_a_host_have_all_of_its_gpus_between_them(dev):
    shares = []
    for local in range(4):
        own = SRUN | {"SLURM_LOCALID": str(local), "CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
        shares += processes.found(own, dev=dev)["local_device_ids"]
    assert shares == list(range(8))


@pytest.fixture
def metadata():
    """What stands for Google's metadata server: its address, its answer, and what it was asked."""
    answer = types.SimpleNamespace(text="", code=200, asked=[])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer.asked.append((self.path, self.headers["Metadata-Flavor"]))
            self.send_response(answer.code)
            self.end_headers()
            self.wfile.write(answer.text.encode())

        def log_message(self, *args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    answer.host = f"127.0.0.1:{server.server_port}"
    yield answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("text, code, told", [
    ("a:0:10.0.0.1,b:1:10.0.0.2", 200, {}), ("a:0:10.0.0.1", 200, None), ("no such attribute", 404, None),
])  # fmt: skip
def test_a_tpu_machine_asks_its_metadata_server(text, code, told, dev, metadata):
    (dev / "accel0").touch()
    metadata.text, metadata.code = text, code
    assert processes.found({"GCE_METADATA_IP": metadata.host}, dev=dev) == told
    assert metadata.asked == [("/computeMetadata/v1/instance/attributes/worker-network-endpoints", "Google")]


def test_no_other_machine_asks_anybody(dev, metadata):
    for environ in ({}, {"TPU_SKIP_MDS_QUERY": "1"}):
        assert processes.found(environ | {"GCE_METADATA_IP": metadata.host}, dev=dev) is None
    (dev / "accel0").touch()
    own = {"TPU_SKIP_MDS_QUERY": "1", "GCE_METADATA_IP": metadata.host}  # as Colab and Kaggle set it
    assert processes.found(own, dev=dev) is None and not metadata.asked


def test_those_who_do_not_meet_are_told_what_to_look_at(monkeypatch):
    def initialize(**told):
        raise RuntimeError("DEADLINE_EXCEEDED: nobody there\nand a stack trace")

    monkeypatch.setattr(processes.jax.distributed, "initialize", initialize)
    with pytest.raises(ValueError, match=r"have not met \(DEADLINE_EXCEEDED: nobody there\)"):
        processes.join(coordinator="a:1", count=2, index=1)


@pytest.mark.parametrize("given, said", [
    (["--processes=-2"], "--processes=-2: say how many train together"),
    (["--processes=2", "--process=7"], "--process=7: the processes are numbered from 0 to 1"),
    (["--process=-2"], "--process=-2: the processes are numbered from 0 on"),
    (["--processes=two"], "a whole number is expected"),
])  # fmt: skip
def test_numbers_that_no_processes_have_are_wrong_use(given, said, tmp_path, capsys):
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as left:
        main._parse(["mmvid", "--config=configs/mml.py", f"--workdir={tmp_path}", *given])
    assert left.value.code == 2 and said in capsys.readouterr().err


ALONE = "from mmvid.run import processes; processes.TOLD, processes.MEET = 1, 2; processes.join()"


@pytest.mark.slow
@pytest.mark.parametrize("index", ["0", "1"])
def test_who_waits_in_vain_is_told_and_not_aborted(index):
    """Process 0, to whom nobody comes, and another one, whom nobody awaits."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{taken.getsockname()[1]}"
    own = {"JAX_COORDINATOR_ADDRESS": place, "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": index}
    environ = os.environ | own | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, env=environ, timeout=60)
    assert done.returncode == 1, done.stderr[-2000:]
    assert f"waiting for the other processes of this run; this is number {index} of 0 to 1" in done.stderr
    assert f"meet at {place}" in done.stderr and "have not met (not all have come in 2 seconds)" in done.stderr
    assert "Check failure" not in done.stderr


# ---------------------------------------------------------------------------- one workdir
@pytest.fixture
def second(monkeypatch):
    """This process plays the second of two; ``second(mark)`` is what the first one has sent."""

    def play(mark):
        monkeypatch.setattr(processes.jax, "process_count", lambda: 2)
        monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", lambda x: np.asarray(mark, np.uint32))
        monkeypatch.setattr(multihost_utils, "process_allgather", lambda x: np.asarray([True, bool(x)]))

    return play


def test_a_workdir_that_hosts_do_not_share_is_refused(tmp_path, second, monkeypatch):
    monkeypatch.setattr(processes, "SHOWN", 0)
    with lock.held(tmp_path / lock.RUN, "it"):
        mark = processes._mark(tmp_path / lock.RUN)
        second(mark)
        processes.check_shared(tmp_path)
        (tmp_path / "other").mkdir()
        with lock.held(tmp_path / "other" / lock.RUN, "another run's"):
            second(mark + 1)
            with pytest.raises(ValueError, match="another folder for process 1 than for process 0"):
                processes.check_shared(tmp_path / "other")


def test_alone_nothing_is_compared(tmp_path):
    processes.check_shared(tmp_path / "nowhere")
