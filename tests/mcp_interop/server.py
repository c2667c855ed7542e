"""A server with FastMCP: a tool, a prompt, a resource, a template."""

from fastmcp import FastMCP

server = FastMCP("fast")


@server.tool
def add(a: int, b: int) -> int:
    """The sum of two numbers."""
    return a + b


@server.prompt
def greet(name: str) -> str:
    """A greeting."""
    return f"Say hello to {name}."


@server.resource("note://one")
def note() -> str:
    """A note."""
    return "one é\n"


@server.resource("note://{name}/of")
def note_of(name: str) -> str:
    """Somebody's note."""
    return f"of {name}"


server.run(show_banner=False)
