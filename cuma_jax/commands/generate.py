"""Replies of a trained run to prompts, for the people who ask: `python -m cuma_jax.generate --run runs/quickstart`."""

import dataclasses
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import tyro

from cuma_jax.commands.command_line import take_distributed, take_option
from cuma_jax.config import Config, MeshConfig, SamplingConfig
from cuma_jax.config.machines import apply_machine
from cuma_jax.data.shots import build_shots
from cuma_jax.generation.chats import prompt_tokens
from cuma_jax.generation.personas import Person, known_fields, person
from cuma_jax.generation.prompt_files import Asked, asked_prompt, read_prompts
from cuma_jax.generation.texts import Prompt, Reply, generate_texts
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.run.build import build_run
from cuma_jax.run.folder import local_folder, read_config
from cuma_jax.run.inference import writer_of
from cuma_jax.run.process_checks import check_config, check_data
from cuma_jax.run.run import Run
from cuma_jax.run.trained import load_adapters
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.jax_setup import prepare_jax
from cuma_jax.runtime.processes import HELP, joined
from cuma_jax.surveys.prompts import conversation_system_message, question_message, system_message
from cuma_jax.tokenization.tokenizer import Message

_CHECKPOINTS = ("last", "best")
_BATCH, _RULE = 8, 100
_HELP = f"""Writes a reply to every prompt, for every profile.

--run DIR             the run's folder (needed)
--profile TEXT        who asks: "country: Japan; age: 30-39", or "country=Japan, age=30-39"; may be repeated. Needed
                      where the run sees profiles
--prompt TEXT         what is asked; may be repeated
--question ID         a question of the run's survey, worded as in training; may be repeated
--file FILE           prompts of a .jsonl file, one a line: {{"prompt": "..."}}, {{"messages": [...]}} or
                      {{"question": "ID"}}; with {{"profile": "..."}} a line is asked by that person alone
--samples N           replies to each (default: 1)
--base                without what was trained
--checkpoint last|best  the newest checkpoint, or the one with the lowest validation loss (default: what the config
                      says, evaluation.checkpoint)
--json                one JSON object a line instead of text
--max_prompt N        room for prompts of N tokens (default: the longest of the run's data.buckets)
--batch_size N        replies written at once, rounded up so that they divide over the mesh (default: {_BATCH})
--machine NAME        as in training: sets the mesh
{HELP}

The same prompt, profile, seed and sample get the same text, whatever else is asked for at the same time."""


@dataclasses.dataclass(frozen=True)
class Overrides:
    """How text is written, and the mesh."""

    sampling: SamplingConfig
    mesh: MeshConfig


@dataclasses.dataclass(frozen=True)
class Options:
    """The command line, but for the fields of the config."""

    run: str
    machine: str
    checkpoint: str
    profiles: tuple[str, ...]
    asked: tuple[Asked, ...]
    samples: int
    max_prompt: int
    batch_size: int
    base: bool
    as_json: bool


def _take_all(args: list[str], flag: str) -> list[str]:
    """Every value of a flag that may be repeated."""
    found = []
    while any(arg == flag or arg.startswith(f"{flag}=") for arg in args):
        found.append(take_option(args, flag))
    return found


def _take_flag(args: list[str], flag: str) -> bool:
    there = flag in args
    args[:] = [arg for arg in args if arg != flag]
    return there


def _take_number(args: list[str], flag: str, default: int) -> int:
    text = take_option(args, flag)
    if text and (not text.isdigit() or int(text) < 1):
        raise CumaError(f"{flag} is {text!r}; it must be a positive number")
    return int(text or default)


def _take_options(args: list[str]) -> Options:
    """Takes the options out of `args`; what is left are fields of the config."""
    helped = bool({"-h", "--help"} & set(args))
    run, machine, which = (take_option(args, flag) for flag in ("--run", "--machine", "--checkpoint"))
    profiles = tuple(_take_all(args, "--profile"))
    asked = [asked_prompt(text, f"--prompt {text[:40]!r}") for text in _take_all(args, "--prompt")]
    asked += [Asked(f"--question {name}", question=name) for name in _take_all(args, "--question")]
    for file in _take_all(args, "--file"):
        asked += read_prompts(pathlib.Path(file).expanduser())
    if not run and not helped:
        raise CumaError("which run? give its folder: python -m cuma_jax.generate --run runs/quickstart --prompt ...")
    if which and which not in _CHECKPOINTS:
        raise CumaError(f"--checkpoint is {which!r}; it must be one of {', '.join(_CHECKPOINTS)}")
    if not asked and not helped:
        raise CumaError("what is asked? give --prompt TEXT, --question ID or --file prompts.jsonl")
    numbers = {
        name: _take_number(args, f"--{name}", default)
        for name, default in (("samples", 1), ("max_prompt", 0), ("batch_size", _BATCH))
    }
    base, as_json = _take_flag(args, "--base"), _take_flag(args, "--json")
    return Options(run, machine, which, profiles, tuple(asked), **numbers, base=base, as_json=as_json)


