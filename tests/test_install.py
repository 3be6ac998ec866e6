"""install_sanic(): what it replaces, and what it says when it cannot.

Each case in a process of its own: what is replaced stays replaced.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("sanic")

ROOT = Path(__file__).parent.parent


def run(program: str, *arguments: str) -> str:
    """What `program` prints; all it raises fails the test."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# The start of a program: an application that notes which of its listeners have run.
LISTENING = """
import tercel
tercel.install_sanic()
from sanic import Sanic, text
app = Sanic("demo")
app.config.MOTD = False
ran = []
app.before_server_start(lambda app: ran.append("before_start"))
app.after_server_start(lambda app: ran.append("after_start"))
app.before_server_stop(lambda app: ran.append("before_stop"))
app.after_server_stop(lambda app: ran.append("after_stop"))
"""


def test_tercel_does_not_import_sanic() -> None:
    assert run("import sys, tercel; print('sanic' in sys.modules)") == "False"


def test_sanic_s_ways_to_start_use_tercel_s_names() -> None:
    printed = run(
        """
import tercel
tercel.install_sanic()
import sanic
from sanic import server
from sanic.application import state
from sanic.mixins import startup
from sanic.models import asgi
from sanic.server import async_server, events, goodbye, loop, runners, socket
from sanic.server.protocols import base_protocol, http_protocol, websocket_protocol
from sanic.server.websockets import connection, frame, impl
from sanic.worker import serve as worker
pairs = [
    (server.AsyncioServer, tercel.AsyncioServer),
    (async_server.AsyncioServer, tercel.AsyncioServer),
    (state.AsyncioServer, tercel.AsyncioServer),
    (startup.AsyncioServer, tercel.AsyncioServer),
    (server.HttpProtocol, tercel.HttpProtocol),
    (startup.HttpProtocol, tercel.HttpProtocol),
    (http_protocol.HttpProtocolMixin, tercel.HttpProtocolMixin),
    (http_protocol.Http3Protocol, tercel.Http3Protocol),
    (http_protocol.ConnectionProtocol, tercel.ConnectionProtocol),
    (base_protocol.SanicProtocol, tercel.SanicProtocol),
    (startup.WebSocketProtocol, tercel.WebSocketProtocol),
    (websocket_protocol.WebSocketProtocol, tercel.WebSocketProtocol),
    (startup.configure_socket, tercel.configure_socket),
    (startup.remove_unix_socket, tercel.remove_unix_socket),
    (socket.bind_socket, tercel.bind_socket),
    (runners.bind_unix_socket, tercel.bind_unix_socket),
    (events.trigger_events, tercel.trigger_events),
    (goodbye.get_goodbye, tercel.get_goodbye),
    (loop.try_use_uvloop, tercel.try_use_uvloop),
    (startup.try_windows_loop, tercel.try_windows_loop),
    (connection.WebSocketConnection, tercel.WebSocketConnection),
    (asgi.WebSocketConnection, tercel.WebSocketConnection),
    (frame.WebsocketFrameAssembler, tercel.WebsocketFrameAssembler),
    (impl.WebsocketImplProtocol, tercel.WebsocketImplProtocol),
    (sanic.Websocket, tercel.WebsocketImplProtocol),
    (startup.serve.__module__, "tercel.install"),
    (server.serve.__module__, "tercel.install"),
    (worker._serve_http_1.__module__, "tercel.install"),
    (worker._serve_http_3.__module__, "tercel.install"),
    (startup.worker_serve.__module__, "tercel.install"),
]
print([number for number, (theirs, ours) in enumerate(pairs) if theirs != ours])
"""
    )
    assert printed == "[]"


