#!/usr/bin/env python3
"""The service end to end, beside the service one would otherwise write in Python.

Starts each server, posts one study again and again over one keep-alive connection per client, and reports what a client sees:
start-up to ready, memory idle and under load (proportional set size of all its processes), latency (minimum, median, p99), the share of each stage,
overhead (latency minus the network's own time) and studies per second with 1, 2 and 8 clients. Both run in one go on the same machine with the
same bundle and threads; rounds alternate, so a drift of the machine's speed meets both. The client is a bare socket: one write, reads until
the response is whole, so that its own cost (a few hundredths of a millisecond) does not count as the server's.

    tests/bench/service.py [--rounds 3] [--requests 100] [--study tests/data/sample/dicom/FILE.dcm …] [--no-peer] [--append ROUNDS] [--json OUT]

--append keeps the rounds in a file and reports over all that are in it, so that a long measurement can be made of short calls.

Needs build/release/medfusion, and for the peer a Python with tests/bench/requirements.txt (PEER_PYTHON, default build/venv-train/bin/python).
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
STAGES = ("decode", "segment", "vision", "temporal", "ehr", "fusion")


def process_tree(pid):
    """The process and all its descendants."""
    found, queue = [], [pid]
    while queue:
        current = queue.pop()
        found.append(current)
        for task in pathlib.Path(f"/proc/{current}/task").glob("*/children"):
            try:
                queue.extend(int(child) for child in task.read_text().split())
            except OSError:
                pass
    return found


def memory_mb(pid):
    """Proportional set size of the tree: shared pages are counted once over all processes that share them."""
    total = 0
    for each in process_tree(pid):
        try:
            text = pathlib.Path(f"/proc/{each}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1))
    return total / 1024


def multipart(files):
    """One multipart/form-data body of (part name, file name, content type, bytes), and its Content-Type."""
    boundary = "medfusion-bench-4f1c2a"
    body = b"".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\nContent-Type: {kind}\r\n\r\n'.encode() + data + b"\r\n"
        for name, file_name, kind, data in files
    )
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Connection:
    """One keep-alive connection that carries ready-made requests."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def exchange(self, request):
        """(status, body) of one response; both servers announce its length."""
        self.socket.sendall(request)
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(re.search(rb"\ncontent-length: *(\d+)", head, re.I).group(1))
        while len(body) < length:
            body += self.receive()
        return int(head.split(None, 2)[1]), body

    def receive(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise SystemExit("the server closed the connection")
        return data


class Server:
    """A server process: how to start it, ask it, and read its answer."""

    def __init__(self, name, command, path, environment=None):
        self.name, self.command, self.path, self.environment = name, command, path, environment
        self.process = self.host = self.port = None

    def start(self):
        begin = time.perf_counter()
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                        env={**os.environ, **(self.environment or {})})
        for line in self.process.stdout:
            match = re.search(r"http://([0-9.]+):(\d+)", line)
            if match:
                self.host, self.port = match.group(1), int(match.group(2))
                break
        else:
            raise SystemExit(f"{self.name}: ended before it printed its address")
        while True:
            try:
                connection = http.client.HTTPConnection(self.host, self.port, timeout=5)
                connection.request("GET", "/v2/health/ready")
                if connection.getresponse().status == 200:
                    return time.perf_counter() - begin
            except OSError:
                pass
            time.sleep(0.005)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def connect(self):
        return Connection(self.host, self.port)

    def request(self, body, content_type):
        """The bytes of a request that posts one study and waits for its result."""
        head = (f"POST {self.path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
                "Prefer: wait=60\r\nAccept: application/json\r\n\r\n")
        return head.encode() + body

    def post(self, connection, request):
        """One study; returns (seconds, result)."""
        begin = time.perf_counter()
        status, data = connection.exchange(request)
        seconds = time.perf_counter() - begin
        if status != 200:
            raise SystemExit(f"{self.name}: HTTP {status}: {data[:500]!r}")
        return seconds, json.loads(data)


def sequential(server, body, content_type, count):
    """Latencies, the network's own time and the stages of `count` requests one after the other."""
    connection, request = server.connect(), server.request(body, content_type)
    for _ in range(5):
        server.post(connection, request)
    rows = []
    for _ in range(count):
        seconds, result = server.post(connection, request)
        stages = {stage: result["timing_ms"].get(stage) or 0.0 for stage in STAGES}
        rows.append({"latency": 1000 * seconds, "network": sum(stages.values()) - stages["decode"], **stages})
    return rows


