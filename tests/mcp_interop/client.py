"""What the Python SDK's client sees of a server: client.py TOOL ARGUMENTS (URL | COMMAND...)."""

import asyncio
import json
import shlex
import sys

from mcp import Client, MCPError, StdioServerParameters


async def listed(ask, name):
    """All pages of a list; what the error says if there is none."""
    items, cursor = [], None
    try:
        while True:
            page = await ask(cursor=cursor)
            items += [item.model_dump(mode="json", by_alias=True, exclude_none=True) for item in getattr(page, name)]
            cursor = page.next_cursor
            if cursor is None:
                return items
    except MCPError as error:
        return {"error": error.error.code}


async def main():
    tool, arguments, *target = sys.argv[1:]
    server = target[0] if target[0].startswith("http") else StdioServerParameters(command=target[0], args=target[1:])
    async with Client(server) as client:
        called = await client.call_tool(tool, json.loads(arguments))
        seen = {
            "tools": await listed(client.list_tools, "tools"),
            "prompts": await listed(client.list_prompts, "prompts"),
            "resources": await listed(client.list_resources, "resources"),
            "templates": await listed(client.list_resource_templates, "resource_templates"),
            "called": called.model_dump(mode="json", by_alias=True, exclude_none=True),
        }
        resources = seen["resources"]
        if isinstance(resources, list) and resources:
            read = await client.read_resource(resources[0]["uri"])
            seen["read"] = read.model_dump(mode="json", by_alias=True, exclude_none=True)
    print(json.dumps(seen, sort_keys=True, indent=1))


asyncio.run(main())
