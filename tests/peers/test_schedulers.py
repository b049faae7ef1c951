"""The scripts of book/running.md for Slurm and Kubernetes, run as they stand there; this machine plays the cluster.

Slurm's `sbatch` and `scancel` are played by two small programs that start and kill the job script that dask-jobqueue
really writes, Kubernetes by a class that starts the containers' commands that dask-kubernetes really makes.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("dask_jobqueue")
pytest.importorskip("dask_kubernetes")

HERE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HERE / "tests/suite"))

from tiny import chapter, make_house  # noqa: E402

from reprise.suite.catalogue import find_card  # noqa: E402
from reprise.suite.execution import state_of  # noqa: E402

SBATCH = """#!/bin/bash
cp "$1" "$PLAYED/job.sh"
setsid bash "$PLAYED/job.sh" > "$PLAYED/job.log" 2>&1 &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
echo "$1" >> "$PLAYED/cancelled"
kill -9 -- "-$1"
"""


def script(name: str, *smaller: tuple[str, str]) -> str:
    """A script of the page by its caption, with sizes replaced by ones that fit this machine."""
    page = (HERE / "book/running.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"```{{code-block}} python\n:caption: {re.escape(name)}\n\n(.*?)\n```", page, flags=re.S)
    for old, new in smaller:
        assert old in code
        code = code.replace(old, new)
    return code


@pytest.fixture
def played(tmp_path, monkeypatch):
    """Two tiny chapters, `reprise` and the played Slurm on the path; returns the repository."""
    made = make_house(tmp_path / "house", {slug: chapter(slug) for slug in ("tiny-a", "tiny-b")})
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    beside = Path(sys.executable).parent
    monkeypatch.setenv("PATH", f"{tmp_path}:{beside}:{os.environ['PATH']}")
    monkeypatch.setenv("PLAYED", str(tmp_path))
    monkeypatch.setenv("REPRISE_ROOT", str(made.root))
    monkeypatch.setenv("DASK_JOBQUEUE__SLURM__INTERFACE", "lo")
    return made


def states(made) -> set[str]:
    return {state_of(made, find_card(slug, made)) for slug in ("tiny-a", "tiny-b")}


def test_the_slurm_script_runs_chapters_on_its_jobs_and_ends_them(played, tmp_path):
    (tmp_path / "slurm.py").write_text(
        script("slurm.py", ("cores=4, processes=4", "cores=2, processes=2"), ("jobs=5", "jobs=1"))
    )
    done = subprocess.run([sys.executable, "slurm.py"], cwd=tmp_path, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[2/2]" in done.stdout
    assert states(played) == {"fresh"}
    job = (tmp_path / "job.sh").read_text()
    for line in ("-p normal", "--cpus-per-task=2", "--mem=8G", "-t 00:30:00"):
        assert f"#SBATCH {line}\n" in job
    assert re.search(r"-m distributed.cli.dask_worker tcp://\S+ .*--nthreads 1 .*--nworkers 2", job)
    assert (tmp_path / "cancelled").is_file()


def test_the_slurm_script_for_gpus_asks_slurm_for_one_and_tells_dask_so(played, tmp_path):
    code = script("slurm_gpu.py", ("    cluster.scale(jobs=2)\n", "    print(cluster.job_script())\n    sys.exit()\n"))
    (tmp_path / "slurm_gpu.py").write_text(code)
    done = subprocess.run([sys.executable, "slurm_gpu.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert "#SBATCH --gres=gpu:1\n" in done.stdout, done.stderr
    assert re.search(r"--nthreads 1 .*--resources GPU=1", done.stdout)
    assert '"--profile", "full", "--device", "cuda"' in code


class Pods:
    """Plays the operator: the containers' commands as processes of this machine, two workers at most."""

    def __init__(self, custom_cluster_spec):
        scheduler, worker = (custom_cluster_spec["spec"][role] for role in ("scheduler", "worker"))
        assert worker["replicas"] == 20
        for role in (scheduler, worker):
            (container,) = role["spec"]["containers"]
            assert container["image"] == "REGISTRY/reprise:COMMIT"
            assert container["resources"]["limits"] == {"cpu": "1", "memory": "2Gi"}
        self.processes = []
        log = self.start(scheduler)
        deadline = time.monotonic() + 120
        while not (found := re.search(r"Scheduler at:\s+(tcp://\S+)", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        self.scheduler_address = found[1]
        for number in (1, 2):
            self.start(worker, {"DASK_SCHEDULER_ADDRESS": self.scheduler_address, "DASK_WORKER_NAME": f"w{number}"})

    def start(self, role, environment=None) -> Path:
        environment = environment or {}
        (container,) = role["spec"]["containers"]
        command = [environment.get(text.strip("$()"), text) for text in container["args"]]
        command = ["127.0.0.1" if text == "0.0.0.0" else text for text in command]
        path = Path(os.environ["PLAYED"], f"pod-{len(self.processes)}.log")
        with open(path, "w") as log:
            self.processes.append(subprocess.Popen(
                command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True
            ))  # fmt: skip
        return path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def test_the_kubernetes_script_runs_chapters_in_its_pods(played, monkeypatch):
    monkeypatch.setattr("dask_kubernetes.operator.KubeCluster", Pods)
    monkeypatch.setattr("sys.argv", ["k8s.py", "tiny-a", "tiny-b"])
    with pytest.raises(SystemExit) as ended:
        exec(script("k8s.py"), {})
    assert ended.value.code == 0
    assert states(played) == {"fresh"}