def throughput(server, body, content_type, clients, seconds):
    """Studies per second with `clients` connections that each post as fast as they are answered, and the peak memory meanwhile."""
    done, stop, peak = [0] * clients, time.perf_counter() + seconds, [0.0]

    def client(i):
        connection, request = server.connect(), server.request(body, content_type)
        while time.perf_counter() < stop:
            server.post(connection, request)
            done[i] += 1

    def watch():
        while time.perf_counter() < stop:
            peak[0] = max(peak[0], memory_mb(server.process.pid))
            time.sleep(0.25)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)] + [threading.Thread(target=watch)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / (time.perf_counter() - begin), peak[0]


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def measure(server, body, content_type, requests, seconds):
    figures = {"start_s": server.start()}
    time.sleep(1.0)
    figures["idle_mb"] = memory_mb(server.process.pid)
    figures["rows"] = sequential(server, body, content_type, requests)
    for clients in (1, 2, 8):
        figures[f"rate_{clients}"], figures["load_mb"] = throughput(server, body, content_type, clients, seconds)
    server.stop()
    return figures


def summarise(rounds):
    """One figure per measure over all rounds: medians, and the minimum where the best shows the machine undisturbed."""
    rows = [row for figures in rounds for row in figures["rows"]]
    latency = [row["latency"] for row in rows]
    summary = {
        "start to ready, s (median)": statistics.median(f["start_s"] for f in rounds),
        "memory idle, MB (median)": statistics.median(f["idle_mb"] for f in rounds),
        "memory under load, MB (max)": max(f["load_mb"] for f in rounds),
        "latency, ms (min)": min(latency),
        "latency, ms (median)": statistics.median(latency),
        "latency, ms (p99)": quantile(latency, 0.99),
        "overhead, ms (min)": min(row["latency"] - row["network"] for row in rows),
        "overhead, ms (median)": statistics.median(row["latency"] - row["network"] for row in rows),
    }
    for stage in STAGES:
        summary[f"  {stage}, ms (median)"] = statistics.median(row[stage] for row in rows)
    for clients in (1, 2, 8):
        summary[f"studies/s, {clients} client{'s' if clients > 1 else ''} (median)"] = statistics.median(f[f"rate_{clients}"] for f in rounds)
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=100, help="sequential requests a round")
    parser.add_argument("--seconds", type=float, default=5, help="of load for each number of clients")
    parser.add_argument("--model", default=str(ROOT / "models/thorax-nih"))
    parser.add_argument("--study", nargs="+", default=[str(sorted((ROOT / "tests/data/sample/dicom").glob("*.dcm"))[-1])])
    parser.add_argument("--ehr", default=str(ROOT / "tests/data/sample/ehr.json"))
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--append", type=pathlib.Path, metavar="ROUNDS")
    parser.add_argument("--json")
    arguments = parser.parse_args()

    parts = [("dicom", pathlib.Path(p).name, "application/dicom", pathlib.Path(p).read_bytes()) for p in arguments.study]
    parts.append(("ehr", "ehr.json", "application/fhir+json", pathlib.Path(arguments.ehr).read_bytes()))
    body, content_type = multipart(parts)

    rounds = {"medfusion": [], "python": []}
    if arguments.append and arguments.append.exists():
        rounds = json.loads(arguments.append.read_text())
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as state:
            ours = Server("medfusion", [str(ROOT / "build/release/medfusion"), "serve", "--http.listen", "127.0.0.1:0", "--data.directory", state,
                                        "--models.directories", arguments.model, "--worker.threads", str(arguments.threads)], "/v1/jobs")
            rounds["medfusion"].append(measure(ours, body, content_type, arguments.requests, arguments.seconds))
        if not arguments.no_peer:
            peer = Server("python", [os.environ.get("PEER_PYTHON", str(ROOT / "build/venv-train/bin/python")), str(ROOT / "tests/bench/peer/service.py"),
                                     arguments.model, str(arguments.threads)], "/predict")
            rounds["python"].append(measure(peer, body, content_type, arguments.requests, arguments.seconds))
        if arguments.append:
            arguments.append.write_text(json.dumps(rounds))

    ours = summarise(rounds["medfusion"])
    theirs = summarise(rounds["python"]) if rounds["python"] else None
    print(f"{len(rounds['medfusion'])} rounds")
    print(f"| {'measure':34} | medfusion |" + (" Python peer | times better |" if theirs else ""))
    print(f"|{'-' * 36}|----------:|" + ("------------:|-------------:|" if theirs else ""))
    for name, value in ours.items():
        line = f"| {name:34} | {value:9.2f} |"
        if theirs:
            better = value / theirs[name] if "studies/s" in name else theirs[name] / value
            line += f" {theirs[name]:11.2f} | {better:12.2f} |"
        print(line)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps({"medfusion": ours, "python": theirs}, indent=1))


if __name__ == "__main__":
    main()
