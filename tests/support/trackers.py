"""What trackers have been told, read with the trackers' own means."""

import contextlib
import json
import multiprocessing
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Values = dict[str, Any]
BLOCK, HEADER = 32768, 7  # of LevelDB's log, in whose form W&B writes


def wandb_records(file: Path) -> Iterator[Any]:
    """The records of a `.wandb` file, in W&B's own protocol."""
    from wandb.proto import wandb_internal_pb2

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    position, content = HEADER, b""
    while position + HEADER <= len(data):
        left = BLOCK - position % BLOCK
        if left < HEADER:
            position += left
            continue
        _, length, kind = struct.unpack_from("<IHB", data, position)
        content += data[position + HEADER : position + HEADER + length]
        position += HEADER + length
        if kind in (1, 4):  # whole, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(content)
            content = b""
            yield record


def wandb_told(folder: Path) -> list[Values]:
    """What each offline run below an experiment says: id, project, group, name, config, rows, summary, exit code."""
    found = []
    for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        told: Values = {"rows": [], "summary": {}, "exit": None, "files": file.parent / "files"}
        for record in wandb_records(file):
            if record.WhichOneof("record_type") == "run" and "id" not in told:
                run = record.run
                config = {item.key: json.loads(item.value_json) for item in run.config.update}
                told |= {"id": run.run_id, "project": run.project, "group": run.run_group, "name": run.display_name}
                told["config"] = config
            elif record.WhichOneof("record_type") == "history":
                items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
                told["rows"].append({key: value for key, value in items.items() if key[0] != "_"})
            elif record.WhichOneof("record_type") == "summary":
                told["summary"] |= {
                    "/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.summary.update
                }
            elif record.WhichOneof("record_type") == "exit":
                told["exit"] = record.exit.exit_code
        found.append(told)
    return found


def mlflow_runs(store: str) -> list[Values]:
    """What each run in an MLflow store says: experiment, name, status, tags, params, points by name, files."""
    from mlflow import MlflowClient

    client = MlflowClient(store)
    found = []
    for group in client.search_experiments():
        for run in client.search_runs([group.experiment_id], order_by=["attributes.start_time ASC"]):
            id = run.info.run_id
            points = {
                key: sorted((one.step, one.value) for one in client.get_metric_history(id, key))
                for key in run.data.metrics
            }
            files = {file.path: client.download_artifacts(id, file.path) for file in client.list_artifacts(id)}
            names = {"group": group.name, "name": run.info.run_name, "id": id, "status": run.info.status}
            found.append({**names, "tags": run.data.tags, "params": run.data.params, "points": points, "files": files})
    return found


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def new_store(file: Path) -> str:
    """A store of MLflow in a file, with its tables, which take it seconds to make; gives its address."""
    from mlflow import MlflowClient

    MlflowClient(f"sqlite:///{file}").search_experiments()
    return f"sqlite:///{file}"


@contextlib.contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """MLflow's own server on loopback, with its store in `folder`; gives its address."""
    port = free_port()
    words = ["--workers", "1", "--host", "127.0.0.1", "--port", str(port), "--artifacts-destination", str(folder / "a")]
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{folder}/server.db", *words]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, process_group=0)
    try:
        for _ in range(1200):
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            assert process.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


class Line:
    """A line to a server: a process that passes on what it gets; whoever kills it has cut the line."""

    def __init__(self, target: str) -> None:
        host, port = target.removeprefix("http://").split(":")
        self.target = host, int(port)
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.mend()

    def mend(self) -> None:
        """Listen, again or for the first time."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.process = multiprocessing.get_context("fork").Process(target=_listen, args=(listener, self.target))
        self.process.start()
        listener.close()

    def cut(self) -> None:
        """Be gone, with all that is connected."""
        self.process.kill()
        self.process.join()


def _listen(listener: socket.socket, target: tuple[str, int]) -> None:
    while True:
        here, _ = listener.accept()
        there = socket.create_connection(target)
        for one, other in ((here, there), (there, here)):
            threading.Thread(target=_pass_on, args=(one, other), daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(65536):
            other.sendall(data)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
