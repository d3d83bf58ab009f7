"""What a decoding batch knows of its rows beyond keys and values: tokens so far, limits, uniform numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from extra_rl.sampling.base import FinishReason, Request, Sample
from extra_rl.sampling.stop import StopRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Rows:
    """One entry a row of the batch; T is one more than the longest limit, so that a finished row has where to write."""

    request_B: Tensor  # index of the row's request
    limit_B: Tensor  # tokens that may be sampled
    length_B: Tensor  # tokens read so far: context and sampled, but the last
    sampled_B: Tensor  # tokens sampled so far
    prefix_B: Tensor  # tokens of the context that belong to the response
    alive_B: Tensor  # bool: not ended
    stopped_B: Tensor  # bool: ended by a stop string
    uniform_BT: Tensor  # float64, of the request's own stream, one a token
    tokens_BT: Tensor
    logprobs_BT: Tensor

    def __len__(self) -> int:
        return len(self.request_B)

    def take(self, keep_A: Tensor) -> Rows:
        """The rows of these indices."""
        return Rows(*(getattr(self, field.name)[keep_A] for field in fields(self)))

    def joined(self, other: Rows) -> Rows:
        """These rows, then the others."""
        import torch

        return Rows(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))

    def uniform(self) -> Tensor:
        """The number that each row's next token is drawn with. (B,)"""
        return self.uniform_BT.gather(1, self.sampled_B[:, None]).squeeze(1)

    def last(self) -> Tensor:
        """The token that each row sampled last. (B,)"""
        return self.tokens_BT.gather(1, (self.sampled_B - 1)[:, None]).squeeze(1)

    def append(self, token_B: Tensor, logprob_B: Tensor, eos: Tensor, stops: RowStops | None = None) -> int:
        """Appends one token to every row that is alive; how many end by it."""
        import torch

        self.tokens_BT.scatter_(1, self.sampled_B[:, None], token_B[:, None])
        self.logprobs_BT.scatter_(1, self.sampled_B[:, None], logprob_B[:, None])
        self.sampled_B = self.sampled_B + self.alive_B  # what a finished row writes is beyond its end
        goes_on_B = self.alive_B & ~torch.isin(token_B, eos) & (self.sampled_B < self.limit_B)
        if stops is not None:
            self.stopped_B = self.stopped_B | stops.stopped(self, token_B)
            goes_on_B = goes_on_B & ~self.stopped_B
        ended = int((self.alive_B ^ goes_on_B).sum())
        self.alive_B = goes_on_B
        return ended

    def finished(self, eos: set[int]) -> dict[int, Sample]:
        """Samples of the rows that have ended, by request."""
        done = self.take((~self.alive_B).nonzero().squeeze(1))
        found: dict[int, Sample] = {}
        columns: Any = (done.request_B, done.sampled_B, done.stopped_B, done.tokens_BT, done.logprobs_BT)
        for request, sampled, stopped, tokens, logprobs in zip(*(column.cpu() for column in columns), strict=True):
            ids = tokens[:sampled].tolist()
            reason: FinishReason = "stop" if stopped or ids[-1] in eos else "length"
            found[int(request)] = Sample(ids, logprobs[:sampled].tolist(), reason)
        return found


@dataclass(frozen=True)
class RowStops:
    """Ends rows by stop strings. requests: those that the rows' indices are of."""

    rule: StopRule
    requests: Sequence[Request]

    def stopped(self, rows: Rows, token_B: Tensor) -> Tensor:
        """Which of the rows that are alive end by a stop string with `token_B`, their last token. (B,) bool

        Only rows that drew a token that can complete one are decoded.
        """
        import torch

        columns = (rows.alive_B, token_B, rows.sampled_B, rows.prefix_B)
        drawn = enumerate(zip(*(column.tolist() for column in columns), strict=True))
        places = [row for row, (alive, *last) in drawn if alive and self.rule.may_end(*last)]
        found_B = torch.zeros_like(rows.alive_B)
        if places:
            held = self.rule.hold([self._response(rows, row) for row in places])
            found_B[places] = torch.tensor(held, device=found_B.device)
        return found_B

    def _response(self, rows: Rows, row: int) -> list[int]:
        sampled: list[int] = rows.tokens_BT[row, : rows.sampled_B[row]].tolist()
        return [*self.requests[int(rows.request_B[row])].prefix, *sampled]


def new_rows(requests: Sequence[Request], first: int, longest: int, device: Any) -> Rows:
    """Rows that have read their contexts and sampled nothing; the requests' indices count from `first`.

    longest: the largest limit of all rows that are to be joined.
    """
    import numpy as np
    import torch

    uniform_BT = np.zeros((len(requests), longest + 1))
    for row, request in zip(uniform_BT, requests, strict=True):
        row[: request.max_tokens] = np.random.Generator(np.random.Philox(key=request.seed)).random(request.max_tokens)
    return Rows(
        request_B=torch.arange(first, first + len(requests), device=device),
        limit_B=torch.tensor([request.max_tokens for request in requests], device=device),
        length_B=torch.tensor([len(request.context) for request in requests], device=device),
        sampled_B=torch.zeros(len(requests), dtype=torch.long, device=device),
        prefix_B=torch.tensor([request.prefix_length for request in requests], device=device),
        stopped_B=torch.zeros(len(requests), dtype=torch.bool, device=device),
        alive_B=torch.ones(len(requests), dtype=torch.bool, device=device),
        uniform_BT=torch.from_numpy(uniform_BT).to(device),
        tokens_BT=torch.zeros(len(requests), longest + 1, dtype=torch.long, device=device),
        logprobs_BT=torch.zeros(len(requests), longest + 1, device=device),
    )
