"""The MCP SDK: a tool over streamable HTTP."""

from mcp.server.mcpserver import MCPServer

server = MCPServer("frameworks")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


app = server.streamable_http_app()
