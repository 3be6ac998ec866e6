"""FastMCP: a tool over streamable HTTP."""

from fastmcp import FastMCP

server = FastMCP("frameworks")


@server.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


app = server.http_app(path="/mcp")
