"""The story that every client plays, read from its file. See `repro-fix.json`."""

from __future__ import annotations

import json
from typing import Any


def read(path: str, settings: list[str]) -> list[dict[str, Any]]:
    """Reads a story's steps; `{KEY}` in its strings becomes VALUE of `KEY=VALUE`."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for name, value in (setting.split("=", 1) for setting in settings):
        # Within JSON's quotes, so that a value cannot end its string.
        text = text.replace("{" + name + "}", json.dumps(value)[1:-1])
    return json.loads(text)


def difference(expected: Any, found: Any) -> str | None:
    """Says where an answer is not as expected: objects may have more fields, texts more around them."""
    if isinstance(expected, dict):
        if not isinstance(found, dict):
            return f"{found!r} is no object"
        for key, value in expected.items():
            below = difference(value, found.get(key))
            if below is not None:
                return f"`{key}`: {below}"
        return None
    same = expected in found if isinstance(expected, str) and isinstance(found, str) else expected == found
    return None if same else f"{found!r} is not {expected!r}"