def test_a_second_call_changes_nothing() -> None:
    printed = run(
        """
import tercel
tercel.install_sanic()
import sanic.mixins.startup as startup
before = dict(vars(startup))
tercel.install_sanic()
print(before == vars(startup))
"""
    )
    assert printed == "True"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("sanic.__version__ = '99.1'", "install_sanic: Sanic 99.1 is not known, only 25.12: "),
        (
            "import sanic.server.goodbye as m; del m.get_goodbye",
            "has no sanic.server.goodbye.get_goodbye: install sanic~=25.12.0",
        ),
        (
            "import sanic.server.runners as m; m.serve = lambda host, port, colour: None",
            "has no sanic.server.runners.serve as it was: install sanic~=25.12.0",
        ),
        ("sys.modules['sanic'] = None", "Sanic is not installed: pip install 'tercel[sanic]'"),
    ],
)
def test_a_sanic_that_is_not_known_is_one_clear_error_and_nothing_is_replaced(
    damage: str, told: str
) -> None:
    printed = run(
        f"""
import sys, sanic, sanic.mixins.startup as startup, tercel
before = dict(vars(startup))
{damage}
try:
    tercel.install_sanic()
except tercel.ConfigurationError as error:
    print(error)
print(before == vars(startup))
"""
    )
    message, unchanged = printed.splitlines()
    assert told in message
    assert unchanged == "True"


def test_create_server_listens_and_leaves_the_events_to_its_caller() -> None:
    printed = run(
        LISTENING
        + """
import asyncio
from sanic.exceptions import SanicException

@app.get("/")
async def index(request):
    return text("here")

async def main():
    server = await app.create_server(sock=tercel.bind_socket("127.0.0.1", 0))
    print(isinstance(server, tercel.AsyncioServer), server.is_serving(), ran)
    try:
        await server.before_start()
    except SanicException as error:
        print(error)
    await server.startup()
    await server.before_start()
    await server.after_start()
    port = int(server.addresses[0].rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\\r\\nhost: a\\r\\nconnection: close\\r\\n\\r\\n")
    print((await reader.read())[-4:])
    writer.close()
    await server.before_stop()
    await server.close()
    await server.after_stop()
    print(server.is_serving(), ran)

asyncio.run(main())
"""
    )
    assert printed.splitlines() == [
        "True True []",
        "Cannot dispatch server event without first running await server.startup()",
        "b'here'",
        "False ['before_start', 'after_start', 'before_stop', 'after_stop']",
    ]


STOPPED_LOOP = (
    LISTENING
    + """
import asyncio, sys, threading, urllib.request
from signal import SIGINT, raise_signal, signal
from tercel.shared.loop import loop_factory

@app.get("/")
async def index(request):
    loop.call_later(0.1, raise_signal, SIGINT)
    return text("here")

loop = loop_factory(sys.argv[1])()
asyncio.set_event_loop(loop)
{handler}
starting = app.create_server(
    sock=tercel.bind_socket("127.0.0.1", 0), asyncio_server_kwargs={{"start_serving": False}}
)
server = loop.run_until_complete(asyncio.ensure_future(starting, loop=loop))
loop.run_until_complete(server.startup())
loop.run_until_complete(server.before_start())
loop.run_until_complete(server.after_start())
print(server.is_serving())
loop.run_until_complete(server.start_serving())
print(server.is_serving())
address = server.addresses[0]
asking = threading.Thread(
    target=lambda: print(urllib.request.urlopen("http://" + address, timeout=30).read())
)
asking.start()
try:
    loop.run_forever()
except KeyboardInterrupt:
    loop.stop()
finally:
    asking.join()
    loop.run_until_complete(server.before_stop())
    loop.run_until_complete(server.close())
    for connection in server.connections:
        connection.close_if_idle()
    loop.run_until_complete(server.after_stop())
print(server.is_serving(), ran)
"""
)


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
@pytest.mark.parametrize(
    "handler", ["", "signal(SIGINT, lambda *_: loop.stop())"], ids=["interrupt", "stop"]
)
def test_a_program_may_run_the_loop_and_stop_the_server_when_it_was_interrupted(
    kind: str, handler: str
) -> None:
    assert run(STOPPED_LOOP.format(handler=handler), kind).splitlines() == [
        "False",
        "True",
        "b'here'",
        "False ['before_start', 'after_start', 'before_stop', 'after_stop']",
    ]
