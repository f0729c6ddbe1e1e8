"""A language model behind an OpenAI-compatible endpoint. The key comes from the environment and goes nowhere else."""

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from scale.errors import UserError

KEY = "BALMER_LABEL_KEY"
TIMEOUT = 120

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Endpoint:
    """`url` is the base that ends in /v1 or the like; `model` the name the endpoint knows."""

    url: str
    model: str

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https"):
            raise UserError(f"--label-with: {self.url} is not an http address")
        if not self.model:
            raise UserError("--label-model: name the model that the endpoint shall use")

    def ask(self, messages: Messages) -> str:
        """The answer to a conversation, at temperature 0."""
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0}).encode()
        request = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, self._headers())
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
                return _content(json.load(response))
        except urllib.error.HTTPError as error:
            error.close()
            raise UserError(f"--label-with: {self.url} answered {error.code} {error.reason}; is {KEY} set?") from None
        except (OSError, ValueError) as error:
            raise UserError(f"--label-with: {self.url} could not be asked: {error}") from None

    def _headers(self) -> dict[str, str]:
        key = os.environ.get(KEY)
        return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


def _content(answer: Any) -> str:
    try:
        return str(answer["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        raise ValueError("the answer holds no message") from None