def people_of(run: Run, profiles: Sequence[str], base: bool) -> list[Person]:
    """Who asks; one nameless person where the model sees no profiles and none is given.

    Raises:
        CumaError: see `person`; or none is given and the model sees profiles.
    """
    seen = run.config.profile.in_prompt or (run.table is not None and not base)
    if not profiles and seen:
        raise CumaError(
            'who asks? this run sees profiles; give --profile "field: value; ...". Its fields, with some values:\n'
            + known_fields(run.profiles)
        )
    people = [person(text, run.profiles, run.table) for text in profiles]
    return people or [Person({}, "")]


def askers(run: Run, options: Options) -> tuple[list[Person], list[tuple[Asked, int]]]:
    """Who asks, and every prompt with the number of a person who asks it.

    Raises:
        CumaError: see `people_of` and `person`.
    """
    own = list(dict.fromkeys(asked.profile for asked in options.asked if asked.profile))
    shared = any(not asked.profile for asked in options.asked)
    people = people_of(run, options.profiles, options.base) if shared else []
    count = len(people)
    people += [person(text, run.profiles, run.table) for text in own]
    return people, [
        (asked, p)
        for asked in options.asked
        for p in ([count + own.index(asked.profile)] if asked.profile else range(count))
    ]


def chat_of(run: Run, asked: Asked, who: Person) -> list[Message]:
    """The turns as they are rendered, after the system message that training puts there.

    Raises:
        CumaError: a question that the run's survey does not have.
    """
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


def _shots_text(run: Run, who: Person, question: int) -> str:
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


def write(config: Config, folder: pathlib.Path, options: Options) -> None:
    """Puts the run together, writes all replies and prints them. All processes call this.

    Raises:
        CumaError: whatever is wrong with what is asked; before anything is written.
    """
    run = build_run(config)
    check_data(run)
    people, pairs = askers(run, options)
    tokenizer = run.tokenizer
    chats = [chat_of(run, asked, people[p]) for asked, p in pairs]
    rows = [prompt_tokens(tokenizer, chat) for chat in chats]
    prompts = [
        Prompt(row, p, index, asked.name)
        for row, (asked, p) in zip(rows, pairs, strict=True)
        for index in range(options.samples)
    ]
    buckets = config.data.buckets
    lengths = (*(n for n in buckets if n < options.max_prompt), options.max_prompt) if options.max_prompt else buckets
    ways = run.mesh.shape["data"] * run.mesh.shape["fsdp"]
    writer = writer_of(
        run,
        config.sampling,
        -(-options.batch_size // ways) * ways,
        lengths,
        "make room for it with --max_prompt N (in tokens)",
    )
    if run.table is not None:
        # One at a time: in a batch of texts a vector's last bits depend on the others, and so would a reply.
        vectors_PC = np.concatenate([run.table.embed_profiles([who.values]) for who in people])
        writer = dataclasses.replace(writer, vectors_PC=vectors_PC)
    if options.base:
        adapters, about = run.identity_adapters(config.train.seed), "the base"
    else:
        adapters, scored = load_adapters(run, folder, options.checkpoint or config.evaluation.checkpoint)
        about = scored.about()["checkpoint"]
    if jax.process_index() == 0:
        for note in dict.fromkeys(note for who in people for note in who.notes):
            print(f"note: {note}", file=sys.stderr)
    replies = generate_texts(writer, adapters, prompts, config.sampling.seed)
    if jax.process_index() == 0:
        for n, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
            asked, chat, who = pairs[n // options.samples][0], chats[n // options.samples], people[prompt.profile]
            if options.as_json:
                print(_line(asked, who, prompt, reply, chat, about))
            else:
                print(_block(n + 1, len(prompts), who, prompt, reply, chat))


def _block(number: int, count: int, who: Person, prompt: Prompt, reply: Reply, chat: Sequence[Message]) -> str:
    """A reply for people to read."""
    head = f"-- {number} of {count}" + (f", sample {prompt.index + 1}" if prompt.index else "")
    head += f": {who.text}" if who.text else ""
    lines = [f"{head} ".ljust(_RULE, "-")]
    lines += [f"> {line}" for line in _printable(chat[-1]["content"]).splitlines()]
    cut = "" if reply.stopped else f"\n[cut at {len(reply.tokens)} tokens; --sampling.max_new_tokens sets where]"
    return "\n".join([*lines, "", _printable(reply.text) + cut, ""])


def _line(asked: Asked, who: Person, prompt: Prompt, reply: Reply, chat: Sequence[Message], about: str) -> str:
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


def _printable(text: str) -> str:
    """Text without what a terminal would obey: a model may write anything."""
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)


def main() -> None:
    """Reads the command line and the run, and writes."""
    args = sys.argv[1:]
    with joined(take_distributed(args)):
        _generate(args)


def _generate(args: list[str]) -> None:
    options = _take_options(args)
    folder = local_folder(options.run, "--run")
    saved = read_config(folder) if options.run else None
    start = apply_machine(saved, options.machine) if saved and options.machine else saved
    given = tyro.cli(
        Overrides, prog="python -m cuma_jax.generate", description=_HELP, args=args, use_underscores=True,
        default=Overrides(start.sampling, start.mesh) if start else Overrides(SamplingConfig(), MeshConfig()),
    )  # fmt: skip
    assert saved is not None
    config = dataclasses.replace(saved, sampling=given.sampling, mesh=given.mesh)
    check_config(config)
    prepare_jax(config.run.cache_dir)
    write(config, folder, options)
