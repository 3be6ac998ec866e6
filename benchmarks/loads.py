"""The loads of a comparison. Each is bounded, and says how much work it was and what it cost.

A load is one process per client of `traffic.py`, all of them at the same time. The CPU time of the
server is read around the measured part alone: not while connections are made, unless they are what
is measured. The processes begin and end a little apart, so what the server needed is the mean of
what it needed from the beginning to the end of each; their requests are added.
"""

import json
import os
import re
import selectors
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import commands
import programs
import traffic
from commands import NotSupported
from servers import Server
from traffic import Requests

HERE = Path(__file__).resolve().parent
_IN_MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}
# Of its decoder's table alone (RFC 9204 3.2.3), so that servers refer to none: h2load counts a
# response as failed whose stream ends while its field section waits for the encoder stream. Its own
# encoder has a table, as a browser's: of 4 KiB, or less if the server grants less.
_TABLE_OPTION = "--header-table-size=0"
_H2LOAD_MARKS = ("Main benchmark duration is started", "Main benchmark duration is over")
_WRK_MARKS = ("Running ", "  Thread Stats")
_STALLED_SECONDS = 10


@dataclass
class Work:
    """What one run of a load did: units of work, in `seconds`, for `cpu` seconds of the server.

    Latencies are milliseconds, None where the load cannot tell. With several load processes `p50`
    is the median of their medians, and `p99` that of the process that saw the worst.
    """

    units: float
    seconds: float
    cpu: float
    p50: float | None = None
    p99: float | None = None


def h3(
    server: Server,
    seconds: int,
    *,
    requests: Callable[[], list[Requests]],
    connections: int,
    in_flight: int,
) -> Work:
    """Requests over HTTP/3 for `seconds`, on connections shared out among clients; a unit is one.

    Fewer connections than there are clients are of the first of these.
    """
    sent = requests()[:connections]
    # As long as the slowest takes to make its connections, which begin one client after another.
    pause = connections / 200 / len(sent)
    warm_up = 1 + connections / 50
    processes = []
    for number, each in enumerate(sent):
        options = ["-c", f"{connections // len(sent)}", "-m", f"{in_flight}", "-D", f"{seconds}"]
        # All are measured at the same time.
        options.append(f"--warm-up-time={1000 * (warm_up - number * pause):.0f}ms")
        processes.append(_h3_command(server, each, options))
    outputs, cpu = _run_marked(processes, server, _H2LOAD_MARKS, pause)
    return _h2load_work(server, outputs, seconds, cpu)


def h3_again(server: Server, seconds: int, *, connections: int, in_flight: int) -> Work:
    """The same small request over and over, as `h3` otherwise: a GET without fields."""
    again = Requests(traffic.Client("again", (), (), (), ""), (), ["/plaintext"])
    return h3(
        server, seconds, requests=lambda: [again], connections=connections, in_flight=in_flight
    )


def h3_single_pages(server: Server, seconds: int) -> Work:
    """Pages, each on a new connection with all its requests at once; a unit is one page.

    Every client loads one after another, so there are four at any time.
    """
    if not programs.speaks_http3("h2load"):
        raise NotSupported("no h2load with HTTP/3")
    options = ["-c", "1", "-n", f"{traffic.PAGE_REQUESTS}", "-m", f"{traffic.PAGE_REQUESTS}"]
    options += ["-N", f"{_STALLED_SECONDS}"]
    clients = [
        [_h3_command(server, page, options) for page in pages] for pages in traffic.single_pages()
    ]
    over = threading.Event()
    timer = threading.Timer(seconds, over.set)

    def load(pages: list[list[str]]) -> int:
        done = 0
        while not over.is_set():
            output = programs.run(*pages[done % len(pages)])
            if f" {traffic.PAGE_REQUESTS} succeeded, 0 failed" not in output:
                over.set()
                raise RuntimeError(f"a page of {server.name}'s: {output}")
            done += 1
        return done

    before = server.cpu_seconds()
    with ThreadPoolExecutor(len(clients)) as pool:
        timer.start()
        try:
            done = sum(pool.map(load, clients))
        finally:
            timer.cancel()
            over.set()
    return Work(done, seconds, server.cpu_seconds() - before)


def h1(
    server: Server, seconds: int, *, requests: Callable[[], list[Requests]], connections: int
) -> Work:
    """Requests over HTTP/1.1 with keep-alive for `seconds`, as `h3`; a unit is one."""
    sent = requests()[:connections]
    return _wrk(
        server,
        seconds,
        connections // len(sent),
        [
            ["-s", str(HERE / "requests.lua"), server.url, "--", str(_h1_file(each))]
            for each in sent
        ],
    )


