"""How each server is started: pinned, in an environment of its own, at its fast settings.

Every one gets one worker process, uvloop where it takes it, no access log, and time-outs long
enough that idle connections outlive a measurement. The requirements in `benchmarks/peers` are
installed into `benchmarks/.venvs` on first use.
"""

import atexit
import importlib.metadata
import shutil
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import programs

HERE = Path(__file__).resolve().parent
# Seconds; longer than any measurement.
_KEEP_ALIVE = "300"

# uvicorn's WebSocket implementations; the first is the one it chooses by itself.
UVICORNS = {"uvicorn": "auto", "uvicorn-sansio": "websockets-sansio", "uvicorn-wsproto": "wsproto"}


# These run in the environment of the benchmarks themselves.
_OWN = ("tercel", "aioquic")


class NotSupported(Exception):
    """The server has no such protocol, or a program that it needs is not installed."""


@dataclass(frozen=True)
class Certificate:
    """PEM files that every server in a run is given."""

    cert: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Launch:
    """The processes that are a server; the last one listens.

    `pid_file` names the process of a command that puts itself into the background; `behind` is the
    socket of a server that the one that listens asks, there once it is ready. `environment` is what
    theirs has besides.
    """

    commands: list[list[str]]
    pid_file: Path | None = None
    behind: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)


def launch(name: str, certificate: Certificate, port: int, http: str) -> Launch:
    """How to start server `name` on `port`; `http` is "3", "1" or "1-plain"."""
    if name == "nginx":
        return _nginx(certificate, port, http)
    if name in UVICORNS:
        return Launch([_uvicorn(name, certificate, port, http)])
    if name not in _COMMANDS:
        raise NotSupported(name)
    # Hypercorn 0.18 offers trailers, but over HTTP/3 sends DATA behind them, which aioquic refuses:
    # no response with trailers ever ends.
    environment = {"BENCHMARK_TRAILERS": "no"} if name == "hypercorn" else {}
    return Launch([_COMMANDS[name](certificate, port, http)], environment=environment)


@lru_cache
def state_directory() -> Path:
    """Where environments, logs and other files that can be made again are kept."""
    directory = HERE / ".venvs"
    directory.mkdir(exist_ok=True)
    return directory


def install(names: list[str]) -> None:
    """Make the environments of `names`, where they are not there yet."""
    for name in names:
        if name not in _OWN:
            _peer_python(_package(name))


def versions(names: list[str]) -> dict[str, str]:
    """The version of each server, and of the interpreter; tercel's is the working copy's."""
    found = {"python": sys.version.split()[0]}
    for name in names:
        if name == "nginx":
            found[name] = programs.version("nginx", "-v").rpartition("/")[2]
        if name != "tercel":
            package = _package(name)
            found[package] = _package_version(package)
    return found


def _package(name: str) -> str:
    return "uvicorn" if name in UVICORNS or name == "nginx" else name


def _distribution(package: str) -> str:
    return "peregrine-server" if package == "peregrine" else package


@lru_cache
def _package_version(package: str) -> str:
    if package in _OWN:
        return importlib.metadata.version(package)
    script = f"import importlib.metadata as m; print(m.version({_distribution(package)!r}))"
    return programs.run(str(_peer_python(package)), "-c", script).strip()


