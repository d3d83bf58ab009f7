"""Where the answer of a response is found, and which responses have none."""

from __future__ import annotations

import pytest

from mathjudge.extract import extract
from mathjudge.policy import FALLBACKS

ALL = frozenset(FALLBACKS)


@pytest.mark.parametrize(
    ("response", "answer", "rule"),
    [
        (r"so \boxed{\frac{1}{2}} is it", r"\frac{1}{2}", "box"),
        (r"first \boxed{wrong}, then \boxed{42}", "42", "box"),
        (r"\boxed{\boxed{42}}", "42", "box"),
        (r"\boxed{42} and then \boxed{43", "42", "box"),
        (r"<think>\boxed{4}</think> \boxed{5}", "5", "box"),
        (r"\boxed{42}<|eot_id|> \boxed{43}", "42", "box"),
        (r"\boxed{\left\{1, 2\right\}}", r"\left\{1, 2\right\}", "box"),
        (r"\boxed 13", "13", "box"),
        (r"\boxed{1}, \boxed{2} and \boxed{3}", "1, 2, 3", "box"),
        (r"\boxed{255} is the interest. Final Answer: The final answer is $10,455$. I hope it is correct.",
         "$10,455$", "minerva"),
        ("Some work.\n#### 42", "42", "hashes"),
        ("Answer: 41 was a wrong guess.\nAnswer: 42", "42", "phrase"),
        ("The answer is $x = 5$ as we said.", "$x = 5$", "phrase"),
        ("Final Answer: The largest $n$ is 34.", "34", "phrase"),
        ("**Answer: 42**", "42", "phrase"),
        ("The answer is 41, not 42.", "41", "phrase"),
        ("答案是 12。", "12", "phrase"),
        ("42 because geometry proves it", "42", "bare"),
        (r"$\frac{1}{2}$", r"$\frac{1}{2}$", "bare"),
        ("We add, then 12. Therefore, the volume is $3 \\cdot 4 = 12$.", r"$3 \cdot 4 = 12$", "conclusion"),
        ("Therefore, there are 12 sequences. I hope it is correct.", "12", "conclusion"),
        ("The perimeter is 7", "7", "statement"),
        (r"Add them. So the probability is \frac{3}{4}.", r"\frac{3}{4}", "conclusion"),
    ],
)  # fmt: skip
def test_found(response: str, answer: str, rule: str) -> None:
    found = extract(response, ALL)
    assert (found.text or "").strip("* ") == answer
    assert found.rule == rule


@pytest.mark.parametrize(
    ("response", "rule"),
    [
        (r"start \boxed{never closes", "unclosed_box"),
        (r"The answer is \boxed{5", "unclosed_box"),
        ("", "none"),
        ("We compute 6*7 = 42 and then subtract 2 to", "none"),
        ("Let me think. We know that $6 \\times 7 = 42$. Now we need to find the next term", "none"),
        ("First, we compute $6 \\times 7 = 42$.", "none"),
        ("So the sum is 42 minus", "none"),
        ("Therefore, the total is 42 +", "none"),
        ("The answer is not 42.", "none"),
        ("The answer is the sum of 42 and", "none"),
        ("The answer is 42 and", "none"),
        ("The answer is obtained by adding 42 to the previous total, which", "none"),
        ("Suppose the answer is 42. Then we would have a contradiction, so", "none"),
        ("<think>so it is 5, let me verify that 5 is right", "none"),
        ("__import__('os').system('ls') or 0", "none"),
    ],
)
def test_no_answer(response: str, rule: str) -> None:
    found = extract(response, ALL)
    assert (found.text, found.rule) == (None, rule)


@pytest.mark.parametrize(
    "end",
    ["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>", "<|endoftext|>", "<|end_of_text|>", "</s>",
     "<eos>", "<end_of_turn>", "<｜end▁of▁sentence｜>", "<|END_OF_TURN_TOKEN|>", "[|endofturn|]", "<|user|>", "[INST]",
     "<|im_start|>", "<|start_header_id|>", "<start_of_turn>"],
)  # fmt: skip
def test_the_end_of_a_turn_of_any_family_ends_what_is_read(end: str) -> None:
    for answer in (r"\boxed{5}", "The answer is 5", "5"):
        found = extract(f"{answer}{end}", ALL)
        assert found == extract(answer, ALL)
        assert extract(rf"{answer}{end}" + "\nuser\nAnother?\nassistant\n\\boxed{7}. The answer is 7", ALL) == found


