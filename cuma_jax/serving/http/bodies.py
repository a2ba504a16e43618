"""What clients send, as far as its form goes; what the run knows of it is `Model.request`'s to say."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

from cuma_jax.config.checks import SPLITS
from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving.groups import parse_group
from cuma_jax.serving.model import Model, Question, Request
from cuma_jax.serving.questions import MOST_OPTION, MOST_OPTIONS, MOST_TEXT, Ask

MOST_GROUPS, MOST_QUESTIONS, MOST_ROWS, MOST_ORDERS = 500, 500, 5000, 8
_MOST_VALUES = 500
_Short = Annotated[str, StringConstraints(max_length=200)]
_Value = Annotated[str, StringConstraints(max_length=500)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class GroupBody(_Body):
    """A group of people: all who meet every condition."""

    where: dict[_Short, _Value | Annotated[list[_Value | int | float], Field(max_length=_MOST_VALUES)]] | _Value = (
        Field(
            default_factory=dict,
            description='By field the values that match, or a comparison such as ">=60"; or all of it as one text, '
            '"country=Japan,Peru; age>=60". Nothing: everybody.',
            examples=[{"country": ["Japan"]}],
        )
    )


class NewQuestion(_Body):
    """A question that was never asked."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=MOST_TEXT)]
    options: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=MOST_OPTION)]],
        Field(min_length=2, max_length=MOST_OPTIONS),
    ]
    ordered: bool = True
    id: _Short = ""


class PredictBody(_Body):
    """Who is asked what."""

    groups: Annotated[list[GroupBody], Field(min_length=1, max_length=MOST_GROUPS)]
    questions: Annotated[list[_Short | NewQuestion], Field(min_length=1, max_length=MOST_QUESTIONS)] | None = Field(
        None, description="Ids of the run's questions, or new ones; nothing: all of the run's."
    )
    option_orders: Annotated[int, Field(ge=1, le=MOST_ORDERS)] | None = Field(
        None, description="Orders of the options that are averaged over; nothing: as the run was evaluated, 2 for new."
    )
    average_over: str = Field("people", pattern="^(people|profile)$")
    people: str = Field("all", description="all, or a split: those who answered there, as evaluation scores them.")

    @field_validator("people")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ("all", *SPLITS):
            raise ValueError(f"must be all, or one of {', '.join(SPLITS)}")
        return value

    def asked(self, model: Model) -> Request:
        """The request as the model checks it; a `CumaError` for what the run does not know."""
        groups = [parse_group(group.where, model.fields, self.average_over == "profile") for group in self.groups]
        asked = model.request(groups, self._questions, self.option_orders, self.average_over, self.people)
        if asked.rows > MOST_ROWS:
            raise CumaError(
                f"{len(asked.groups):,} groups times {len(asked.questions):,} questions are {asked.rows:,} answers; "
                f"ask for {MOST_ROWS:,} at most at once"
            )
        return asked

    @property
    def _questions(self) -> list[Question] | None:
        if self.questions is None:
            return None
        return [one if isinstance(one, str) else Ask(**one.model_dump()) for one in self.questions]


class Turn(BaseModel):
    """A turn of a chat as OpenAI's clients write it."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """Its text; a `CumaError` for anything else in it."""
        if isinstance(self.content, list):
            parts = [part.get("text") if part.get("type") == "text" else None for part in self.content]
            texts = [part for part in parts if isinstance(part, str)]
            if len(texts) < len(parts):
                raise CumaError("messages may hold text only, no images, sounds or files")
            return "\n".join(texts)
        return self.content or ""


class StreamOptions(BaseModel):
    """Of a stream."""

    include_usage: bool = False


class ChatBody(BaseModel):
    """A chat as OpenAI's API has it, with the extra field `profile`. Fields that are not here are ignored."""

    model: Annotated[str, StringConstraints(max_length=2000)] = Field(
        "run", description="run, base, or run@country=Japan;age=30-39."
    )
    messages: Annotated[list[Turn], Field(min_length=1, max_length=200)]
    profile: dict[_Short, _Value] | _Value | None = Field(
        None, description="Who is asked: a value for each field.", examples=[{"country": "Japan", "age": "30-39"}]
    )
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    n: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    tools: list[Any] | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    response_format: dict[str, Any] | None = None
    top_p: float | None = None
