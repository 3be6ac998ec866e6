"""The server role: tercel's QUIC endpoint on UDP 443, with hq-interop beside HTTP/3."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from interop.endpoint.contract import HQ_ALPN, Contract, read_contract
from interop.endpoint.hq import HqProtocol
from tercel.certs.load import load_credential
from tercel.options import settings_from, settings_options
from tercel.quic.endpoint import QuicEndpoint
from tercel.quic.http3.protocol import H3_ALPN
from tercel.server import AsyncioServer, Lifecycle
from tercel.shared.apps.loader import wrap
from tercel.shared.connection import ServerContext
from tercel.shared.errors import ConfigurationError
from tercel.shared.listener import Listener
from tercel.shared.loop import run
from tercel.shared.settings import Settings
from tercel.shared.tasks import TaskSet

# With 30 % loss each way a handshake takes longer than anybody would wait elsewhere.
_HANDSHAKE_SECONDS = 60.0
# The client has its files when the runner stops the server.
_GRACE_SECONDS = 1.0
_FAMILIES = (socket.AF_INET, socket.AF_INET6)
# The server's in the runner's network. It has one address of each kind, hence another port.
_PREFERRED_ADDRESSES = ("193.167.100.100", "fd00:cafe:cafe:100::100")
_PREFERRED_PORT = 4443
# Browsers show it, and run scripts in its name.
_NOT_FOUND = b"not found\n"


def settings_for(contract: Contract) -> Settings:
    """What the test case needs that tercel does not do by itself, and then what was asked for.

    The arguments are options of tercel's command line. Raises click.UsageError,
    ConfigurationError.
    """
    values: dict[str, Any] = {
        "handshake_timeout": _HANDSHAKE_SECONDS,
        "graceful_timeout": _GRACE_SECONDS,
        "keylog_file": contract.keylog_file,
        "qlog_dir": contract.qlog_dir,
        "early_data": contract.testcase == "zerortt",
        "retry": "always" if contract.testcase == "retry" else "never",
        "access_log": False,
    }
    command = click.Command("server", params=settings_options())
    context = command.make_context("SERVER_PARAMS", list(contract.arguments))
    given = {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return settings_from(values | given)


async def serve(contract: Contract, settings: Settings) -> None:
    """Serve the files in `contract.www` until SIGTERM."""
    loop = asyncio.get_running_loop()
    tasks, background = TaskSet(loop), TaskSet(loop)
    application = wrap(
        StaticFiles(contract.www), settings=settings, tasks=tasks, background=background
    )
    context = ServerContext(loop=loop, settings=settings, application=application, tasks=tasks)
    credential = load_credential(
        contract.certificates / "cert.pem", contract.certificates / "priv.key"
    )
    sockets = [_bound(family, "", contract.port) for family in _FAMILIES]
    preferred = []
    if contract.testcase == "connectionmigration":
        preferred = [
            _bound(family, address, _PREFERRED_PORT)
            for family, address in zip(_FAMILIES, _PREFERRED_ADDRESSES, strict=True)
        ]

    async def listeners() -> Sequence[Listener]:
        endpoint = QuicEndpoint(
            context,
            sockets,
            [credential],
            protocol=HqProtocol.serving(contract.www),
            alpn=(HQ_ALPN, H3_ALPN),
            preferred=preferred,
        )
        return [endpoint]

    lifecycle = Lifecycle(
        application=application,
        tasks=(tasks, background),
        graceful_timeout=settings.graceful_timeout,
    )
    await AsyncioServer(None, loop, listeners(), set(), lifecycle=lifecycle).run()


class StaticFiles:
    """An ASGI application that serves the files of one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError(f"{scope['type']} is not served")
        file = (self._root / scope["path"].lstrip("/")).resolve()
        found = file.is_relative_to(self._root) and file.is_file()
        size = file.stat().st_size if found else len(_NOT_FOUND)
        kind = b"application/octet-stream" if found else b"text/plain"
        headers = [(b"content-length", b"%d" % size), (b"content-type", kind)]
        status = 200 if found else 404
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if found:
            await send({"type": "http.response.pathsend", "path": str(file)})
        else:
            await send({"type": "http.response.body", "body": _NOT_FOUND})


def _bound(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_DGRAM)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.bind((address, port))
    return sock


def main() -> None:
    """Do what the environment asks for."""
    contract = read_contract(os.environ)
    try:
        settings = settings_for(contract)
    except (click.ClickException, ConfigurationError) as error:
        sys.exit(f"SERVER_PARAMS: {error}")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    if settings.qlog_dir is not None:
        Path(settings.qlog_dir).mkdir(parents=True, exist_ok=True)
    run(serve(contract, settings), settings.loop)


if __name__ == "__main__":
    main()