@pytest.mark.parametrize("token", ["<|fim_pad|>", "<pad>", "<unk>", "<|reserved_special_token_3|>", "<unused7>", "<s>"])
def test_a_special_token_next_to_an_answer_does_not_change_it(token: str) -> None:
    for answer in (r"\boxed{5%s}", r"%s\boxed{5}", r"\boxed{5}%s", "The answer is 5%s", "5%s", "%s5"):
        assert extract(answer % token, ALL) == extract(answer % "", ALL)


def test_bars_in_mathematics_are_no_special_token() -> None:
    assert extract(r"\boxed{0<|x|>2}", ALL).text == "0<|x|>2"


@pytest.mark.parametrize(
    "head",
    ["<|im_start|>assistant\n", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<start_of_turn>model\n",
     "<|assistant|>\n", "<｜Assistant｜>", "[/INST]"],
)  # fmt: skip
def test_a_turn_that_repeats_its_own_head_is_read(head: str) -> None:
    assert extract(head + r"\boxed{5}", ALL).text == "5"


HARMONY = "<|channel|>analysis<|message|>maybe \\boxed{4}<|end|><|start|>assistant<|channel|>final<|message|>"


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (HARMONY + r"It is \boxed{5}.<|return|>", "5"),
        (HARMONY + r"The answer is 5<|return|><|start|>user<|message|>Why?<|end|>" + HARMONY + r"\boxed{7}", "5"),
        (HARMONY + "I cannot solve it.", None),
        ("<|channel|>final<|message|>The answer is 5<|return|>", "5"),
        ("<|channel|>analysis<|message|>The answer is 5", None),
        (r"[THINK]\boxed{4}[/THINK]\boxed{5}</s>", "5"),
        (r"[THINK]\boxed{4}[/THINK]I cannot solve it.", None),
        ("[THINK]The answer is 5", None),
        (r"<|START_THINKING|>\boxed{4}<|END_THINKING|><|START_RESPONSE|>\boxed{5}<|END_RESPONSE|>", "5"),
        ("<|START_THINKING|>The answer is 5", None),
    ],
)
def test_thoughts_of_other_families_are_not_judged(response: str, answer: str | None) -> None:
    assert extract(response, ALL).text == answer


def test_every_fallback_can_be_switched_off() -> None:
    examples = {
        "minerva": "Final Answer: The final answer is 5. I hope it is correct.",
        "hashes": "#### 5",
        "phrase": "The answer is 5.",
        "bare": "5",
        "conclusion": "We add 2 and 3. Therefore, the sum of both is 5.",
        "statement": "The perimeter is 5",
    }
    assert set(examples) == set(FALLBACKS)
    for name, response in examples.items():
        assert extract(response, frozenset({name})).rule == name
        assert extract(response, frozenset()).rule == "none"


def test_a_truncated_response_has_no_answer_unless_boxed() -> None:
    assert extract("The answer is 42.", ALL, truncated=True).text is None
    assert extract(r"It is \boxed{42}, now let me", ALL, truncated=True).text == "42"


def test_it_is_known_how_neighbouring_boxes_are_joined() -> None:
    assert extract(r"\boxed{1} or \boxed{2}", ALL).joined_by_or
    assert extract(r"\boxed{1}, \boxed{2}", ALL).separated
    apart = extract(r"\boxed{1} was a guess and here is more work: \boxed{2}", ALL)
    assert apart.answers == ("2",)


def test_thousands_of_boxes_take_linear_time() -> None:
    assert extract(r"\boxed{1}" * 5_000 + r"\boxed{42}", ALL).answers[-1] == "42"
    assert extract(r"\boxed{" * 5_000 + "42" + "}" * 5_000, ALL).text == "42"
