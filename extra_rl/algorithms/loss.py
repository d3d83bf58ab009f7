"""Policy-gradient losses per token (docs/method.md, section 1).

Every loss returns one value per token, to be minimised, with diagnostics per token that carry no gradient.
`aggregation` reduces both to scalars with the same denominators, so that micro-batches add up.

Axes: B sequences, T tokens. `logprob_BT` and `old_logprob_BT` are in nats, at the sampling temperature; the old ones
are those that the trainer computed for the policy that sampled. `advantage_BT` is a sequence's advantage, repeated over
its tokens, or (B, 1). r_t = exp(logprob_t - old_logprob_t). Log-probabilities must be finite at masked tokens too, for
example 0, because a gradient through NaN is NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

MAX_LOG_RATIO = 20.0
"""Log-ratios are clamped to +-20, without a gradient beyond, so that padding or a diverged policy cannot overflow exp.
Source: our decision (O), as in verl."""


class TokenLoss(NamedTuple):
    """A loss and its diagnostics, all (B, T). The `token_mean` of a `clip_*` field is a clip fraction."""

    loss_BT: Tensor
    clip_low_BT: Tensor  # 1.0 where A < 0 and the ratio is below the lower bound: no gradient
    clip_high_BT: Tensor  # 1.0 where A > 0 and the ratio is above the upper bound: no gradient
    clip_dual_BT: Tensor  # 1.0 where A < 0 and the ratio is above the dual bound: no gradient
    approx_kl_BT: Tensor  # k3 estimate of KL(old policy || policy), nats


def clipped_surrogate(
    logprob_BT: Tensor,
    old_logprob_BT: Tensor,
    advantage_BT: Tensor,
    *,
    clip_low: float = 0.2,
    clip_high: float = 0.28,
    dual_clip: float | None = 10.0,
) -> TokenLoss:
    """-min(r A, clip(r, 1 - clip_low, 1 + clip_high) A), and for A < 0 at most -dual_clip * A.

    Args:
        logprob_BT, old_logprob_BT, advantage_BT: as in the module's docstring.
        clip_low, clip_high: clip bounds of PPO (arXiv 1707.06347). A clip_high above clip_low ("clip-higher", DAPO,
            arXiv 2503.14476) lets the probability of rare tokens grow further.
        dual_clip: above 1 (arXiv 1912.09729). With None the loss of a token with A < 0 whose probability has grown is
            unbounded.
    Defaults: docs/method.md, section 1.
    """
    import torch

    log_ratio_BT = _log_ratio(logprob_BT, old_logprob_BT)
    ratio_BT = log_ratio_BT.exp()
    loss_BT = _pessimistic(ratio_BT, advantage_BT, clip_low, clip_high)
    if dual_clip is not None:
        bounded_BT = torch.minimum(loss_BT, -dual_clip * advantage_BT)
        loss_BT = torch.where(advantage_BT < 0, bounded_BT, loss_BT)
    with torch.no_grad():
        dual_bound = float("inf") if dual_clip is None else dual_clip
        return TokenLoss(
            loss_BT,
            clip_low_BT=((advantage_BT < 0) & (ratio_BT < 1 - clip_low)).float(),
            clip_high_BT=((advantage_BT > 0) & (ratio_BT > 1 + clip_high)).float(),
            clip_dual_BT=((advantage_BT < 0) & (ratio_BT > dual_bound)).float(),
            approx_kl_BT=_k3(log_ratio_BT),
        )


def supervised(logprob_BT: Tensor, advantage_BT: Tensor) -> TokenLoss:
    """-A ln pi: the cross-entropy of the response where A is 1. No old policy is involved, so nothing is clipped."""
    import torch

    zero_BT = torch.zeros_like(logprob_BT)
    return TokenLoss(-advantage_BT * logprob_BT, zero_BT, zero_BT, zero_BT, zero_BT)


def gspo(
    logprob_BT: Tensor,
    old_logprob_BT: Tensor,
    advantage_BT: Tensor,
    mask_BT: Tensor,
    *,
    clip_low: float = 3e-4,
    clip_high: float = 4e-4,
) -> TokenLoss:
    """-min(s A, clip(s, 1 - clip_low, 1 + clip_high) A) with s_i = exp(mean over loss tokens of ln r_t).

    GSPO, arXiv 2507.18071, in its straight-through token form: s_it = sg(s_i) * pi_t / sg(pi_t) has the value s_i and
    the gradient s_i * grad ln pi_t at every token, so `sequence_mean` of it has the value and the gradient of the loss
    per sequence. There is no dual clip: it belongs to the clipped surrogate.

    Args:
        logprob_BT, old_logprob_BT, advantage_BT: as in the module's docstring.
        mask_BT: bool, True at loss tokens.
        clip_low, clip_high: clip bounds of s_i. Defaults: docs/method.md, section 1.
    """
    import torch

    log_ratio_BT = torch.where(mask_BT, logprob_BT - old_logprob_BT.detach(), 0.0)
    length_B1 = mask_BT.sum(dim=-1, keepdim=True).clamp(min=1)
    # The detached mean gives the sequence's value, the difference below each token's own gradient.
    log_s_B1 = (log_ratio_BT.sum(dim=-1, keepdim=True) / length_B1).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    s_BT = (log_s_B1.detach() + (log_ratio_BT - log_ratio_BT.detach())).exp()
    with torch.no_grad():
        low_BT = ((advantage_BT < 0) & (s_BT < 1 - clip_low)).float()
        high_BT = ((advantage_BT > 0) & (s_BT > 1 + clip_high)).float()
        kl_BT = _k3(_log_ratio(logprob_BT, old_logprob_BT))
    loss_BT = _pessimistic(s_BT, advantage_BT, clip_low, clip_high)
    return TokenLoss(loss_BT, low_BT, high_BT, torch.zeros_like(low_BT), kl_BT)


def cispo(logprob_BT: Tensor, old_logprob_BT: Tensor, advantage_BT: Tensor, *, clip_high: float) -> TokenLoss:
    """-sg(min(r, 1 + clip_high)) * A * ln pi. CISPO, arXiv 2506.13585.

    The ratio is a capped weight, and every token keeps its gradient. There is no lower bound, as in the paper's runs.
    clip_high has no default, because the paper tunes it without giving the value. `clip_high_BT` marks capped tokens
    for either sign of A.
    """
    import torch

    log_ratio_BT = _log_ratio(logprob_BT, old_logprob_BT).detach()
    ratio_BT = log_ratio_BT.exp()
    loss_BT = -ratio_BT.clamp(max=1 + clip_high) * advantage_BT * logprob_BT
    capped_BT = (ratio_BT > 1 + clip_high).float()
    none_BT = torch.zeros_like(capped_BT)
    return TokenLoss(loss_BT, none_BT, capped_BT, none_BT, _k3(log_ratio_BT))


class KLPenalty(NamedTuple):
    """An estimate of KL(policy || reference) per token, and the loss that minimises it; both (B, T), nats."""

    value_BT: Tensor  # no gradient
    loss_BT: Tensor  # equal values, with the gradient of the estimator


def kl_penalty(estimator: str, logprob_BT: Tensor, ref_logprob_BT: Tensor) -> KLPenalty:
    """The KL term of a loss by one of three estimators, with d = ln pi - ln ref in nats, (B, T).

    | estimator | value | gradient, times grad ln pi |
    | `k1` | d | d |
    | `k2` | d^2 / 2 | d |
    | `k3` | e^-d - 1 + d | 1 - e^-d |

    On policy, the mean of d grad ln pi is the gradient of KL(pi || ref). `k2` has this gradient. As a loss, k1 has a
    mean gradient of 0 (the mean of grad ln pi is 0), so `k1` uses the gradient of "k1 in reward", with d as a
    coefficient without gradient: it trains like `k2` and reports an unbiased value. `k3`, used by GRPO (2402.03300),
    equals d to first order only: its coefficient is at most 1 where the probability has grown and unbounded where it
    has shrunk.
    Source: arXiv 2510.01555. None of them corrects for samples of an older policy; neither does GRPO.
    """
    if estimator == "k1":
        value_BT = kl_k1(logprob_BT, ref_logprob_BT).detach()
        return KLPenalty(value_BT, value_BT * (1 + logprob_BT - logprob_BT.detach()))
    loss_BT = {"k2": kl_k2, "k3": kl_k3}[estimator](logprob_BT, ref_logprob_BT)
    return KLPenalty(loss_BT.detach(), loss_BT)


def kl_k1(logprob_BT: Tensor, ref_logprob_BT: Tensor) -> Tensor:
    """k1 = ln pi - ln ref, nats: unbiased for KL(pi || ref) under samples of pi; noisy, can be negative.

    Its mean gradient is 0, so it is not a loss by itself. k1, k2 and k3: John Schulman, "Approximating KL Divergence",
    2020.
    """
    return logprob_BT - ref_logprob_BT


def kl_k2(logprob_BT: Tensor, ref_logprob_BT: Tensor) -> Tensor:
    """k2 = (ln pi - ln ref)^2 / 2, nats: biased, low variance; its mean gradient on policy is that of the KL."""
    return (logprob_BT - ref_logprob_BT).square() / 2


def kl_k3(logprob_BT: Tensor, ref_logprob_BT: Tensor) -> Tensor:
    """k3 = ref / pi - 1 - ln(ref / pi), nats: unbiased, never negative; the penalty of GRPO, 2402.03300."""
    return _k3((ref_logprob_BT - logprob_BT).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO))


class ImportanceWeight(NamedTuple):
    """Ratios of the trainer's to the sampler's probabilities, (B, T); no gradient, 0 at masked tokens."""

    weight_BT: Tensor  # the truncated ratio, a factor of the loss
    ratio_BT: Tensor  # the untruncated ratio, whose mean and maximum are reported


def importance_weight(
    old_logprob_BT: Tensor, sampler_logprob_BT: Tensor, mask_BT: Tensor, cap: float = 2.0
) -> ImportanceWeight:
    """w_t = sg(min(pi_old_trainer / pi_sampler, cap)), a factor of `loss_BT` of any loss above.

    Args:
        old_logprob_BT: by the trainer, of the policy that sampled; nats.
        sampler_logprob_BT: by the sampler; nats. Masked tokens may have any value, also NaN: prefix tokens were not
            sampled in this call.
        mask_BT: bool, True at loss tokens.
        cap: upper bound of the weight.
    Source: truncated importance sampling (Ionides 2008).
    """
    import torch

    log_ratio_BT = torch.where(mask_BT, _log_ratio(old_logprob_BT, sampler_logprob_BT).detach(), 0.0)
    ratio_BT = torch.where(mask_BT, log_ratio_BT.exp(), 0.0)
    return ImportanceWeight(ratio_BT.clamp(max=cap), ratio_BT)


def _log_ratio(logprob_BT: Tensor, old_logprob_BT: Tensor) -> Tensor:
    return (logprob_BT - old_logprob_BT.detach()).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _pessimistic(ratio_BT: Tensor, advantage_BT: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """The larger of the losses with the plain and the clipped ratio, so leaving the clip bounds gains nothing."""
    import torch

    clipped_BT = ratio_BT.clamp(1 - clip_low, 1 + clip_high)
    return torch.maximum(-ratio_BT * advantage_BT, -clipped_BT * advantage_BT)


def _k3(log_ratio_BT: Tensor) -> Tensor:
    """e^x - 1 - x, by expm1: x is often 1e-4, where exp(x) - 1 - x in float32 has no correct digit."""
    return log_ratio_BT.expm1() - log_ratio_BT