def h1_again(server: Server, seconds: int, *, connections: int) -> Work:
    """The same small request over and over, as `h1` otherwise: a GET with only a Host."""
    return _wrk(server, seconds, connections, [[f"{server.url}/plaintext"]])


def _wrk(server: Server, seconds: int, connections: int, rests: list[list[str]]) -> Work:
    command = [*programs.tool("wrk"), "-t", "1", "-c", f"{connections}", "-d", f"{seconds}s"]
    outputs, cpu = _run_marked(
        [[*command, "--latency", *rest] for rest in rests], server, _WRK_MARKS
    )
    done, medians, worst = 0, [], []
    for output in outputs:
        if "Non-2xx" in output or "Socket errors" in output:
            raise RuntimeError(f"wrk against {server.name}: {output}")
        done += int(_find(r"(\d+) requests in", output))
        shares = dict(re.findall(r"^ *(50|99)% +([\d.]+(?:us|ms|s|m))$", output, re.MULTILINE))
        if len(shares) == 2:
            medians.append(_milliseconds(shares["50"]))
            worst.append(_milliseconds(shares["99"]))
    if not medians:
        return Work(done, seconds, cpu)
    return Work(done, seconds, cpu, statistics.median(medians), max(worst))


def _h2load_work(server: Server, outputs: list[str], seconds: int, cpu: float) -> Work:
    done, medians, worst = 0, [], []
    for output in outputs:
        succeeded = int(_find(r"(\d+) succeeded", output))
        failed = int(_find(r"(\d+) failed", output))
        if failed:
            raise RuntimeError(f"{server.name}: {succeeded} requests done, {failed} failed")
        if succeeded:
            times = _find(r"^(?:request|time for request) *: *(.*)$", output).split()
            # min, max, median, p95, p99, mean ...
            medians.append(_milliseconds(times[2]))
            worst.append(_milliseconds(times[4]))
        done += succeeded
    # One client alone may stand still for a second: aioquic's loss recovery backs off that far.
    if not done:
        raise RuntimeError(f"{server.name}: no request done")
    return Work(done, seconds, cpu, statistics.median(medians), max(worst))


def _h3_command(server: Server, requests: Requests, options: Sequence[str]) -> list[str]:
    """h2load with these requests, or what does its work where there is none."""
    if programs.speaks_http3("h2load"):
        command = [*programs.tool("h2load"), "--alpn-list=h3", _TABLE_OPTION]
    else:
        command = [sys.executable, str(HERE / "ngtcp2_load.py")]
    command += [*options, "-B", server.url, "-i", str(_h3_file(requests))]
    if requests.client.fields:
        command += ["-H", f":authority: {traffic.HOST}"]
    for name, value in requests.http3_fields():
        command += ["-H", f"{name}: {value}"]
    if requests.body is not None:
        command += ["-d", str(_written(f"body-of-{requests.client.name}", requests.body))]
    return command


def _h3_file(requests: Requests) -> Path:
    """The targets as h2load reads them; scheme and host are those of the server, by -B."""
    uris = "".join(f"https://{traffic.HOST}{target}\n" for target in requests.targets)
    return _written(f"targets-of-{requests.client.name}", uris.encode())


def _h1_file(requests: Requests) -> Path:
    """Whole requests as `requests.lua` reads them."""
    whole = b"".join(b"%d\n%b" % (len(each), each) for each in requests.http1_requests())
    return _written(f"requests-of-{requests.client.name}", whole)


def _written(name: str, data: bytes) -> Path:
    """A file with this content. What it is comes into its name: other runs may use theirs."""
    path = commands.state_directory() / f"{name}-{crc32(data):08x}"
    if not path.exists():
        path.write_bytes(data)
    return path


def download(server: Server, seconds: int, ca: Path, size: int) -> Work:
    """Downloads of `size` bytes, one after another for `seconds`; a unit is a megabit."""
    return _transfers(server, seconds, ca, size, f"/bytes/{size}", ())


def upload(server: Server, seconds: int, ca: Path, size: int) -> Work:
    """Uploads of `size` bytes, one after another for `seconds`; a unit is a megabit."""
    extra = ("-T", str(body_file(size)), "-H", "Expect:")
    return _transfers(server, seconds, ca, size, "/upload", extra)


