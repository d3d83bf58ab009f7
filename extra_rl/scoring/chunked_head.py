"""Logprob and entropy of a linear head, tile by tile: no tensor of (tokens, vocabulary) exists.

A tile is a block of the vocabulary (C columns) for a block of the tokens (R rows). With z the logits at the
temperature, m the maximum of a tile's row, `s = sum exp(z - m)` and `u = sum exp(z - m) (z - m)`, a token's tiles give

    M = max m,  S = sum_tiles s exp(m - M),  U = sum_tiles exp(m - M) (u + s (m - M))
    ln p(target) = (z_target - M) - ln S,    H = ln S - U / S

S >= 1 and U <= 0, so no difference of large numbers occurs in H. The backward pass recomputes each tile's logits:

    d ln p(target) / dz_v = [v = target] - p_v,    dH / dz_v = -p_v (ln p_v + H)

With a soft cap C the logits are z = C tanh(x / C) / temperature of the head's scaled output x, and a tile's gradient in
x is its gradient in z times (1 - tanh(x / C)^2) / temperature.

The vocabulary is the outer loop, so the gradient of a block of the weight is complete when its columns are done.
Sources: tiles and recomputation as in Cut Cross-Entropy (arXiv 2411.09009), without its filter of small gradients; the
sums, our decision (docs/decisions/0012-logits-in-tiles.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from extra_rl.algorithms.entropy import check_temperature

if TYPE_CHECKING:
    from torch import Tensor

TILE = {"cpu": (1024, 2**22), "cuda": (4096, 2**24)}
"""Largest number of rows and of logits of a tile: 16 MiB on a CPU (its caches), 64 MiB on a GPU (larger calls)."""


class LogitMap(NamedTuple):
    """Map of the head's output x to z, whose softmax is taken.

    z = x / divisor, or with a soft cap z = cap * tanh(x / divisor / cap) / temperature. The divisor is applied to the
    hidden states, which are fewer numbers than the logits.
    """

    divisor: float = 1.0
    cap: float | None = None
    temperature: float = 1.0


def logit_map(temperature: float, scale: float = 1.0, cap: float | None = None) -> LogitMap:
    """Return the map at a temperature, for a head with that scale and soft cap (`models.family.Head`)."""
    if cap is None:
        return LogitMap(temperature / scale)
    return LogitMap(1 / scale, cap, temperature)


def tiled_statistics(
    weight_VD: Tensor,
    bias_V: Tensor | None,
    hidden_XD: Tensor,
    target_X: Tensor,
    temperature: float,
    scale: float = 1.0,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ln p(target) and the exact entropy, both (X,), nats, float32; p = softmax(logits / temperature).

    logits = scale * (hidden weight^T + bias), or cap * tanh(that / cap). Everything runs in float32, under autocast
    too. Differentiable once, in hidden, weight and bias, with gradients of their types; the entropy's part is computed
    only where it has a gradient, and tokens whose gradients are zero are skipped.
    Memory in addition to results and gradients: two tiles, and hidden_XD in float32 (twice in the backward pass).
    Raises ConfigError for a temperature that is not above 0, TypeError for a sharded weight.

    Args:
        weight_VD: of the head, any floating type.
        bias_V: of the head; None without one.
        hidden_XD: hidden states of X tokens, any floating type.
        target_X: token ids, int64.
        temperature: divides the logits.
        scale: factor of the logits.
        cap: soft cap of the logits; None without one.
    """
    from torch.distributed.tensor import DTensor

    check_temperature(temperature)
    if isinstance(weight_VD, DTensor):
        raise TypeError(
            "the head's weight is sharded: call it within the forward pass of the FSDP module that it belongs to"
        )
    how = logit_map(temperature, scale, cap)
    found: tuple[Tensor, Tensor] = _function().apply(hidden_XD, weight_VD, bias_V, target_X, how)
    return found


@cache
def _function() -> Any:
    """The autograd function, defined at the first call because torch is imported inside functions."""
    import torch

    class HeadStatistics(torch.autograd.Function):
        @staticmethod
        def forward(
            ctx: Any, hidden_XD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, target_X: Tensor, how: LogitMap
        ) -> tuple[Tensor, Tensor]:
            ctx.set_materialize_grads(False)  # None, not zeros, tells the backward pass what to skip
            ctx.how = how
            with torch.autocast(hidden_XD.device.type, enabled=False):
                logprob_X, entropy_X, log_sum_X = forward_tiles(hidden_XD, weight_VD, bias_V, target_X, how)
            ctx.save_for_backward(hidden_XD, weight_VD, bias_V, target_X, log_sum_X, entropy_X)
            return logprob_X, entropy_X

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx: Any, logprob_grad_X: Tensor | None, entropy_grad_X: Tensor | None) -> tuple[Any, ...]:
            given = (*ctx.saved_tensors, ctx.how, logprob_grad_X, entropy_grad_X, ctx.needs_input_grad)
            with torch.autocast(given[0].device.type, enabled=False):
                grads = backward_tiles(*given)
            return *grads, None, None

    return HeadStatistics


