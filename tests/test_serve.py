"""serve() and what it composes, on real sockets."""

import asyncio
import inspect
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import tercel
from tercel.certs.selfsigned import DevelopmentCertificates
from tercel.serve import compose
from tercel.shared.errors import ConfigurationError, ServerError
from tercel.shared.loop import loop_factory
from tercel.shared.settings import Settings
from tercel.shared.signals import Signal
from tercel.shared.sockets import AddressInUse, bind_datagram_socket, bind_socket
from tests.support.asynchronous import PATIENCE_SECONDS
from tests.support.descriptors import no_socket_left_open

Headers = dict[str, str]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the scheme and the HTTP version."""
    if scope["type"] != "http":
        raise RuntimeError("http only")
    body = f"{scope['scheme']} {scope['http_version']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="session")
def data_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session")
def development(data_directory: Path) -> DevelopmentCertificates:
    certificates = DevelopmentCertificates(data_directory)
    certificates.ensure()
    return certificates


@pytest.fixture(autouse=True)
def own_data_directory(
    monkeypatch: pytest.MonkeyPatch, development: DevelopmentCertificates, data_directory: Path
) -> None:
    monkeypatch.setenv("TERCEL_DATA_DIR", str(data_directory))


@pytest.fixture
def trusting(development: DevelopmentCertificates) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(development.ca_path))


@pytest.fixture
def pem(development: DevelopmentCertificates) -> Path:
    path = development.ensure().certificate_path
    assert path is not None
    return path


def within_seconds(test: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await test

    asyncio.run(bounded())


def serve_async(*args: Any, **kwargs: Any) -> tercel.AsyncioServer:
    server = tercel.serve(*args, **kwargs, run_async=True)
    assert server is not None
    return server


def port_of(server: tercel.AsyncioServer) -> int:
    return int(server.addresses[0].rpartition(":")[2])


async def get(
    port: int | None = None, *, tls: ssl.SSLContext | None = None, unix: Path | None = None
) -> tuple[Headers, str]:
    """The header fields and the content of GET / on HTTP/1.1."""
    if unix is not None:
        reader, writer = await asyncio.open_unix_connection(str(unix))
    else:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=tls, server_hostname="localhost" if tls else None
        )
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.decode().partition("\r\n\r\n")
    status, *lines = head.split("\r\n")
    assert status == "HTTP/1.1 200 OK"
    return dict(line.split(": ", 1) for line in lines), body


# -- the interface --------------------------------------------------------------------------------


def test_the_parameters_are_those_of_the_interface() -> None:
    parameters = list(inspect.signature(tercel.serve).parameters.values())
    positional = [item for item in parameters if item.kind is item.POSITIONAL_OR_KEYWORD]
    defaults = {item.name: item.default for item in positional}
    assert isinstance(defaults.pop("signal"), Signal)
    assert list(defaults) == [
        *("host", "port", "app", "ssl", "sock", "unix", "reuse_port", "loop", "protocol"),
        *("backlog", "register_sys_signals", "run_multiple", "run_async", "connections"),
        *("state", "asyncio_server_kwargs", "version"),
    ]
    required = [name for name, value in defaults.items() if value is inspect.Parameter.empty]
    assert required == ["host", "port", "app"]
    for name, value in {
        "ssl": None,
        "sock": None,
        "unix": None,
        "reuse_port": False,
        "loop": None,
        "protocol": tercel.HttpProtocol,
        "backlog": 100,
        "register_sys_signals": True,
        "run_multiple": False,
        "run_async": False,
        "connections": None,
        "state": None,
        "asyncio_server_kwargs": None,
        "version": tercel.HTTP.VERSION_1,
    }.items():
        assert defaults[name] is value or defaults[name] == value, name
    assert [item.name for item in parameters].index("signal") == 14


def test_every_public_name_is_there() -> None:
    for name in tercel.__all__:
        assert getattr(tercel, name) is not None
    assert callable(tercel.serve)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = tercel.nonsense


def without_aioquic(code: str) -> subprocess.CompletedProcess[str]:
    prologue = "import sys; sys.modules['aioquic'] = None\nimport asyncio, tercel\n"
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", prologue + code],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_version_1_works_without_aioquic() -> None:
    done = without_aioquic(
        "async def app(scope, receive, send): pass\n"
        "async def main():\n"
        "    async with tercel.serve('127.0.0.1', 0, app, run_async=True) as server:\n"
        "        print(server.is_serving())\n"
        "asyncio.run(main())"
    )
    assert (done.stdout, done.stderr) == ("True\n", "")


def test_version_3_without_aioquic_says_how_to_install_it() -> None:
    done = without_aioquic(
        "async def app(scope, receive, send): pass\n"
        "try: tercel.serve('127.0.0.1', 0, app, version=3)\n"
        "except tercel.ServerError as error: print(error)"
    )
    assert "pip install aioquic" in done.stdout


# -- what is served -------------------------------------------------------------------------------


def test_version_1_without_ssl_is_cleartext() -> None:
    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app) as server:
            fields, body = await get(port_of(server))
            assert body == "http 1.1"
            assert "alt-svc" not in fields

    within_seconds(main())


def test_run_async_returns_a_server_that_awaiting_starts() -> None:
    async def main() -> None:
        server = serve_async("127.0.0.1", 0, app)
        assert not server.is_serving()
        assert await server is server
        assert server.is_serving()
        await server.close()
        assert not server.is_serving()

    within_seconds(main())


def test_version_1_with_ssl_is_tls_without_alternative(pem: Path, trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app, {"cert": str(pem)}) as server:
            fields, body = await get(port_of(server), tls=trusting)
            assert body == "https 1.1"
            assert "alt-svc" not in fields

    within_seconds(main())


def test_version_1_takes_any_ssl_context(pem: Path, trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        async with serve_async("127.0.0.1", 0, app, context) as server:
            assert (await get(port_of(server), tls=trusting))[1] == "https 1.1"

    within_seconds(main())


def test_version_3_serves_both_on_one_port_and_http_1_points_to_http_3(
    trusting: ssl.SSLContext,
) -> None:
    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app, version=3) as server:
            port = port_of(server)
            assert server.addresses == [f"127.0.0.1:{port}"] * 2
            with pytest.raises(AddressInUse, match="UDP"):
                bind_datagram_socket("127.0.0.1", port)
            fields, body = await get(port, tls=trusting)
            assert body == "https 1.1"
            assert fields["alt-svc"] == f'h3=":{port}"; ma=86400'

    within_seconds(main())


def test_version_3_without_the_fallback_has_no_tcp() -> None:
    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app, version=3, fallback=False) as server:
            assert len(server.addresses) == 1
            with pytest.raises(ConnectionRefusedError):
                await get(port_of(server))

    within_seconds(main())


def test_http_3_answers_a_client_that_is_not_aioquic(
    development: DevelopmentCertificates,
) -> None:
    curl = pytest.importorskip("curl_cffi")

    async def main() -> None:
        async with (
            serve_async("127.0.0.1", 0, app, version=3) as server,
            curl.AsyncSession(verify=str(development.ca_path)) as client,
        ):
            answer = await client.get(
                f"https://localhost:{port_of(server)}/",
                http_version=curl.CurlHttpVersion.V3ONLY,
            )
            assert answer.text == "https 3"

    within_seconds(main())


def test_a_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        async with serve_async(None, None, app, unix=str(path)) as server:
            assert server.addresses == [str(path)]
            assert (await get(unix=path))[1] == "http 1.1"
        assert not path.exists()

    within_seconds(main())


@pytest.mark.parametrize(("settings", "mode"), [({}, 0o755), ({"unix_mode": "660"}, 0o660)])
def test_a_unix_socket_has_the_mode_that_the_settings_or_the_umask_say(
    settings: dict[str, Any], mode: int, tmp_path: Path
) -> None:
    async def main() -> None:
        path = tmp_path / "s"
        before = os.umask(0o022)
        try:
            async with serve_async(None, None, app, unix=str(path), settings=Settings(**settings)):
                assert stat.S_IMODE(path.stat().st_mode) == mode
        finally:
            os.umask(before)

    within_seconds(main())


@pytest.mark.parametrize("before", [None, 0o644, 0o600])
def test_a_key_log_is_its_user_s_alone_and_one_that_is_not_is_told(
    before: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    if before is not None:
        path.touch()
        path.chmod(before)

    async def main() -> None:
        settings = Settings(keylog_file=str(path))
        async with serve_async("127.0.0.1", 0, app, version=3, settings=settings):
            pass

    within_seconds(main())
    assert stat.S_IMODE(path.stat().st_mode) == (before or 0o600)
    told = [message for message in caplog.messages if "may be read by others" in message]
    assert len(told) == (before == 0o644)


def test_a_socket_of_the_caller_s_is_served() -> None:
    async def main() -> None:
        sock = bind_socket("127.0.0.1", 0)
        port = sock.getsockname()[1]
        async with serve_async(None, None, app, sock=sock):
            assert (await get(port))[1] == "http 1.1"
        assert sock.fileno() == -1

    within_seconds(main())


@pytest.mark.parametrize("bind", [bind_socket, bind_datagram_socket], ids=["TCP", "UDP"])
def test_version_3_completes_a_socket_of_the_caller_s(bind: Any, trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        sock = bind("127.0.0.1", 0)
        port = sock.getsockname()[1]
        async with serve_async(None, None, app, sock=sock, version=3) as server:
            assert server.addresses == [f"127.0.0.1:{port}"] * 2
            assert (await get(port, tls=trusting))[0]["alt-svc"].startswith(f'h3=":{port}"')

    within_seconds(main())


def test_two_servers_share_a_port_with_reuse_port() -> None:
    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app, version=3, reuse_port=True) as first:
            port = port_of(first)
            async with serve_async("127.0.0.1", port, app, version=3, reuse_port=True) as second:
                assert second.addresses == first.addresses

    within_seconds(main())


def test_settings_say_everything_else() -> None:
    async def main() -> None:
        settings = Settings(server_name="falcon", bind=("192.0.2.1:1",))
        async with serve_async("127.0.0.1", 0, app, settings=settings) as server:
            assert (await get(port_of(server)))[0]["server"] == "falcon"

    within_seconds(main())


def test_many_binds_each_point_to_their_own_port(tmp_path: Path, trusting: ssl.SSLContext) -> None:
    async def main() -> None:
        settings = Settings(
            bind=("127.0.0.1:0", "127.0.0.1:0"),
            plain_bind=("127.0.0.1:0",),
            unix=str(tmp_path / "s"),
        )
        composition = compose(app, settings, loop=asyncio.get_running_loop())
        first, second, plain, unix = composition.bindings
        async with composition.server:
            for binding in (first, second):
                port = binding.sockets.port
                fields, _ = await get(port, tls=trusting)
                assert fields["alt-svc"] == f'h3=":{port}"; ma=86400'
            assert first.sockets.port != second.sockets.port
            assert (await get(plain.sockets.port))[1] == "http 1.1"
            assert unix.unix is not None
            assert (await get(unix=Path(unix.unix)))[1] == "http 1.1"

    within_seconds(main())


def test_a_protocol_of_the_caller_s_serves_the_connections() -> None:
    class Greeting(tercel.SanicProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            assert self.transport is not None
            self.transport.write(b"hello")
            self.close()

    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app, protocol=Greeting) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
            assert await reader.read() == b"hello"
            writer.close()
            await writer.wait_closed()

    within_seconds(main())


def test_connections_holds_the_open_ones_and_they_share_state_and_signal() -> None:
    class Recording(tercel.HttpProtocol):
        made: asyncio.Future["Recording"]

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.made.set_result(self)

    async def main() -> None:
        connections: set[Any] = set()
        stop, state = Signal(), {"shared": True}
        Recording.made = asyncio.get_running_loop().create_future()
        server = await serve_async(
            *("127.0.0.1", 0, app),
            protocol=Recording,
            connections=connections,
            signal=stop,
            state=state,
        )
        _, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        connection = await Recording.made
        assert connections == {connection}
        assert server.connections is connections
        assert connection.signal is stop
        assert connection.state is state
        assert not stop.stopped
        await server.close()
        assert stop.stopped
        assert connections == set()
        writer.close()

    within_seconds(main())


def test_servers_do_not_share_the_default_signal() -> None:
    async def main() -> None:
        async with serve_async("127.0.0.1", 0, app):
            pass
        default = inspect.signature(tercel.serve).parameters["signal"].default
        assert default.stopped is False

    within_seconds(main())


def test_asyncio_server_kwargs_reach_the_loop_s_server() -> None:
    async def main() -> None:
        arguments = {"nonsense": 1}
        with pytest.raises(TypeError, match="nonsense"):
            await serve_async("127.0.0.1", 0, app, asyncio_server_kwargs=arguments)

    within_seconds(main())


@pytest.mark.parametrize("further", [{}, {"ssl_handshake_timeout": None}])
def test_a_server_that_shall_not_start_serving_accepts_when_it_is_told_to(
    further: dict[str, object],
) -> None:
    async def main() -> None:
        ran: list[str] = []
        server = serve_async(
            "127.0.0.1",
            0,
            app,
            asyncio_server_kwargs={"start_serving": False, **further},
            before_start=lambda: ran.append("before_start"),
            after_start=lambda: ran.append("after_start"),
        )
        async with server:
            assert (server.is_serving(), ran) == (False, ["before_start"])
            await server.start_serving()
            assert server.is_serving()
            assert (await get(port_of(server)))[1] == "http 1.1"
            await server.after_start()
            assert ran == ["before_start", "after_start"]

    within_seconds(main())


@pytest.mark.parametrize("version", [1, 3])
def test_serve_forever_accepts_where_the_server_should_not_start_serving(version: int) -> None:
    async def main() -> None:
        started = asyncio.Event()
        server = serve_async(
            "127.0.0.1",
            0,
            app,
            version=version,
            asyncio_server_kwargs={"start_serving": False},
            after_start=started.set,
        )
        await server
        assert not server.is_serving()
        serving = asyncio.create_task(server.serve_forever())
        await started.wait()
        assert all(listener.is_serving() for listener in server.listeners)
        await server.close()
        await serving

    within_seconds(main())


def test_a_server_that_never_started_serving_can_be_closed() -> None:
    async def main() -> None:
        arguments = {"start_serving": False}
        server = await serve_async("127.0.0.1", 0, app, asyncio_server_kwargs=arguments)
        await server.close()
        with pytest.raises(ServerError, match="has stopped"):
            await server.start_serving()

    within_seconds(main())


def test_an_empty_host_serves_all_interfaces() -> None:
    async def main() -> None:
        async with serve_async("", 0, app) as server:
            assert f"0.0.0.0:{port_of(server)}" in server.addresses
            assert (await get(port_of(server)))[1] == "http 1.1"

    within_seconds(main())


def test_an_empty_host_needs_a_certificate_for_version_3() -> None:
    with pytest.raises(ConfigurationError, match="from other machines"):
        tercel.serve("", 0, app, version=3)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_a_loop_that_was_stopped_can_run_the_server_s_end(kind: str) -> None:
    """As Sanic's advanced example does: the steps one by one, after `run_forever`."""
    ran: list[str] = []
    loop = loop_factory(kind)()
    server = serve_async(
        "127.0.0.1",
        0,
        app,
        loop=loop,
        asyncio_server_kwargs={"start_serving": False},
        before_stop=lambda: ran.append("before_stop"),
        after_stop=lambda: ran.append("after_stop"),
    )
    with closing(loop):
        loop.run_until_complete(server)
        loop.run_until_complete(server.start_serving())

        async def ask() -> None:
            ran.append((await get(port_of(server)))[1])
            loop.stop()

        asking = loop.create_task(ask())
        loop.run_forever()
        assert asking.done()
        loop.stop()  # once more, as on KeyboardInterrupt
        loop.run_until_complete(server.before_stop())
        assert ran == ["http 1.1", "before_stop"]
        loop.run_until_complete(server.close())
        assert not server.connections
        loop.run_until_complete(server.after_stop())
    assert ran == ["http 1.1", "before_stop", "after_stop"]


