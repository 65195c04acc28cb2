#!/usr/bin/env python3
"""Plays a story with the official Python client over stdio, and says in JSON what it spoke.

    drive.py MODE STORY.json KEY=VALUE… -- SERVER ARGUMENTS…

MODE is the client's own: `legacy` opens a session with `initialize`, a newer protocol version goes without one.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import story
from mcp import Client, StdioServerParameters
from mcp.types import TextContent


async def main() -> None:
    mode, path, *settings = sys.argv[1 : sys.argv.index("--")]
    command, *arguments = sys.argv[sys.argv.index("--") + 1 :]
    environment = {name: value for name, value in os.environ.items() if name.startswith("PYRO_")}
    server = StdioServerParameters(command=command, args=arguments, env=environment)
    steps = story.read(path, settings)
    async with Client(server, mode=mode, read_timeout_seconds=120) as client:
        tools = (await client.list_tools()).tools
        for number, step in enumerate(steps, 1):
            result = await client.call_tool(step["tool"], step["arguments"])
            text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
            told = f"step {number}, {step['tool']}: {text}"
            assert text and all(part in text for part in step.get("says", [])), f"{told}: it should say {step.get('says')}"
            if "fails" in step:
                assert result.is_error and step["fails"] in text and "hint" in text, told
                continue
            assert not result.is_error, told
            found = story.difference(step["answer"], result.structured_content)
            assert found is None, f"{told}\n{found}"
        print(json.dumps({"protocol_version": client.protocol_version, "tools": len(tools), "steps": len(steps)}))


asyncio.run(main())
