"""Options that are a known scale come in its order; of any others no order is told."""

import random

import pytest

from cuma_jax.surveys.scales import is_no_answer, scale_order, scale_with_ends

SCALES = """
Strongly agree|Agree|Neither agree nor disagree|Disagree|Strongly disagree
Completely agree|Mostly agree|Mostly disagree|Completely disagree
Strongly agree|Agree|Somewhat agree|Neutral|Somewhat disagree|Disagree|Strongly disagree
Agree strongly|Agree|Undecided|Disagree|Disagree strongly
Always|Often|Sometimes|Rarely|Never
Almost always|Often|Sometimes|Almost never|Never
Every day|Several times a week|Once a week|Once a month|Less often|Never
Very important|Rather important|Not very important|Not at all important
Extremely important|Very important|Moderately important|Slightly important|Not at all important
Very satisfied|Somewhat satisfied|Neither satisfied nor dissatisfied|Somewhat dissatisfied|Very dissatisfied
Completely satisfied|Fairly satisfied|Not very satisfied|Not at all satisfied
Trust completely|Trust somewhat|Do not trust very much|Do not trust at all
Trust a lot|Trust somewhat|Don\u2019t trust much|Don\u2019t trust at all
A great deal of confidence|Some confidence|No confidence
A great deal|Quite a lot|Not very much|None at all
Very likely|Likely|Unlikely|Very unlikely
Definitely|Probably|Probably not|Definitely not
Yes, definitely|Yes, probably|No, probably not|No, definitely not
Yes|Maybe|No
Yes|No
A lot|Some|A little|None
Very much|Somewhat|A little|Not at all
Excellent|Good|Fair|Poor
Much better|Better|About the same|Worse|Much worse
Increased a lot|Increased a little|Stayed the same|Decreased a little|Decreased a lot
Very happy|Quite happy|Not very happy|Not at all happy
10 - Completely|9|8|7|6|5|4|3|2|1|0 - Not at all
65 and over|50-64|30-49|18-29
10,000 and over|1,000-9,999|500-999|1-499
$1,250,000|$12,500.75|$1,000|$20
2,5|1,25|0,125
""".strip().split("\n")


@pytest.mark.parametrize("scale", SCALES)
def test_a_known_scale_is_put_in_order_however_it_is_listed(scale):
    right = tuple(scale.split("|"))
    for seed in range(5):
        listed = random.Random(seed).sample(right, len(right))
        assert scale_order(listed) in (right, right[::-1])
        assert scale_order([text.upper() for text in listed]) is not None


@pytest.mark.parametrize(
    "options",
    [
        "Red|Green|Blue", "Female|Male", "Agree|Red", "Agree|AGREE", "Quite happy|Happy", "2 weeks|1 year|6 months",
        "Neutral|Undecided", "Very good|Very important", "Agree|Disagree|Don't know", "Agree",
    ],
)  # fmt: skip
def test_of_other_options_no_order_is_told(options):
    assert scale_order(options.split("|")) is None


def test_a_scale_of_numbers_with_words_at_its_ends_is_in_order_if_it_can_be_known():
    middle = list("23456789")
    for low, high in (
        ("Never justifiable", "Always justifiable"), ("Left", "Right"), ("Dissatisfied", "Satisfied"),
        ("Not at all important", "Very important"), ("A lot worse off", "A lot better off"),
        ("None at all", "A great deal"),
    ):  # fmt: skip
        right = (low, *middle, high)
        for seed in range(5):
            assert scale_with_ends(random.Random(seed).sample(right, len(right))) == right
    listed = ("Incomes more equal", *middle, "Larger differences")
    assert scale_with_ends(listed) == listed
    assert scale_with_ends(listed[::-1]) == listed[::-1]
    assert scale_with_ends([listed[-1], listed[0], *middle]) is None  # which of the ends is 1?
    assert scale_with_ends(["Completely agree", "Completely disagree", *middle]) is None
    for low, high in (("All of the time", "None of the time"), ("Nothing at all", "Everything")):
        assert scale_with_ends([low, *middle, high]) == (low, *middle, high)
    assert scale_with_ends(["None", *middle, "All"]) == ("None", *middle, "All")
    assert scale_with_ends(["Yes", "No"]) is None
    assert scale_with_ends(["Yes", "2", "4", "No"]) is None


@pytest.mark.parametrize(
    "word",
    [
        "Other", "Another one", "Something else", "None", "None of these", "All of the above", "Both", "Both equally",
        "Neither", "Either of them", "It depends", "Don't know", "Not sure", "Refused", "No opinion",
    ],
)  # fmt: skip
def test_what_stands_beside_a_scale_of_numbers_is_no_end_of_it(word):
    assert scale_with_ends(["2", "3", "4", word]) is None
    assert scale_with_ends(["Red", "2", "3", word]) is None
    assert scale_with_ends(["Red", "2", "3"]) is not None


def test_no_answer_is_told_from_an_answer():
    missing = ["Don't know", "Don\u2019t know", "I do not know", "DK/Refused", "(DK)", "Refused (VOL)", "No answer",
               "Other missing; Multiple answers Mail (EVS)", "Missing; Unknown", "Not applicable", "Prefer not to say",
               "Not sure", "I'm not sure", "Unsure", "Cannot say", "Can't say", "Can not choose", "Declined to answer",
               "NA", "Decline (VOL)", "Declined", "Declines to state", "Refuse to answer", "Refuse"]  # fmt: skip
    answers = ["No", "None", "Neither", "Nationalism", "Does not matter", "Not at all", "Dark", "Not surely",
               "Decline in living standards", "Declined a lot", "Declining", "Refuse the treaty", "-1"]  # fmt: skip
    assert [option for option in [*missing, *answers] if is_no_answer(option)] == missing