def handshakes(server: Server, count: int, kind: str) -> Work:
    """`count` connections with one request each; a unit is a connection.

    `kind` is "full", or "resumed" for such as take up the session of an earlier one.
    """
    command = [sys.executable, str(HERE / "ngtcp2_handshakes.py"), f"{server.url}/plaintext"]
    (output,), cpu = _run_marked([[*command, f"{count}", kind]], server, _H2LOAD_MARKS)
    return Work(int(_find(r"(\d+) succeeded, 0 failed", output)), 0, cpu)


def body_file(size: int) -> Path:
    """A file of `size` bytes to send."""
    path = commands.state_directory() / f"body-{size}"
    if not path.exists():
        path.write_bytes((bytes(range(256)) * (size // 256 + 1))[:size])
    return path


def _transfers(
    server: Server, seconds: int, ca: Path, size: int, path: str, extra: tuple[str, ...]
) -> Work:
    """At least one transfer: CPU time is counted in 10 ms, and some servers need less for one."""
    version = "--http1.1"
    if server.http == "3":
        if not programs.speaks_http3("curl"):
            raise NotSupported("no curl with HTTP/3")
        version = "--http3-only"
    command = [*programs.tool("curl"), "-sS", version, "--cacert", f"{ca}", "-o", "/dev/null"]
    command += ["-w", "%{json}", *extra, f"{server.url.replace('127.0.0.1', 'localhost')}{path}"]
    taken, count = 0.0, 0
    before = server.cpu_seconds()
    while taken < seconds:
        result = json.loads(programs.run(*command))
        if result["http_code"] != 200 or max(result["size_download"], result["size_upload"]) < size:
            seen = {key: result[key] for key in ("http_code", "size_download", "size_upload")}
            raise RuntimeError(f"curl against {server.name}: {seen}")
        taken += float(result["time_total"])
        count += 1
    return Work(count * size * 8 / 1e6, taken, server.cpu_seconds() - before)


class _Process:
    """A load process, and what the server had needed when its measured part began and ended."""

    def __init__(self, command: list[str], terminal: int, marks: tuple[str, str]) -> None:
        self.output = ""
        self._begun: float | None = None
        self._ended: float | None = None
        self._marks = marks
        self._seen = 0
        self._command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal
        )

    def wrote(self, data: bytes, server: Server) -> None:
        """So much more has come from it."""
        self.output += data.decode(errors="replace").replace("\r", "")
        begins, ends = self._marks
        while (line_end := self.output.find("\n", self._seen)) >= 0:
            line, self._seen = self.output[self._seen : line_end], line_end + 1
            if begins in line:
                self._begun = server.cpu_seconds()
            elif ends in line:
                self._ended = server.cpu_seconds()

    def cpu_seconds(self) -> float:
        """What the server needed in its measured part. Raises RuntimeError if it failed."""
        if self._process.wait() or self._begun is None or self._ended is None:
            raise RuntimeError(f"{self._command!r}: {self.output}")
        return self._ended - self._begun

    def end(self) -> None:
        """End it, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _run_marked(
    commands: list[list[str]], server: Server, marks: tuple[str, str], pause: float = 0.0
) -> tuple[list[str], float]:
    """Run loads at the same time; what each wrote, and the CPU seconds that the server needed.

    `marks` are what the lines contain that tell the beginning and the end of a measured part. Each
    is started `pause` seconds after the one before.
    """
    running: dict[int, _Process] = {}
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for number, command in enumerate(commands):
            if number:
                time.sleep(pause)
            # A terminal: into a pipe h2load and wrk write their lines only when they end.
            terminal, its_end = os.openpty()
            stack.callback(os.close, terminal)
            try:
                running[terminal] = _Process(command, its_end, marks)
            finally:
                os.close(its_end)
            stack.callback(running[terminal].end)
            selector.register(terminal, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = _read(key.fd)
                if data:
                    running[key.fd].wrote(data, server)
                else:
                    selector.unregister(key.fd)
        cpu = statistics.mean(process.cpu_seconds() for process in running.values())
    if not cpu > 0:
        raise RuntimeError(f"{server.name} needed no CPU time")
    return [process.output for process in running.values()], cpu


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # Linux says so when the other end is closed
        return b""


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    if match is None:
        raise RuntimeError(f"no {pattern!r} in: {text}")
    return match[1]


def _milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * _IN_MILLISECONDS[unit]
