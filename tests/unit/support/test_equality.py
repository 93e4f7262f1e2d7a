"""What the comparisons of generations let pass, and what not."""

import pytest
import torch

from tests.support.equality import TokenEquality, is_greedy_near_tie
from tests.support.failures import WrongTokens

EVEN, UNEVEN = torch.tensor([1.0, 1.0 + 5e-5, 0.0]), torch.tensor([1.0, 1.0 + 5e-4, 0.0])


@pytest.mark.parametrize(
    ("logits", "is_tie"),
    [
        (EVEN, True),
        (UNEVEN, False),
        (torch.tensor([9.0, 9.0625, 0.0], dtype=torch.bfloat16), True),  # 1 ulp between 8 and 16
        (torch.tensor([9.0, 9.125, 0.0], dtype=torch.bfloat16), True),  # 2
        (torch.tensor([9.0, 9.1875, 0.0], dtype=torch.bfloat16), False),  # 3
        (torch.tensor([17.0, 17.25, 0.0], dtype=torch.bfloat16), True),  # 2 ulp between 16 and 32
        (torch.tensor([-1.5, -1.515625, -9], dtype=torch.bfloat16), True),  # 2 ulp
        (torch.tensor([-1.5, -1.53125, -9], dtype=torch.bfloat16), False),  # 4
    ],
)
def test_a_near_tie_depends_on_the_dtype_and_the_size(logits: torch.Tensor, is_tie: bool) -> None:
    assert is_greedy_near_tie(logits) == is_tie


def test_the_first_difference_must_be_a_tie_and_what_follows_one_is_not_compared() -> None:
    equality = TokenEquality()
    equality.compare("same", [1, 2, 3], [1, 2, 3], lambda index: False)
    equality.compare("tied", [1, 5, 9], [1, 2, 3], lambda index: index == 1)

    assert equality.ties == ["tied at token 1"]
    with pytest.raises(WrongTokens, match="other: token 2 differs and is no near tie"):
        equality.compare("other", [1, 2, 4], [1, 2, 3], lambda index: False)
    with pytest.raises(WrongTokens, match="short: token 2 differs"):
        equality.compare("short", [1, 2], [1, 2, 3], lambda index: False)


def test_judged_tokens_must_be_the_best_or_near_it_everywhere() -> None:
    equality = TokenEquality()
    equality.judge("best", [1, 1], torch.stack([EVEN, UNEVEN]))
    equality.judge("tied", [0, 1, 0], torch.stack([EVEN, UNEVEN, EVEN]))

    assert equality.ties == ["tied at tokens [0, 2]"]
    with pytest.raises(WrongTokens, match="wrong: token 1 is 0 instead of 1"):
        equality.judge("wrong", [0, 0], torch.stack([EVEN, UNEVEN]))


def test_more_ties_than_a_fifth_of_the_generations_are_too_many() -> None:
    equality = TokenEquality()
    for number in range(10):
        equality.judge(f"{number}", [int(number >= 2)], EVEN.unsqueeze(0))
    equality.check()

    equality.judge("one more", [0], EVEN.unsqueeze(0))

    with pytest.raises(WrongTokens, match="3 of 11 parted at near ties"):
        equality.check()
