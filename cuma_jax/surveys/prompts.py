"""What is put to the model: the content of the messages. Rendering them as a chat is the tokenizer's work."""

import string

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.survey import Question

LETTERS = string.ascii_uppercase


def question_message(question: Question) -> str:
    """The user's message: the wording, one lettered option a line (a `CumaError` for more options than letters), and
    how to answer.
    """
    if len(question.options) > len(LETTERS):
        raise CumaError(
            f"question {question.id} has {len(question.options)} options, but there are only {len(LETTERS)} letters; "
            "merge options or leave the question out (data.questions)"
        )
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False)]
    return "\n".join([question.text, *options, "You can only choose one option."])


def system_message(profile_text: str | None = None) -> str:
    """The system's message: what to do, and who is asked where `profile_text` is given."""
    if profile_text is None:
        return "Answer with one letter."
    return f"Answer as this person would, with one letter. {profile_text}"


def conversation_system_message(profile_text: str) -> str:
    """The system's message of a conversation: whom the answers are for."""
    return f"Answer as suits this user. {profile_text}"
