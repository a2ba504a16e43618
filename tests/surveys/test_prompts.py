import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.prompts import LETTERS, question_message, system_message
from cuma_jax.surveys.survey import Question


def test_question_message_is_wording_then_lettered_options_then_instruction():
    question = Question("q", "Do you like rain?", ("Yes", "A little", "No"), ("1", "2", "3"))
    assert question_message(question) == (
        "Do you like rain?\nA. Yes\nB. A little\nC. No\nYou can only choose one option."
    )


def test_more_options_than_letters_is_an_error():
    options = tuple(str(i) for i in range(27))
    with pytest.raises(CumaError, match="question many has 27 options"):
        question_message(Question("many", "How many?", options, options))
    assert question_message(Question("q", "?", options[:26], options[:26])).count("\n") == 27
    assert len(LETTERS) == 26


def test_system_message_holds_the_profile_only_where_it_is_given():
    assert system_message("A person from Chile.").endswith("A person from Chile.")
    assert "person" not in system_message(None)
