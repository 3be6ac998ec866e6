"""The demo application's chat: one room, in memory, on WebSockets of any HTTP version.

Everything is bounded: members, names, lines, the history, and what waits for a member. Who takes
too little is dismissed, so that nobody waits for a slow member.
"""

import asyncio
import json
import time
from collections import deque
from typing import Any

from tercel.shared.apps.asgi_types import Receive, Scope, Send
from tercel.shared.apps.demo.http import query
from tercel.shared.apps.demo.websocket import accept, close, hear, is_same_origin, refuse
from tercel.shared.flow import Wakeup

MAX_MEMBERS = 200
MAX_NAME_CHARACTERS = 24
MAX_LINE_CHARACTERS = 500
HISTORY_LINES = 50
OUTBOX_LINES = 100
"""What may wait for a member who takes too little."""

# A member's next line is read so long after the last: the flood waits in its own window.
_PAUSE_SECONDS = 0.1

_UNSUPPORTED_DATA = 1003
_TRY_AGAIN_LATER = 1013


class Member:
    """Somebody in the room, and what waits to be sent to them."""

    def __init__(self, name: str, http_version: str) -> None:
        self.name = name
        self.http_version = http_version
        self.outbox: deque[str] = deque()
        self.over = False
        """Gone, or dismissed."""
        self.slow = False
        self.changed = Wakeup()

    def tell(self, text: str) -> bool:
        """Put `text` to what waits; False, and an end to it, when too much does."""
        if len(self.outbox) >= OUTBOX_LINES:
            self.slow = True
            self.end()
            return False
        self.outbox.append(text)
        self.changed.set()
        return True

    def end(self) -> None:
        """Tell them nothing more."""
        self.over = True
        self.outbox.clear()
        self.changed.set()


class Room:
    """Who is there and what was said last."""

    def __init__(self) -> None:
        self.members: list[Member] = []
        self.history: deque[str] = deque(maxlen=HISTORY_LINES)

    @property
    def full(self) -> bool:
        """Whether nobody more may come in."""
        return len(self.members) >= MAX_MEMBERS

    def join(self, member: Member) -> None:
        """Let `member` in, and tell them what was said before."""
        for line in self.history:
            member.tell(line)
        self.members.append(member)
        self._announce("joined", member)

    def leave(self, member: Member) -> None:
        """See `member` off, if they have not been dismissed before."""
        member.end()
        if member in self.members:
            self.members.remove(member)
            self._announce("left", member)

    def say(self, member: Member, text: str) -> None:
        """Pass on a line to all, and keep it for those who come later."""
        said = {"from": member.name, "text": text, "http_version": member.http_version}
        line = _event("line", **said)
        self.history.append(line)
        self._tell_all(line)

    def _announce(self, kind: str, member: Member) -> None:
        self._tell_all(_event(kind, name=member.name, members=len(self.members)))

    def _tell_all(self, text: str) -> None:
        slow = [member for member in self.members if not member.tell(text)]
        for member in slow:
            self.leave(member)


_room = Room()


async def chat(scope: Scope, receive: Receive, send: Send) -> None:
    """One WebSocket at `/chat?name=`: a text message is a line, events come back in JSON."""
    await receive()
    if not is_same_origin(scope):
        await close(send)
        return
    await accept(send)
    if _room.full:
        await close(send, _TRY_AGAIN_LATER, "the room is full")
        return
    member = Member(_name(scope), scope["http_version"])
    _room.join(member)
    await asyncio.gather(
        _listen(member, receive, send), _talk(member, send), _dismiss(member, send)
    )


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """One WebSocket at `/ws/echo`: each message comes back as it is."""
    await receive()
    await accept(send)
    while (data := await hear(receive)) is not None:
        await send({"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data})


async def no_such(scope: Scope, receive: Receive, send: Send) -> None:
    """There is no WebSocket at any other path."""
    await receive()
    await refuse(scope, send)


async def _listen(member: Member, receive: Receive, send: Send) -> None:
    try:
        while (line := await hear(receive)) is not None:
            if isinstance(line, bytes):
                await close(send, _UNSUPPORTED_DATA, "a line is text")
                return
            text = line.strip()
            if len(text) > MAX_LINE_CHARACTERS:
                member.tell(_event("error", text=f"{MAX_LINE_CHARACTERS} characters at most"))
            elif text and not member.over:
                _room.say(member, text)
            await asyncio.sleep(_PAUSE_SECONDS)
    finally:
        _room.leave(member)


async def _talk(member: Member, send: Send) -> None:
    try:
        while not member.over:
            while member.outbox:
                await send({"type": "websocket.send", "text": member.outbox.popleft()})
            await member.changed.wait()
    except OSError:
        pass  # gone: _listen hears of it, too


async def _dismiss(member: Member, send: Send) -> None:
    """Close on a slow member, while _talk may still wait to send them something."""
    while not member.over:
        await member.changed.wait()
    if member.slow:
        await close(send, _TRY_AGAIN_LATER, "too slow")


def _name(scope: Scope) -> str:
    given = query(scope, "name") or ""
    printable = "".join(character for character in given if character.isprintable())
    return " ".join(printable.split())[:MAX_NAME_CHARACTERS] or "guest"


def _event(kind: str, **facts: Any) -> str:
    return json.dumps({"event": kind, "at": int(time.time() * 1000), **facts})
