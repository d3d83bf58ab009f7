"""Worked solutions as the policy would write them: examples of prompts, supervised pairs, their ends."""

import pytest

from extra_rl.config.sections import TaskConfig
from extra_rl.errors import ConfigError, ModelError
from extra_rl.models.tokenizers import byte_level, word_level
from extra_rl.problems.prepared import generated_problems
from extra_rl.tables import contracts
from extra_rl.tasks.base import load_task
from extra_rl.tasks.demonstrations import demonstrations, examples_of, response_tokens, shown
from extra_rl.tasks.prompts import render
from tests.stages.rows import frame, problem

BARE = TaskConfig(name="arithmetic", examples=3, chat_template=False)
CHAT = TaskConfig(name="arithmetic", examples=3, suffix=" Work it out.", system="Be exact.")
ARITHMETIC = load_task(BARE)
EXAMPLES = shown(examples_of(ARITHMETIC, 3))


def stream(task: TaskConfig, stop: str | None, train: list[dict[str, object]], **weights: float):
    return demonstrations(
        task,
        stop,
        byte_level(),
        seed=1,
        level_weights=weights,
        held_out=frame(contracts.Problems, []),
        train=frame(contracts.Problems, train),
    )


def test_examples_are_right_spread_over_levels_and_the_same_at_every_call() -> None:
    examples = examples_of(ARITHMETIC, 7)
    assert [problem.level for problem, _ in examples] == list(ARITHMETIC.levels)
    assert examples == examples_of(ARITHMETIC, 7)
    for problem_, solution in examples:
        assert ARITHMETIC.judge(problem_.prompt, problem_.answer, solution, finished=True).rule == "step_replay"
    assert examples_of(ARITHMETIC, 0) == []


def test_bare_examples_are_lines_above_the_problem() -> None:
    ((text, tokens),) = render(["1 + 1 :"], BARE, byte_level(), EXAMPLES)
    assert text == "".join(f"{problem} {solution}\n" for problem, solution in EXAMPLES) + "1 + 1 :"
    assert byte_level().decode(tokens) == text
    ((led, _),) = render(["1 + 1 :"], BARE.model_copy(update={"system": "Add."}), byte_level(), EXAMPLES)
    assert led == f"Add.\n{text}"


def test_examples_of_a_chat_are_its_first_turns() -> None:
    ((text, _),) = render(["1 + 1 :"], CHAT, byte_level(), EXAMPLES[:1])
    problem_, solution = EXAMPLES[0]
    assert text == (
        "<|im_start|>system\nBe exact.<|im_end|>\n"
        f"<|im_start|>user\n{problem_} Work it out.<|im_end|>\n<|im_start|>assistant\n{solution}<|im_end|>\n"
        "<|im_start|>user\n1 + 1 : Work it out.<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_template_that_loses_examples_is_refused() -> None:
    tokenizer = byte_level()
    tokenizer.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(ModelError, match=r"problem of example 1.*task\.examples: 0"):
        render(["1 + 1 :"], TaskConfig(name="arithmetic"), tokenizer, EXAMPLES)


def test_no_set_holds_an_example() -> None:
    sizes = {"train_per_level": {"L1": 300}, "tuning_per_level": 10, "final_per_level": 10}
    problems = generated_problems(BARE, byte_level(), seed=0, **sizes)
    assert not {p.canonical for p in problems} & {p.canonical for p, _ in examples_of(ARITHMETIC, 3)}
    assert {p.prompt for p in problems} == {
        f"{problems[0].prompt.rpartition(chr(10))[0]}\n{p.problem}" for p in problems
    }


@pytest.mark.parametrize(
    ("task", "stop", "text"),
    [
        (BARE, "\n", " 1 + 1 = 2\n"),
        (BARE, None, " 1 + 1 = 2<|im_end|>"),
        (CHAT, None, "1 + 1 = 2<|im_end|>"),
        (CHAT, "\n", "1 + 1 = 2<|im_end|>"),  # a turn ends by its mark, whatever else would end it
    ],
)
def test_a_response_ends_as_the_policy_is_to_end_it(task: TaskConfig, stop: str | None, text: str) -> None:
    assert byte_level().decode(response_tokens("1 + 1 = 2", task, stop, byte_level())) == text


def test_words_are_taught_as_before() -> None:
    tokenizer = word_level(ARITHMETIC.vocabulary)
    ids = response_tokens("1 + 1 = 2", TaskConfig(), None, tokenizer)
    assert ids == [*tokenizer("1 + 1 = 2", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]


def test_a_tokenizer_without_an_end_wants_a_stop_string() -> None:
    tokenizer = byte_level()
    tokenizer.eos_token = None
    with pytest.raises(ConfigError, match=r"sampling\.stop"):
        response_tokens("2", BARE, None, tokenizer)


def test_fresh_demonstrations_have_the_prompts_of_the_run() -> None:
    pairs = stream(BARE, "\n", [], L4=1)(0, 4)
    above = "".join(f"{problem_} {solution}\n" for problem_, solution in EXAMPLES)
    for prompt, response in pairs:
        text, answer = byte_level().decode(prompt), byte_level().decode(response)
        assert text.startswith(above)
        question = text.removeprefix(above)
        value = str(eval(question.removesuffix(" :")))  # noqa: S307  of our own making
        assert ARITHMETIC.judge(question, value, answer.removesuffix("\n"), finished=True).rule == "step_replay"
    assert stream(BARE, "\n", [], L4=1)(0, 4) == pairs != stream(BARE, "\n", [], L4=1)(1, 4)


def test_problems_from_files_bring_their_solutions() -> None:
    rows = [problem("a", benchmark="A"), {**problem("b", benchmark="B"), "solution": "Thus 7."}]
    math = TaskConfig(name="math")
    assert stream(math, None, rows)(0, 2) == [([1, 5], response_tokens("Thus 7.", math, None, byte_level()))] * 2
    with pytest.raises(ConfigError, match=r"no training problem has one.*`solution`"):
        stream(math, None, rows[:1])
    with pytest.raises(ConfigError, match=r"level_weights names A.*are of B"):
        stream(math, None, rows, A=1)
