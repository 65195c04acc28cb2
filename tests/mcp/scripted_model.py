#!/usr/bin/env python3
"""A model endpoint on loopback that plays a script in the wire format of the Responses API.

It is strict where a real endpoint is lenient: every request is checked against the official package's own types and against what has
been said before, and a request that is wrong is answered with 400 and remembered. It exits with 0 only when the whole script was played
without a complaint.

    scripted_model.py KEY STORY.json KEY=VALUE…

The story is the one that the other clients play: each step is a function call, made in the same response as the one before if it is
`together` with it. Beside them the model makes one mistake and says a last word. KEY is what a request must be authorized with. The
endpoint's base URL is printed on stdout, and the end of stdin ends it.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import story
from openai.types.responses import Response
from openai.types.responses.easy_input_message_param import EasyInputMessageParam
from openai.types.responses.function_tool_param import FunctionToolParam
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from openai.types.responses.response_function_tool_call_param import ResponseFunctionToolCallParam
from openai.types.responses.response_input_param import FunctionCallOutput
from openai.types.responses.response_reasoning_item_param import ResponseReasoningItemParam
from pydantic import TypeAdapter, ValidationError

# What may stand in `input`. The package's own union would take a malformed item for some other one.
INPUT_ITEMS: dict[str, TypeAdapter[Any]] = {
    "message": TypeAdapter(EasyInputMessageParam),
    "reasoning": TypeAdapter(ResponseReasoningItemParam),
    "function_call": TypeAdapter(ResponseFunctionToolCallParam),
    "function_call_output": TypeAdapter(FunctionCallOutput),
}
REQUEST = TypeAdapter(ResponseCreateParamsNonStreaming)
FUNCTION = TypeAdapter(FunctionToolParam)
LAST_WORD = "Ten things did not get the discount. The comparison is `-ge` now."


class Complaint(Exception):
    """Something in a request is not as it must be."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise Complaint(message)


class Script:
    """Where the conversation is, and what was said in it."""

    def __init__(self, turns: list[list[dict[str, Any]]]) -> None:
        self.turns = turns
        self.next_turn = 0
        # Every item the client must send back, in order; outputs are told by `call_id` alone.
        self.said: list[dict[str, Any]] = []
        self.complaints: list[str] = []

    def play(self, request: dict[str, Any]) -> dict[str, Any]:
        """Checks a request and returns the next response."""
        self.check_request(request)
        self.check_input(request["input"])
        require(self.next_turn < len(self.turns), "the script is over, and there is one more request")
        turn = self.turns[self.next_turn]
        self.next_turn += 1
        output = output_of(turn, self.next_turn)
        self.said += output
        names = {tool["name"] for tool in request["tools"]}
        for item in output:
            require(item["type"] != "function_call" or item["name"] in names, f"the tool `{item.get('name')}` is not offered")
        return response_of(request, output, self.next_turn)

    def check_request(self, request: dict[str, Any]) -> None:
        unknown = request.keys() - ResponseCreateParamsNonStreaming.__annotations__.keys()
        require(not unknown, f"unknown parameters: {sorted(unknown)}")
        REQUEST.validate_python(request)
        require(not request.get("stream"), "this endpoint does not stream")
        require(bool(request.get("model")), "there is no model")
        require("workspace" in (request.get("instructions") or ""), "there are no instructions, or not in every request")
        require(bool(request.get("tools")), "no tools are offered")
        for tool in request["tools"]:
            FUNCTION.validate_python(tool)
            require(tool["parameters"].get("type") == "object", f"`{tool['name']}` has no schema of an object")
            require(bool(tool.get("description")), f"`{tool['name']}` has no description")
            # A strict schema needs every field required; ours have optional ones, and the API's default is strict.
            require(tool["strict"] is False, f"`{tool['name']}` claims a strict schema")

    def check_input(self, items: list[dict[str, Any]]) -> None:
        for item in items:
            kind = item.get("type", "message")
            require(kind in INPUT_ITEMS, f"an input item of the type `{kind}`")
            INPUT_ITEMS[kind].validate_python(item)
        require(items[:1] != [] and items[0].get("role") == "user", "the conversation does not begin with the user")
        answers = {item["call_id"]: item for item in items if item.get("type") == "function_call_output"}
        others = [item for item in items[1:] if item.get("type") != "function_call_output"]
        require(len(answers) + len(others) + 1 == len(items), "a call is answered twice")
        require(len(others) == len(self.said), f"{len(others)} items of the model came back, not {len(self.said)}")
        for was, now in zip(self.said, others):
            for key in ("type", "call_id", "name", "arguments", "id"):
                require(was.get(key) == now.get(key), f"`{key}` of an item changed from {was.get(key)!r} to {now.get(key)!r}")
        calls = [item for item in self.said if item["type"] == "function_call"]
        require(answers.keys() == {call["call_id"] for call in calls}, "not every call is answered, or one that was not made")
        for call in calls:
            output = answers[call["call_id"]]["output"]
            require(isinstance(output, str), "an output that is not text")
            self.check_answer(call, output)

    def check_answer(self, call: dict[str, Any], output: str) -> None:
        _, turn, index = call["call_id"].split("_")
        step = self.turns[int(turn) - 1][int(index)]
        for part in [step["fails"], "hint"] if "fails" in step else step["says"]:
            require(part in output, f"the answer to {call['name']} {call['arguments']} does not say {part!r}: {output}")