# -- callbacks, lifespan, stopping ----------------------------------------------------------------


def test_callbacks_one_or_several_plain_or_async_get_app_and_loop() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[str] = []

        def note(name: str) -> Any:
            def callback(given_app: object, given_loop: object) -> None:
                assert given_app is app
                assert given_loop is loop
                calls.append(name)

            return callback

        async def slow(given_app: object, given_loop: object) -> None:
            await asyncio.sleep(0)
            calls.append("slow")

        server = serve_async(
            *("127.0.0.1", 0, app),
            before_start=[note("before_start"), slow],
            after_start=note("after_start"),
            before_stop=note("before_stop"),
            after_stop=(note("after_stop"),),
        )
        async with server:
            assert calls == ["before_start", "slow", "after_start"]
        assert calls[3:] == ["before_stop", "after_stop"]

    within_seconds(main())


def test_an_application_that_fails_to_start_leaves_no_socket_open() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def main() -> None:
        with pytest.raises(ServerError, match="no database"):
            await serve_async("127.0.0.1", 0, failing, version=3)

    with no_socket_left_open():
        within_seconds(main())


def test_an_exchange_that_runs_when_the_server_stops_is_finished() -> None:
    async def main() -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                begun.set()
                await may_end.wait()
                await app(scope, receive, send)

        server = await serve_async("127.0.0.1", 0, slow)
        port = port_of(server)
        answer = asyncio.ensure_future(get(port))
        await begun.wait()
        closing_task = server.close()
        while server.is_serving():
            await asyncio.sleep(0)
        with pytest.raises(ConnectionRefusedError):
            await get(port)
        may_end.set()
        assert (await answer)[1] == "http 1.1"
        await closing_task

    within_seconds(main())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_returns_after_a_signal(number: signal.Signals) -> None:
    stopped: list[str] = []
    result = tercel.serve(
        *("127.0.0.1", 0, app),
        after_start=lambda: os.kill(os.getpid(), number),
        after_stop=lambda: stopped.append("stopped"),
    )
    assert result is None
    assert stopped == ["stopped"]