def forward_tiles(
    hidden_XD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, target_X: Tensor, how: LogitMap
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logprob, entropy and ln sum_v exp z_v, each (X,), float32; arguments as in `tiled_statistics`."""
    import torch

    scaled_XD = _scaled(hidden_XD, how.divisor)
    height, width = tile_shape(hidden_XD.shape[0], weight_VD.shape[0], hidden_XD.device.type)
    # Two tiles of memory, reused for all; and m, s, u of every token, one row per block of the vocabulary (K).
    logits_N, weights_N = scaled_XD.new_empty(2, height * width).unbind()
    blocks = -(-weight_VD.shape[0] // width)
    top_KX, total_KX, moment_KX = scaled_XD.new_empty(3, blocks, hidden_XD.shape[0]).unbind()
    chosen_X = scaled_XD.new_zeros(hidden_XD.shape[0])
    for block, columns in enumerate(_ranges(weight_VD.shape[0], width)):
        weight_CD, bias_C = _block(weight_VD, bias_V, columns, how.divisor)
        for rows in _ranges(hidden_XD.shape[0], height):
            logits_RC = _logits(logits_N, scaled_XD[rows], weight_CD, bias_C, how)
            # The target's logit is in exactly one block; elsewhere keep what was found.
            index_R, inside_R = _within(target_X[rows], columns)
            chosen_R = logits_RC.gather(1, index_R.unsqueeze(1)).squeeze(1)
            chosen_X[rows] = torch.where(inside_R, chosen_R, chosen_X[rows])
            # m, s and u of this tile; the exponents are at most 0, so nothing overflows.
            top_R = torch.amax(logits_RC, 1, out=top_KX[block, rows])
            logits_RC -= top_R.unsqueeze(1)
            weights_RC = torch.exp(logits_RC, out=_view(weights_N, logits_RC))
            torch.sum(weights_RC, 1, out=total_KX[block, rows])
            moment_KX[block, rows] = torch.linalg.vecdot(weights_RC, logits_RC)
    # Combine the blocks (the formulas at the top): share_KX = exp(m - M).
    top_X = top_KX.amax(0)
    below_KX = top_KX - top_X
    share_KX = below_KX.exp()
    total_X = (share_KX * total_KX).sum(0)
    moment_X = (share_KX * (moment_KX + total_KX * below_KX)).sum(0)
    log_total_X = total_X.log()
    return chosen_X - top_X - log_total_X, log_total_X - moment_X / total_X, top_X + log_total_X


def backward_tiles(
    hidden_XD: Tensor,
    weight_VD: Tensor,
    bias_V: Tensor | None,
    target_X: Tensor,
    log_sum_X: Tensor,
    entropy_X: Tensor,
    how: LogitMap,
    logprob_grad_X: Tensor | None,
    entropy_grad_X: Tensor | None,
    needed: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients in hidden, weight and bias; None where `needed` is false.

    Args:
        hidden_XD, weight_VD, bias_V, target_X: as in `tiled_statistics`.
        log_sum_X: ln sum_v exp z_v of the forward pass.
        entropy_X: of the forward pass.
        how: from the head's output to the logits.
        logprob_grad_X, entropy_grad_X: gradients of the two results; None where a result has none.
        needed: whether hidden, weight and bias need a gradient, in this order; further entries are ignored.
    """
    import torch

    logprob_grad_X = torch.zeros_like(log_sum_X) if logprob_grad_X is None else logprob_grad_X.float()
    # Tokens with a zero gradient, such as those of a masked prefix, are left out of all products below.
    active_X = logprob_grad_X != 0
    if entropy_grad_X is not None:
        entropy_grad_X = entropy_grad_X.float()
        active_X |= entropy_grad_X != 0
    kept_X = None if bool(active_X.all()) else active_X.nonzero().squeeze(1)
    scaled_XD = _scaled(hidden_XD if kept_X is None else hidden_XD[kept_X], how.divisor)
    if kept_X is not None:
        target_X, log_sum_X, entropy_X, logprob_grad_X = (
            each[kept_X] for each in (target_X, log_sum_X, entropy_X, logprob_grad_X)
        )
        entropy_grad_X = None if entropy_grad_X is None else entropy_grad_X[kept_X]
    height, width = tile_shape(scaled_XD.shape[0], weight_VD.shape[0], hidden_XD.device.type)
    # One tile of memory for logits and their gradient; one more each for p and for the soft cap's slope where needed.
    logits_N = scaled_XD.new_empty(height * width)
    p_N = None if entropy_grad_X is None else torch.empty_like(logits_N)
    slope_N = None if how.cap is None else torch.empty_like(logits_N)
    hidden_grad_XD = torch.zeros_like(scaled_XD) if needed[0] else None
    weight_grad_VD = torch.zeros_like(weight_VD) if needed[1] else None
    bias_grad_V = torch.zeros_like(bias_V) if needed[2] and bias_V is not None else None
    for columns in _ranges(weight_VD.shape[0], width):
        weight_CD, bias_C = _block(weight_VD, bias_V, columns, how.divisor)
        # A view of the gradient if that is float32, else a float32 sum that is rounded once, below.
        sum_CD = None if weight_grad_VD is None else weight_grad_VD[columns].float()
        for rows in _ranges(scaled_XD.shape[0], height):
            logits_RC = _logits(logits_N, scaled_XD[rows], weight_CD, bias_C, how)
            slope_RC = None if slope_N is None else _cap_slope(slope_N, logits_RC, how)
            logits_RC -= log_sum_X[rows].unsqueeze(1)  # ln p
            # From here on logits_RC becomes dloss/dz in place.
            if p_N is None or entropy_grad_X is None:  # -p dlogprob
                logits_RC.exp_().mul_(-logprob_grad_X[rows].unsqueeze(1))
            else:  # -p (dlogprob + dentropy (ln p + H))
                p_RC = torch.exp(logits_RC, out=_view(p_N, logits_RC))
                slope_R = -entropy_grad_X[rows]
                start_R = slope_R * entropy_X[rows] - logprob_grad_X[rows]
                torch.addcmul(start_R.unsqueeze(1), logits_RC, slope_R.unsqueeze(1), out=logits_RC)
                logits_RC *= p_RC
            # + dlogprob at the target, where this block contains it.
            index_R, inside_R = _within(target_X[rows], columns)
            logits_RC.scatter_add_(1, index_R.unsqueeze(1), (logprob_grad_X[rows] * inside_R).unsqueeze(1))
            if slope_RC is not None:  # through the soft cap: dloss/dx
                logits_RC *= slope_RC
            if hidden_grad_XD is not None:
                hidden_grad_XD[rows].addmm_(logits_RC, weight_CD)
            if sum_CD is not None:
                sum_CD.addmm_(logits_RC.t(), scaled_XD[rows])
            if bias_grad_V is not None:
                bias_grad_V[columns] += (logits_RC.sum(0) / how.divisor).to(bias_grad_V.dtype)
        if weight_grad_VD is not None and sum_CD is not None and weight_grad_VD.dtype != sum_CD.dtype:
            weight_grad_VD[columns] = sum_CD
    if hidden_grad_XD is not None:  # the products used the divided hidden states
        hidden_grad_XD = hidden_grad_XD.div_(how.divisor).to(hidden_XD.dtype)
        if kept_X is not None:
            hidden_grad_XD = torch.zeros_like(hidden_XD).index_copy_(0, kept_X, hidden_grad_XD)
    return hidden_grad_XD, weight_grad_VD, bias_grad_V


def tile_shape(tokens: int, vocabulary: int, device: str) -> tuple[int, int]:
    """Return rows and columns of a tile, at least 1 each. device: its type; any but `cpu` counts as a GPU."""
    rows, logits = TILE["cpu" if device == "cpu" else "cuda"]
    height = max(1, min(tokens, rows))
    return height, max(1, min(vocabulary, logits // height))


def _scaled(hidden_XD: Tensor, divisor: float) -> Tensor:
    """Hidden states in float32, divided: cheaper than dividing the logits."""
    return hidden_XD.float() if divisor == 1 else hidden_XD.float() / divisor


def _block(weight_VD: Tensor, bias_V: Tensor | None, columns: slice, divisor: float) -> tuple[Tensor, Tensor | None]:
    """A block of the head in float32; its bias is divided like the hidden states."""
    return weight_VD[columns].float(), None if bias_V is None else bias_V[columns].float() / divisor


def _logits(memory_N: Tensor, scaled_RD: Tensor, weight_CD: Tensor, bias_C: Tensor | None, how: LogitMap) -> Tensor:
    """A tile's logits at the temperature (z), written into `memory_N`."""
    import torch

    shape = (scaled_RD.shape[0], weight_CD.shape[0])
    logits_RC = memory_N[: shape[0] * shape[1]].view(shape)
    if bias_C is None:
        torch.mm(scaled_RD, weight_CD.t(), out=logits_RC)
    else:
        torch.addmm(bias_C, scaled_RD, weight_CD.t(), out=logits_RC)
    if how.cap is not None:
        logits_RC.div_(how.cap).tanh_().mul_(how.cap / how.temperature)
    return logits_RC


def _cap_slope(memory_N: Tensor, logits_RC: Tensor, how: LogitMap) -> Tensor:
    """dz/dx = (1 - tanh(x / cap)^2) / temperature of a tile's capped logits z, written into `memory_N`."""
    import torch

    assert how.cap is not None
    tanh_RC = torch.mul(logits_RC, how.temperature / how.cap, out=_view(memory_N, logits_RC))
    return tanh_RC.square_().neg_().add_(1.0).div_(how.temperature)


def _view(memory_N: Tensor, like_RC: Tensor) -> Tensor:
    """The beginning of `memory_N`, in the shape of a tile: tiles at the edges are smaller."""
    return memory_N[: like_RC.numel()].view(like_RC.shape)


def _within(target_R: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Index of the targets within a block, 0 where another block contains them; and whether this one does."""
    index_R = target_R - columns.start
    inside_R = (index_R >= 0) & (index_R < columns.stop - columns.start)
    return index_R * inside_R, inside_R


def _ranges(total: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, total)) for start in range(0, total, size))
