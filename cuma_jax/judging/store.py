"""Answers of a judge on disk: one small file a request, written whole, so that several processes may share a folder."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from cuma_jax.runtime.files import content_key, write_text


def request_key(url: str, version: int, body: Mapping[str, Any]) -> str:
    """The key of a request: where it goes (`url` holds no secret), the prompt's version, and everything in it."""
    return content_key(url, str(version), json.dumps(body, sort_keys=True, ensure_ascii=True))


class AnswerStore:
    """Verdicts by request key."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept for a request; None where there is nothing, or a file that is no answer."""
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("verdict") in ("A", "B", "tie") else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keeps an answer; `value["verdict"]` is A, B or tie."""
        text = json.dumps(value, ensure_ascii=False)
        write_text(self._path(key), text + "\n")
