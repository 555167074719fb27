"""Two machines that are one: each has a network, a host name, processes and mounts of its own, and a cable to a switch.

They are namespaces of Linux, which are gone with the processes that hold them.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.support.scripts import ROOT

NAMESPACES = ("--net", "--uts", "--mount")


def missing_for_machines() -> str | None:
    """Why there can be no such machines here."""
    if missing := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        return f"no {', '.join(missing)}: apt-get install util-linux iproute2"
    make = "ip link add switch type bridge && ip link add one type veth peer name other && mount -t tmpfs none /mnt"
    tried = subprocess.run(["unshare", *NAMESPACES, "--pid", "--fork", "sh", "-c", make], capture_output=True)
    return None if tried.returncode == 0 else "namespaces and virtual networks may not be made here"


class Namespace:
    """What a process has for itself, which begins with some commands and then only waits."""

    def __init__(self, begin: str) -> None:
        words = ["unshare", *NAMESPACES, "sh", "-ec", f"{begin}; echo on; exec sleep infinity"]
        self._holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "on\n"
        self.pid = self._holder.pid

    def command(self, *words: object) -> list[str]:
        """A command as it is to be typed outside to be run in it, in the folder of the project."""
        enter = ["nsenter", "--target", str(self.pid), *NAMESPACES]
        return [*enter, "sh", "-c", 'cd "$0" && exec "$@"', str(ROOT), *map(str, words)]

    def do(self, *words: object) -> str:
        """Run a command to its end, which is to be a good one; returns what it prints."""
        return subprocess.run(self.command(*words), check=True, capture_output=True, text=True).stdout

    def end(self) -> None:
        """Leave nothing of it."""
        self._holder.kill()
        self._holder.wait()


class Machine(Namespace):
    """One of the two, with a folder for what its commands print."""

    def __init__(self, number: int, folder: Path, switch: Namespace) -> None:
        self.name, self.switch = f"node{number}", switch
        self.folder = folder / self.name
        self.folder.mkdir()
        self._running: list[subprocess.Popen[bytes]] = []
        (folder / "hosts").write_text("127.0.0.1 localhost\n10.77.0.1 node1\n10.77.0.2 node2\n")
        (folder / "resolv.conf").write_text("")
        files = "; ".join(f"mount --bind {folder}/{name} /etc/{name}" for name in ("hosts", "resolv.conf"))
        super().__init__(f"hostname {self.name}; {files}; ip link set lo up")
        place = ["netns", self.pid]
        switch.do("ip", "link", "add", self.name, "type", "veth", "peer", "name", "cable", *place)
        switch.do("ip", "link", "set", self.name, "master", "switch", "up")
        self.do("ip", "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
        self.do("ip", "link", "set", "cable", "up")

    def torchrun(self, *words: object, path: Path = ROOT) -> "subprocess.Popen[bytes]":
        """Begin this machine's part of what both do under torchrun; `path` is searched for task packages."""
        meeting = ("--nnodes", 2, "--rdzv_backend", "c10d", "--rdzv_endpoint", "node1:29400")
        launcher = (sys.executable, "-m", "torch.distributed.run", *meeting, "--nproc_per_node", 1)
        command = self.command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *launcher, *words)
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{path}:{ROOT}"}
        with (self.folder / "stdout").open("w") as out, (self.folder / "stderr").open("w") as error:
            started = subprocess.Popen(command, env=environment, stdout=out, stderr=error, stdin=subprocess.DEVNULL)
        self._running.append(started)
        return started

    @property
    def said(self) -> str:
        """What its latest training has printed."""
        return (self.folder / "stdout").read_text() + (self.folder / "stderr").read_text()

    def unplug(self) -> None:
        """Pull the cable out."""
        self.switch.do("ip", "link", "set", self.name, "down")

    def plug(self) -> None:
        """Put it back."""
        self.switch.do("ip", "link", "set", self.name, "up")

    def turn_off(self) -> None:
        """Have all that runs on it be gone at once, without a last word to anybody."""
        self.unplug()
        for process in self._running:
            process.kill()
            process.wait()
        self._running.clear()

    def end(self) -> None:
        """Leave nothing of it."""
        self.turn_off()
        super().end()


@contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach one another, and share the disk."""
    with ExitStack() as stack:
        switch = Namespace("ip link add switch type bridge; ip link set switch up")
        stack.callback(switch.end)
        both = Machine(1, folder, switch), Machine(2, folder, switch)
        for machine in both:
            stack.callback(machine.end)
        yield both
