"""A WSGI application, in a2wsgi's adapter and in asgiref's."""

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

import contract
from a2wsgi import WSGIMiddleware
from asgiref.wsgi import WsgiToAsgi


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    """Answer as the path says."""
    path = environ["PATH_INFO"]
    if path == "/json" and environ["REQUEST_METHOD"] == "GET":
        version = environ["SERVER_PROTOCOL"].removeprefix("HTTP/")
        answer = {"q": parse_qs(environ["QUERY_STRING"])["q"][0], "version": version}
    elif path == "/json":
        answer = json.loads(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    elif path == "/upload":
        size = 0
        while part := environ["wsgi.input"].read(65_536):
            size += len(part)
        answer = {"size": size}
    elif path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return (line.encode() for line in contract.LINES)
    else:
        start_response("404 Not Found", [])
        return [b""]
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]


in_a2wsgi = WSGIMiddleware(wsgi)
in_asgiref = WsgiToAsgi(wsgi)
