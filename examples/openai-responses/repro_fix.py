#!/usr/bin/env python3
"""Lets a model reproduce and fix a bug in a Pyro workspace: the OpenAI Responses API on one side, `pyro mcp serve` on the other.

The program is only the loop between the two. The model decides which tools to call; each call runs in a virtual machine of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import uuid
from pathlib import Path

from mcp import Client, MCPError, StdioServerParameters
from mcp.types import CallToolResult, TextContent, Tool
from openai import AsyncOpenAI, OpenAIError
from openai.types.responses import FunctionToolParam, ResponseFunctionToolCall, ResponseInputParam

PROJECT = Path(__file__).resolve().parent.parent / "project"

INSTRUCTIONS = """\
You fix bugs in a disposable Linux machine, a workspace. Create one with `workspace_create` (environment `{environment}`, `mem_mib` 256):
the project is copied to /workspace. Run the failing command first, read what you need, apply the smallest patch, and run the same command
again. When it passes, show the diff, export the changed files to the folder `{output}` of the host, and delete the workspace.
When a tool answers an error, follow its hint. End with two sentences: what was wrong, and what you changed."""
TASK = "`sh test.sh` fails. Find out why and fix it."

# A model that runs in circles costs money: most tasks of this size are done in a dozen turns.
TURNS_MAX = 40
# Pyro cuts long output itself. This bounds what one answer can take of the context whatever the tool was.
ANSWER_CHARACTERS_MAX = 40_000


def function_of(tool: Tool) -> FunctionToolParam:
    """Offers an MCP tool as a function. Its schema has optional fields, so it is not one of the API's strict schemas."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description or "",
        "parameters": tool.input_schema,
        "strict": False,
    }


def text_of(result: CallToolResult) -> str:
    """Returns the text of a result: it is written for models, and shorter than the structured answer beside it."""
    text = "\n".join(part.text for part in result.content if isinstance(part, TextContent))
    if len(text) <= ANSWER_CHARACTERS_MAX:
        return text
    half = ANSWER_CHARACTERS_MAX // 2
    return f"{text[:half]}\n[{len(text) - 2 * half} characters left out]\n{text[-half:]}"


class Workspaces:
    """The tools of a Pyro server, and the workspaces made through them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        # A label on everything this run makes: it is found again even when the answer to its creation never came.
        self.label = {"example": uuid.uuid4().hex}

    async def functions(self) -> list[FunctionToolParam]:
        return [function_of(tool) for tool in (await self.client.list_tools()).tools]

    async def answer(self, call: ResponseFunctionToolCall) -> str:
        """Does what the model asked for. Whatever goes wrong is an answer, too: the model can mend its own mistakes."""
        try:
            arguments = json.loads(call.arguments or "{}")
            if call.name == "workspace_create":
                arguments["labels"] = {**arguments.get("labels", {}), **self.label}
            result = await self.client.call_tool(call.name, arguments)
        except (json.JSONDecodeError, AttributeError, TypeError) as error:
            return f"the arguments of `{call.name}` are not a JSON object: {error}\nhint: send all of them again, as one JSON object"
        except MCPError as error:
            return f"`{call.name}` was refused: {error}"
        if result.is_error:
            # For the person who watches: the error's kind and message, then its hint. The model gets the same.
            print(text_of(result), file=sys.stderr)
        return text_of(result)

    async def delete_all(self) -> None:
        """Deletes what the model forgot, or could not delete any more."""
        listed = await self.client.call_tool("workspace_list", {"labels": self.label})
        for workspace in (listed.structured_content or {}).get("workspaces", []):
            print(f"deleting workspace {workspace['workspace_id']}", file=sys.stderr)
            await self.client.call_tool("workspace_delete", {"workspace": workspace["workspace_id"], "force": True})


async def converse(openai: AsyncOpenAI, workspaces: Workspaces, arguments: argparse.Namespace) -> str:
    """Asks the model until it calls no more tools, and returns what it says then."""
    tools = await workspaces.functions()
    instructions = INSTRUCTIONS.format(environment=arguments.environment, output=arguments.output)
    conversation: ResponseInputParam = [{"role": "user", "content": arguments.task}]
    for _ in range(TURNS_MAX):
        response = await openai.responses.create(
            model=arguments.model, instructions=instructions, tools=tools, input=conversation
        )
        if response.status != "completed":
            reason = response.error or response.incomplete_details
            raise RuntimeError(f"the model's answer is {response.status}: {reason}")
        # Everything it said goes back, reasoning included: the API keeps nothing for us between turns.
        conversation += [item.model_dump(exclude_none=True) for item in response.output]
        calls = [item for item in response.output if item.type == "function_call"]
        if not calls:
            return response.output_text
        for call in calls:
            print(f"{call.name} {call.arguments}", file=sys.stderr)
            output = await workspaces.answer(call)
            conversation.append({"type": "function_call_output", "call_id": call.call_id, "output": output})
    raise RuntimeError(f"the model was not done after {TURNS_MAX} turns")


async def run(arguments: argparse.Namespace) -> int:
    server = StdioServerParameters(
        command=arguments.pyro,
        args=["mcp", "serve", "--profile", "workspace-core", "--project-path", str(arguments.project)],
        # A server inherits only HOME, PATH and the like; Pyro's own settings are passed on.
        env={name: value for name, value in os.environ.items() if name.startswith("PYRO_")},
    )
    async with AsyncOpenAI() as openai, Client(server) as client:
        workspaces = Workspaces(client)
        try:
            print(await converse(openai, workspaces, arguments))
            return 0
        except (OpenAIError, MCPError, RuntimeError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        finally:
            # Also after Ctrl-C, which cancels this task once: the clean-up itself is not cancelled.
            await workspaces.delete_all()


async def main() -> int:
    parser = argparse.ArgumentParser(description="Let a model reproduce and fix a bug in a Pyro workspace.")
    parser.add_argument("--model", default=os.environ.get("OPENAI_MODEL", "gpt-5.1"))
    parser.add_argument("--task", default=TASK, help="what the model shall do")
    parser.add_argument("--project", type=Path, default=PROJECT, help="folder the workspace begins with")
    parser.add_argument("--output", type=Path, default=Path("fixed"), help="folder for what the model exports")
    parser.add_argument("--environment", default="debian:12-base", help="`pyro env list` shows them")
    parser.add_argument("--pyro", default="pyro", help="the `pyro` to start")
    arguments = parser.parse_args()
    arguments.output = arguments.output.resolve()
    arguments.output.mkdir(parents=True, exist_ok=True)

    # A polite `kill` ends like Ctrl-C: through the clean-up.
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await run(arguments)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main()))
    except (KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(130)
    except (OpenAIError, OSError) as error:
        # No key, or no `pyro` on the PATH.
        sys.exit(f"error: {error}")
    except ExceptionGroup:
        # The MCP client wraps what goes wrong while it connects. The server's own words have gone to the same terminal.
        sys.exit("error: `pyro mcp serve` ended before it could be talked to")
