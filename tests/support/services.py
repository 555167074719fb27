"""Services that a cluster has, started on this machine for the tests alone: PostgreSQL and Slurm."""

import functools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NODES = (socket.gethostname(), "localhost")
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where daemons are


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def postgres_programs() -> Path | None:
    """The folder with the server's programs, which on Debian is not on the path."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((place for place in reversed(places) if (place / "initdb").is_file()), None)


def missing_for_postgres() -> str | None:
    """Why no PostgreSQL can be started here, or used."""
    if postgres_programs() is None:
        return "no PostgreSQL server: apt-get install postgresql"
    try:
        import psycopg  # noqa: F401
    except ImportError:
        return "no driver: pip install -r requirements-postgres.txt"
    return None


@dataclass
class Database:
    """A server of databases: where it is, and how it is started and stopped."""

    url: str
    start: Callable[[], None]
    stop: Callable[[], None]


@contextmanager
def postgres() -> Iterator[Database]:
    """A server with an empty database, which is running."""
    programs, port = postgres_programs(), free_port()
    assert programs is not None
    with tempfile.TemporaryDirectory() as folder:
        user = {"user": "nobody"} if os.geteuid() == 0 else {}  # it refuses to run as root
        if user:
            os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)

        def do(*words: object) -> None:
            done = subprocess.run([str(word) for word in words], cwd="/", capture_output=True, text=True, **user)
            assert done.returncode == 0, done.stdout + done.stderr

        do(programs / "initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "test", "--no-sync")
        options = f"-h 127.0.0.1 -p {port} -c unix_socket_directories='' -c fsync=off"
        control = (programs / "pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-w")
        start = functools.partial(do, *control, "-o", options, "start")
        stop = functools.partial(do, *control, "-m", "immediate", "stop")
        start()
        try:
            yield Database(f"postgresql+psycopg://test@127.0.0.1:{port}/postgres", start, stop)
        finally:
            stop()


def missing_for_slurm() -> str | None:
    """Why no Slurm can be started here."""
    missing = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name, path=PATH) is None]
    if missing:
        return f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge"
    return None if os.geteuid() == 0 else "Slurm's daemons are started as root"


@contextmanager
def slurm() -> Iterator[dict[str, str]]:
    """A cluster of two nodes, both of them this machine; gives the environment in which its commands find it."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)
        settings, environment = folder / "slurm.conf", {**os.environ, "PATH": PATH, "SLURM_CONF": f"{name}/slurm.conf"}
        settings.write_text(_slurm_settings(folder))

        def start(*words: object) -> None:
            log = (folder / "daemons.out").open("a")
            process = subprocess.Popen([str(word) for word in words], env=environment, stdout=log, stderr=log)
            stack.callback(_end, process)

        (folder / "munge").mkdir(mode=0o711)
        (folder / "munge" / "key").write_bytes(os.urandom(1024))
        (folder / "munge" / "key").chmod(0o400)
        files = (f"--{kind}-file={folder}/munge/{kind}" for kind in ("key", "pid", "log", "seed"))
        start("munged", "--foreground", "--force", *files, f"--socket={folder}/munge/socket")
        start("slurmctld", "-D")
        for node in NODES:
            start("slurmd", "-D", "-N", node)
        for _ in range(100):
            said = subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout
            if said.split() == ["idle"]:
                break
            time.sleep(0.1)
        else:
            raise AssertionError({path.name: path.read_text()[-2000:] for path in folder.glob("*.out")})
        yield environment


def _slurm_settings(folder: Path) -> str:
    host = socket.gethostname()
    nodes = "\n".join(
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=1" for node in NODES
    )
    (folder / "state").mkdir()
    (folder / "spool").mkdir()
    return f"""
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=100000
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
CommunicationParameters=NoInAddrAny
MinJobAge=300
KillWait=10
{nodes}
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=urgent Nodes=ALL PriorityTier=2
"""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
