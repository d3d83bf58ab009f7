"""Plays vLLM's server with the standard library alone, for `tests.sampling.test_by_hand`: the endpoints that a stage
uses, over a Unix socket. It scores by `scores`, a stand-in for a forward pass, and samples the context's last token."""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from itertools import pairwise
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from typing import Any

STATE: dict[str, Any] = {"version": "none"}


def scores(directory: Path, tokens: Sequence[int]) -> list[float]:
    """Numbers that stand for the logprobs of all tokens but the first; other weights on disk give other numbers."""
    weights = zlib.crc32((directory / "model.safetensors").read_bytes())
    return [-(zlib.crc32(f"{weights} {before} {token}".encode()) % 1000) / 500 for before, token in pairwise(tokens)]


class Played(BaseHTTPRequestHandler):
    """One request."""

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        if self.path == "/update_weight_version":
            STATE["version"] = body["new_version"]
            self._answer({})
        elif self.path == "/collective_rpc":
            STATE["model"] = Path(body["kwargs"]["weights_path"])
            self._answer({})
        elif self.path == "/inference/v1/generate":
            self._answer(self._scored(body) if "prompt_logprobs" in body["sampling_params"] else self._sampled(body))
        else:
            self._answer({"success": True})

    def _scored(self, body: dict[str, Any]) -> dict[str, Any]:
        tokens = body["token_ids"]
        found = scores(STATE["model"], tokens)
        entries = [{str(t): {"logprob": v}} for t, v in zip(tokens[1:], found, strict=True)]
        return {"prompt_logprobs": [None, *entries]}

    def _sampled(self, body: dict[str, Any]) -> dict[str, Any]:
        choice = {
            "token_ids": body["token_ids"][-1:],
            "logprobs": {"content": [{"logprob": -0.5}]},
            "finish_reason": "length",
            "weight_versions": [{"version": STATE["version"]}],
        }
        return {"choices": [choice]}

    def _answer(self, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: Any) -> None:
        """Nothing: the log is for errors."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path)
    parser.add_argument("--uds")
    options, _ = parser.parse_known_args()
    STATE["model"] = options.model
    with ThreadingUnixStreamServer(options.uds, Played) as server:
        server.serve_forever()