def test_serve_runs_on_the_loop_that_it_is_given_and_leaves_it_open() -> None:
    used: list[asyncio.AbstractEventLoop] = []

    def after_start(app: object, loop: asyncio.AbstractEventLoop) -> None:
        used.append(loop)
        os.kill(os.getpid(), signal.SIGTERM)

    loop = asyncio.new_event_loop()
    try:
        tercel.serve("127.0.0.1", 0, app, loop=loop, after_start=after_start)
        assert used == [loop]
        assert not loop.is_closed()
    finally:
        loop.close()


def test_a_thread_serves_without_signals() -> None:
    def in_thread() -> str:
        with pytest.raises(ConfigurationError, match="register_sys_signals=False"):
            tercel.serve("127.0.0.1", 0, app)

        def fail() -> None:
            raise ServerError("far enough")

        with pytest.raises(ServerError, match="far enough"):
            tercel.serve("127.0.0.1", 0, app, register_sys_signals=False, after_start=fail)
        return "done"

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_thread).result() == "done"


# -- mistakes: told in one line, before a socket is open ------------------------------------------


def mistake(*args: Any, **kwargs: Any) -> str:
    """What serve says about its arguments; also when it is to block."""
    with no_socket_left_open(), pytest.raises(ConfigurationError) as caught:
        tercel.serve(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_version_that_is_none() -> None:
    assert mistake("127.0.0.1", 0, app, version=2) == "version is 1 or 3, not 2"


def test_another_address_than_loopback_needs_a_certificate() -> None:
    assert "needs a certificate" in mistake("0.0.0.0", 0, app, version=3)
    assert "needs a certificate" in mistake("example.org", 0, app, version=3)


def test_a_certificate_that_is_not_there() -> None:
    assert "/no/such.pem" in mistake("127.0.0.1", 0, app, {"cert": "/no/such.pem"})


def test_a_key_without_its_certificate() -> None:
    assert "--cert" in mistake("127.0.0.1", 0, app, version=3, settings=Settings(key="k.pem"))


def test_an_ssl_context_that_names_no_files_cannot_serve_http_3() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert "SSLContext" in mistake("127.0.0.1", 0, app, context, version=3)


def test_client_certificates_are_not_silently_dropped_on_http_3() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    assert "client certificates" in mistake("127.0.0.1", 0, app, context, version=3)


def test_what_is_no_application() -> None:
    assert "application" in mistake("127.0.0.1", 0, object())


def test_a_unix_socket_cannot_carry_http_3(tmp_path: Path) -> None:
    assert "version=1" in mistake(None, None, app, unix=str(tmp_path / "s"), version=3)
    assert not (tmp_path / "s").exists()


def test_unix_and_sock_together(tmp_path: Path) -> None:
    with closing(bind_socket("127.0.0.1", 0)) as sock:
        assert "exclude" in mistake(None, None, app, unix=str(tmp_path / "s"), sock=sock)


def test_sockets_of_the_wrong_kind_are_told_and_stay_open() -> None:
    with closing(bind_datagram_socket("127.0.0.1", 0)) as udp:
        assert "version=3" in mistake(None, None, app, sock=udp)
        assert udp.fileno() >= 0
    with closing(bind_socket("127.0.0.1", 0)) as tcp:
        assert "TCP socket" in mistake(None, None, app, sock=tcp, version=3, fallback=False)
        assert tcp.fileno() >= 0
    with closing(socket.socket(socket.AF_UNIX)) as unix:
        assert "UDP" in mistake(None, None, app, sock=unix, version=3)


def test_a_port_in_use() -> None:
    with closing(bind_socket("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert f"127.0.0.1:{port} (TCP) is in use" in mistake("127.0.0.1", port, app)
        assert f"127.0.0.1:{port} (TCP) is in use" in mistake("127.0.0.1", port, app, version=3)


def test_one_address_that_cannot_be_bound_releases_the_others(tmp_path: Path) -> None:
    async def main() -> None:
        with closing(bind_socket("127.0.0.1", 0)) as other:
            settings = Settings(
                bind=("127.0.0.1:0",),
                plain_bind=(f"127.0.0.1:{other.getsockname()[1]}",),
            )
            with no_socket_left_open(), pytest.raises(AddressInUse):
                compose(app, settings, loop=asyncio.get_running_loop())

    within_seconds(main())


def test_nothing_to_serve_on() -> None:
    async def main() -> None:
        with pytest.raises(ConfigurationError, match="nothing to serve on"):
            compose(app, Settings(bind=()), loop=asyncio.get_running_loop())

    within_seconds(main())


def test_run_async_without_a_loop() -> None:
    assert "loop" in mistake("127.0.0.1", 0, app, run_async=True)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"qlog_dir": "/no/such"}, "--qlog-dir /no/such"),
        ({"keylog_file": "/no/such/file"}, "/no/such/file"),
        ({"server_name": "a\r\nb"}, "--server-name"),
        ({"server_name": "färber"}, "--server-name"),
    ],
)
def test_settings_that_would_fail_later(settings: dict[str, Any], named: str) -> None:
    assert named in mistake("127.0.0.1", 0, app, settings=Settings(**settings))
