"""Who asks what of a trained run, the turns that the model sees, and its replies as text and as JSON."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from cuma_jax.data.shots import build_shots
from cuma_jax.generation.personas import Persona, known_fields, parse_persona
from cuma_jax.generation.prompt_files import PromptRequest, prompt_request, read_prompts
from cuma_jax.generation.texts import EncodedPrompt, Reply
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.run import Run
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.text_table import printable
from cuma_jax.surveys.prompts import conversation_system_message, question_message, system_message
from cuma_jax.tokenization.tokenizer import Message

_RULE = 100


def read_requests(prompts: Sequence[str], questions: Sequence[str], files: Sequence[str]) -> list[PromptRequest]:
    """What is asked: texts, ids of survey questions, and the prompts of .jsonl files."""
    requests = [prompt_request(text, f"--prompt {text[:40]!r}") for text in prompts]
    requests += [PromptRequest(f"--question {name}", question=name) for name in questions]
    for file in files:
        requests += read_prompts(pathlib.Path(file).expanduser())
    return requests


def people_of(run: Run, profiles: Sequence[str], base: bool) -> list[Persona]:
    """Who asks; where none is given a nameless person, or a `CumaError` if the model sees profiles."""
    seen = run.config.profile.in_prompt or (run.table is not None and not base)
    if not profiles and seen:
        raise CumaError(
            'who asks? this run sees profiles; give --profile "field: value; ...". Its fields, with some values:\n'
            + known_fields(run.profiles)
        )
    people = [parse_persona(text, run.profiles, run.table) for text in profiles]
    return people or [Persona({}, "")]


def askers(
    run: Run, profiles: Sequence[str], base: bool, requests: Sequence[PromptRequest]
) -> tuple[list[Persona], list[tuple[PromptRequest, int]]]:
    """Who asks, and every prompt with the number of a person who asks it."""
    own = list(dict.fromkeys(request.profile for request in requests if request.profile))
    shared = any(not request.profile for request in requests)
    people = people_of(run, profiles, base) if shared else []
    count = len(people)
    people += [parse_persona(text, run.profiles, run.table) for text in own]
    return people, [
        (request, p)
        for request in requests
        for p in ([count + own.index(request.profile)] if request.profile else range(count))
    ]


def chat_of(run: Run, asked: PromptRequest, who: Persona) -> list[Message]:
    """The turns as rendered, after training's system message; a `CumaError` for a question that is not there."""
    text = who.text if run.config.profile.in_prompt else None
    if not asked.question:
        system = [] if text is None else [{"role": "system", "content": conversation_system_message(text)}]
        return [*system, *asked.messages]
    if isinstance(run.source, Preferences):
        raise CumaError(f"{asked.name}: this run was trained on conversations, which have no questions; use --prompt")
    names = [question.id for question in run.survey.questions]
    if asked.question not in names:
        shown = ", ".join(names[:12])
        more = f" and {len(names) - 12:,} more (python -m cuma_jax.data lists them)" if len(names) > 12 else ""
        raise CumaError(f"{asked.name}: the survey has no such question; it has {shown}{more}")
    number = names.index(asked.question)
    if text is not None and run.config.profile.shots:
        text += _shots_text(run, who, number)
    return [
        {"role": "system", "content": system_message(text)},
        {"role": "user", "content": question_message(run.survey.questions[number])},
    ]


def _shots_text(run: Run, who: Persona, question: int) -> str:
    """What people like `who` answered to other questions, as training shows it (`profile.shots`)."""
    assert run.prediction is not None
    profiles, row = run.profiles.with_person(who.values)
    shots = run.prediction.tokens.shots
    if profiles is not run.profiles:  # nobody in the data is like this
        config, train_A = run.config, run.mask("train")
        shots = build_shots(
            run.survey, profiles, train_A, config.profile.shots, config.data.split_seed, np.array([row])
        )
        row = 0
    assert shots is not None
    return shots.text(row, int(shots.variant(np.array([row]), np.array([question]))[0]))


def reply_text(
    number: int, count: int, who: Persona, prompt: EncodedPrompt, reply: Reply, chat: Sequence[Message]
) -> str:
    """A reply for people to read."""
    head = f"-- {number} of {count}" + (f", sample {prompt.index + 1}" if prompt.index else "")
    head += f": {' '.join(printable(who.text).split())}" if who.text else ""
    lines = [f"{head} ".ljust(_RULE, "-")]
    lines += [f"> {line}" for line in printable(chat[-1]["content"]).splitlines()]
    cut = "" if reply.stopped else f"\n[cut at {len(reply.tokens)} tokens; --sampling.max_new_tokens sets where]"
    return "\n".join([*lines, "", printable(reply.text) + cut, ""])


def reply_json(
    asked: PromptRequest, who: Persona, prompt: EncodedPrompt, reply: Reply, chat: Sequence[Message], about: str
) -> str:
    """A reply as one line of JSON."""
    values: dict[str, Any] = {
        "messages": list(chat),
        "question": asked.question or None,
        "profile": who.values,
        "profile_text": who.text,
        "sample": prompt.index,
        "reply": reply.text,
        "tokens": len(reply.tokens),
        "stopped": reply.stopped,
        "logp": round(float(np.sum(reply.logp)), 4),
        "checkpoint": about,
    }
    return json.dumps(values, ensure_ascii=False)