def output_of(turn: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """Says a turn's steps as a model does: a thought, then its calls; or a last message."""
    if "text" in turn[0]:
        part = {"type": "output_text", "text": turn[0]["text"], "annotations": []}
        return [{"type": "message", "id": f"msg_{number}", "role": "assistant", "status": "completed", "content": [part]}]
    calls = [
        {
            "type": "function_call",
            "id": f"fc_{number}_{index}",
            "call_id": f"call_{number}_{index}",
            "name": step["tool"],
            "arguments": step["arguments"] if isinstance(step["arguments"], str) else json.dumps(step["arguments"]),
            "status": "completed",
        }
        for index, step in enumerate(turn)
    ]
    return [{"type": "reasoning", "id": f"rs_{number}", "summary": []}, *calls]


def response_of(request: dict[str, Any], output: list[dict[str, Any]], number: int) -> dict[str, Any]:
    """Puts output into a response that the official package takes for one."""
    response = {
        "id": f"resp_{number}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request["instructions"],
        "metadata": {},
        "model": request["model"],
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": request["tools"],
        "top_p": 1.0,
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }
    Response.model_validate(response)
    return response


def handler(script: Script, key: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            try:
                require(self.path == "/v1/responses", f"no such endpoint: {self.path}")
                require(self.headers.get("Authorization") == f"Bearer {key}", "the key is missing or wrong")
                require(self.headers.get_content_type() == "application/json", "the request is not JSON")
                self.answer(200, script.play(json.loads(body)))
            except (Complaint, ValidationError, KeyError, ValueError) as error:
                script.complaints.append(f"turn {script.next_turn + 1}: {error}")
                self.answer(400, {"error": {"message": str(error), "type": "invalid_request_error", "param": None, "code": None}})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            encoded = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler


def turns_of(steps: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Groups steps into turns, and adds the mistake and the last word."""
    turns: list[list[dict[str, Any]]] = [[{"tool": "workspace_list", "arguments": '{"labels": ', "fails": "not a JSON object"}]]
    for step in steps:
        if step.get("together"):
            turns[-1].append(step)
        else:
            turns.append([step])
    return [*turns, [{"text": LAST_WORD}]]


def main() -> int:
    key, path, *settings = sys.argv[1:]
    script = Script(turns_of(story.read(path, settings)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(script, key))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    sys.stdin.read()
    if script.next_turn < len(script.turns):
        script.complaints.append(f"the conversation ended after {script.next_turn} of {len(script.turns)} turns")
    for complaint in script.complaints:
        print(f"error: {complaint}", file=sys.stderr)
    return 1 if script.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
