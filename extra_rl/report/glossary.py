"""The words of the page that are explained on hover, on keyboard focus and on touch (page.js shows them)."""

from __future__ import annotations

import html
import re
from typing import Any

GLOSSARY = {
    "pass@k": "The probability that at least one of k samples of a problem is correct, estimated without bias from all "
    "its samples, as a mean over problems.",
    "pass@1": "The probability that one sample of a problem is correct: the share of correct samples.",
    "pass rate": "The share of correct rollouts among the judged fresh ones of an iteration.",
    "arm": "One configuration of the experiment. All arms share the problems, the initial policies and the seeds.",
    "regime": "A setting that all arms are run under, such as the difficulty of the training problems.",
    "warm start": "The initial policy that every arm is trained from.",
    "held-out": "Not among the training problems.",
    "group": "The rollouts of one problem that are sampled together; their rewards are compared with each other.",
    "group size G": "The number of fresh rollouts of a problem that are sampled together.",
    "mixed": "Groups with correct and incorrect rollouts. Only these give an advantage without a bonus.",
    "useful group": "A group whose rewards differ and that the update learns from. Continuations and replayed groups "
    "count as well; a bonus alone does not make a group useful.",
    "rescued": "Groups of which every fresh rollout was incorrect and a continuation is correct.",
    "replayed": "Groups whose rollouts all begin with the same prefix of a stored trajectory, such as an earlier "
    "rescue (choose_prefixes.replay). They are separate groups, and no rescues.",
    "continued": "Groups from whose incorrect rollouts prefixes were cut and sampled on.",
    "continuation": "A rollout that begins with a prefix of an earlier, incorrect one.",
    "advantage": "By how much a rollout's reward differs from its group's mean, divided by the standard deviation, "
    "plus the novelty bonus. It is the weight of the rollout's tokens in the loss.",
    "bonus": "The part of an advantage that rewards a correct rollout for differing from the others.",
    "entropy": "The mean uncertainty of the policy about the next token, in nats. Near 0, all rollouts of a problem "
    "are alike.",
    "KL": "Kullback-Leibler divergence: how far two policies are apart, in nats per token. Here between the policy "
    "before and after the optimizer steps of an iteration, on the trained tokens.",
    "gradient norm": "The length of the gradient before clipping, mean over the optimizer steps of an iteration.",
    "clip share": "The share of trained tokens whose probability ratio left the clipping range, so that they give no "
    "gradient.",
    "mismatch": "Mean absolute difference between the log-probabilities that sampler and policy give to a sampled "
    "token, in nats. Large values mean that the rollouts do not come from the policy that is trained.",
    "cut off": "Responses that reached the token limit before they ended.",
    "standard deviation": "The spread of the seeds around their mean. It is not an interval of the mean.",
    "t interval": "95 % interval of a mean difference over seeds, by Student's t.",
    "bootstrap": "95 % interval from resampling seeds, and within them problems.",
    "Holm p": "The p value, adjusted for the number of differences that were named before the run.",
    "overshoot": "Tokens sampled beyond the budget, because an iteration is always finished.",
    "CPU-second": "One second of one processor core, summed over the stages that train.",
    "device-second": "One second for which a stage that trains held one GPU, without waiting for it.",
    "TFLOP": "10^12 floating-point operations, computed from token counts and the number of weights.",
    "temperature": "Divisor of the logits when sampling; above 1, rollouts become more varied.",
    "samples": "Responses that are sampled for each held-out problem.",
}

_WORDS = re.compile(
    r"(?<![\w@-])(?:pass@\d+|(?:"
    + "|".join(re.escape(word) for word in sorted(GLOSSARY, key=len, reverse=True))
    + r")s?)(?![\w@-])",
    re.IGNORECASE,
)
_ENTRY = {word.lower(): text for word, text in GLOSSARY.items()}


def explained(text: Any) -> Any:
    """Return HTML in which the first use of each word of the glossary can be pointed at. text: is escaped."""
    from markupsafe import Markup, escape

    seen: set[str] = set()

    def mark(found: re.Match[str]) -> str:
        word = found[0].lower()
        entry = next((name for name in (word, word.removesuffix("s")) if name in _ENTRY), "pass@k")
        if entry in seen:
            return found[0]
        seen.add(entry)
        return term(found[0], _ENTRY[entry])

    shown = str(escape(text))
    if not isinstance(text, Markup):
        return Markup(_WORDS.sub(mark, shown))
    pieces = re.split(r"(<[^>]*>|&[#\w]+;)", shown)  # Markup of the template: only what is outside of tags
    return Markup("".join(piece if i % 2 else _WORDS.sub(mark, piece) for i, piece in enumerate(pieces)))


def term(shown: str, meaning: str) -> str:
    """Return one explained word. shown: escaped HTML."""
    return f'<span class="term" tabindex="0" data-tip="{html.escape(meaning, quote=True)}">{shown}</span>'