def _tercel(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [sys.executable, "-m", "tercel", "--no-access-log", "--log-level", "warning"]
    if http == "1-plain":
        # --bind is there for the certificate's sake only; nothing is sent to it.
        command += ["--bind", "127.0.0.1:0", "--plain-bind", f"127.0.0.1:{port}"]
    else:
        command += ["--bind", f"127.0.0.1:{port}"]
    command += ["--http", "3" if http == "3" else "1", "--keep-alive-timeout", _KEEP_ALIVE]
    # The others ask no client to show its address first, however fast connections come.
    command += ["--idle-timeout", _KEEP_ALIVE, "--loop", "uvloop", "--retry", "never"]
    return [*command, "--cert", str(certificate.cert), "--key", str(certificate.key), "app:app"]


def _hypercorn(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [str(_peer_python("hypercorn")), "-m", "hypercorn", "-k", "uvloop"]
    command += ["--keep-alive", _KEEP_ALIVE, "-b", f"127.0.0.1:{port}"]
    if http != "1-plain":
        command += ["--certfile", str(certificate.cert), "--keyfile", str(certificate.key)]
    if http == "3":
        command += ["--quic-bind", f"127.0.0.1:{port}"]
    return [*command, "app:app"]


def _aioquic(certificate: Certificate, port: int, http: str) -> list[str]:
    if http != "3":
        raise NotSupported("aioquic is for HTTP/3")
    # The aioquic that tercel runs on, too: what is compared is what is made of it.
    script = HERE / "peers" / "aioquic_server.py"
    return [sys.executable, str(script), str(certificate.cert), str(certificate.key), str(port)]


def _sanic(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [str(_peer_python("sanic")), "-m", "sanic", "sanic_app:app", "--single-process"]
    command += ["--no-motd", "--no-access-logs", "--host", "127.0.0.1", "--port", str(port)]
    if http != "1-plain":
        command += ["--cert", str(certificate.cert), "--key", str(certificate.key)]
    return [*command, "--http", "3" if http == "3" else "1"]


def _granian(certificate: Certificate, port: int, http: str) -> list[str]:
    if http == "3":
        raise NotSupported("granian has no HTTP/3")
    command = [str(_peer_python("granian").parent / "granian"), "--interface", "asgi"]
    command += ["--loop", "uvloop", "--workers", "1", "--http", "1", "--no-access-log"]
    command += ["--log-level", "warning", "--host", "127.0.0.1", "--port", str(port)]
    if http == "1":
        command += ["--ssl-certificate", str(certificate.cert)]
        command += ["--ssl-keyfile", str(certificate.key)]
    return [*command, "app:app"]


def _peregrine(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [str(_peer_python("peregrine").parent / "peregrine"), "--protocol", "asgi"]
    command += ["--workers", "1", "--log-level", "error", "--python-path", str(HERE)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-body", str(1 << 31)]
    milliseconds = f"{_KEEP_ALIVE}000"
    command += ["--keep-alive", milliseconds, "--request-timeout", milliseconds]
    if http != "1-plain":
        command += ["--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key)]
    if http == "3":
        command += ["--http3"]
    return [*command, "app:app"]


def _pyvoy(certificate: Certificate, port: int, http: str) -> list[str]:
    command = [str(_peer_python("pyvoy").parent / "pyvoy"), "--websockets"]
    command += ["--no-websockets-compression", "--address", "127.0.0.1", "--port", str(port)]
    if http != "1-plain":
        command += ["--tls-cert", str(certificate.cert), "--tls-key", str(certificate.key)]
    if http == "1":
        command += ["--tls-disable-http3"]
    # What follows the dashes is Envoy's: its threads, which are one for each core otherwise.
    return [*command, "app:app", "--", "--concurrency", "1"]


def _uvicorn(name: str, certificate: Certificate, port: int, http: str) -> list[str]:
    if http == "3":
        raise NotSupported("uvicorn has no HTTP/3")
    command = [*_uvicorn_base(name), "--port", str(port)]
    if http == "1":
        command += ["--ssl-certfile", str(certificate.cert)]
        command += ["--ssl-keyfile", str(certificate.key)]
    return [*command, "app:app"]


def _uvicorn_base(name: str) -> list[str]:
    command = [str(_peer_python("uvicorn")), "-m", "uvicorn", "--loop", "uvloop"]
    command += ["--http", "httptools", "--ws", UVICORNS[name], "--no-access-log"]
    return [*command, "--log-level", "warning", "--timeout-keep-alive", _KEEP_ALIVE]


def _nginx(certificate: Certificate, port: int, http: str) -> Launch:
    """nginx with HTTP/3 in front of uvicorn on a unix socket."""
    if http != "3":
        raise NotSupported("nginx is here for its HTTP/3")
    if programs.find("nginx") is None or "http_v3" not in programs.version("nginx", "-V"):
        raise NotSupported("no nginx with http_v3")
    # Of its own: another run may have its nginx at the same time.
    home = Path(tempfile.mkdtemp(prefix="tercel-bench-nginx-"))
    home.chmod(0o755)  # nginx works as another user than it was started by
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    configuration = home / "nginx.conf"
    values = {
        "HOME": str(home),
        "PORT": str(port),
        "CERT": str(certificate.cert),
        "KEY": str(certificate.key),
    }
    text = (HERE / "peers" / "nginx.conf").read_text()
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    configuration.write_text(text)
    socket = home / "uvicorn.sock"
    behind = [*_uvicorn_base("uvicorn"), "--uds", str(socket), "app:app"]
    front = [*programs.tool("nginx"), "-c", str(configuration), "-p", str(home)]
    return Launch([behind, front], pid_file=home / "nginx.pid", behind=socket)


_COMMANDS = {
    "tercel": _tercel,
    "aioquic": _aioquic,
    "hypercorn": _hypercorn,
    "sanic": _sanic,
    "granian": _granian,
    "peregrine": _peregrine,
    "pyvoy": _pyvoy,
}


@lru_cache
def _peer_python(name: str) -> Path:
    home = state_directory() / name
    python = home / "bin" / "python"
    requirements = HERE / "peers" / f"{name}.txt"
    ready = home / "ready"
    # Also made anew for another interpreter: all servers run on the same.
    made_of = f"{requirements.read_text()}# {sys.base_prefix} {sys.version}\n"
    if not ready.exists() or ready.read_text() != made_of:
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", requirements], check=True)
        ready.write_text(made_of)
    return python
