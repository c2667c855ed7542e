"""What calls answer whose server asks the client in their midst: asked.py ERA MODE (URL | COMMAND...).

ERA is `legacy` if the server is spoken to with a session: what it could ask without one is left out.

MODE is how the Python SDK's client speaks: `legacy` (with a session) or a revision without sessions.
"""

import asyncio
import json
import sys

from mcp import Client, StdioServerParameters, types

CALLS = {
    # Servers with sessions: server-everything, and the fixture's.
    "trigger-sampling-request": {"prompt": "p", "maxTokens": 5},
    "trigger-elicitation-request": {},
    "test_sampling": {"prompt": "p"},
    "test_elicitation": {"message": "m"},
    # Servers without: the fixture's.
    "test_input_required_result_elicitation": {},
    "test_input_required_result_sampling": {},
    "test_input_required_result_list_roots": {},
    "test_input_required_result_multi_round": {},
    "test_input_required_result_multiple_inputs": {},
}


async def sampled(context, params):
    return types.CreateMessageResult(role="assistant", content=types.TextContent(type="text", text="é"), model="m")


async def elicited(context, params):
    content = {"name": "Ada", "username": "Ada", "email": "a@example.org", "confirmed": True, "integer": 7}
    return types.ElicitResult(action="accept", content=content)


async def roots(context):
    return types.ListRootsResult(roots=[types.Root(uri="file:///a", name="a")])


async def main():
    era, mode, *target = sys.argv[1:]
    server = target[0] if target[0].startswith("http") else StdioServerParameters(command=target[0], args=target[1:])
    client = Client(
        server, mode=mode, sampling_callback=sampled, elicitation_callback=elicited, list_roots_callback=roots
    )
    async with client:
        offered = {tool.name for tool in (await client.list_tools()).tools}
        seen = {}
        for tool, arguments in CALLS.items():
            without_session = tool.startswith("test_input_required_result_")
            if tool in offered and not (era == "legacy" and without_session):
                called = await client.call_tool(tool, arguments)
                seen[tool] = [item.model_dump(mode="json", exclude_none=True) for item in called.content]
    print(json.dumps(seen, sort_keys=True, indent=1))


asyncio.run(main())
