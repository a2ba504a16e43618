"""What `python -m cuma_jax.generate` does: replies of a trained run to prompts, for the people who ask."""

import dataclasses
import pathlib
import sys
from typing import Annotated

from tyro.conf import UseAppendAction

from cuma_jax.commands.command_line import TEXT, UsedRun, joined, parse_saved_run
from cuma_jax.config import Config, MeshConfig, SamplingConfig
from cuma_jax.config.fields import TOKENS, Line, Place, Range
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.near_matches import near

_HELP = """Writes a reply to every prompt, for every profile. The same prompt, profile, seed and sample get the same
text, whatever else is asked for at the same time."""


@dataclasses.dataclass(frozen=True)
class Options(UsedRun):
    """What is asked, and by whom."""

    profile: Annotated[UseAppendAction[tuple[str, ...]], TEXT] = ()
    """Who asks: "country: Japan; age: 30-39", or "country=Japan, age=30-39". Needed where the run sees profiles."""
    prompt: Annotated[UseAppendAction[tuple[str, ...]], TEXT] = ()
    """What is asked."""
    question: Annotated[UseAppendAction[tuple[str, ...]], Line()] = ()
    """Id of a question of the run's survey, worded as in training."""
    file: Annotated[UseAppendAction[tuple[str, ...]], Place("file")] = ()
    """Prompts of a .jsonl file, one a line: {"prompt": "..."}, {"messages": [...]} or {"question": "ID"}; with
    {"profile": "..."} a line is asked by that person alone."""
    samples: Annotated[int, Range(1, 10**5)] = 1
    """Replies to each."""
    base: bool = False
    """Without what was trained."""
    json: bool = False
    """One JSON object a line instead of text."""
    max_prompt: Annotated[int | None, TOKENS] = None
    """Room for prompts of this many tokens (default: the longest of the run's data.buckets)."""
    batch_size: Annotated[int, Range(1, 65536)] = 8
    """Replies written at once, rounded up so that they divide over the mesh."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.prompt or self.question or self.file):
            raise CumaError("what is asked? give --prompt TEXT, --question ID or --file prompts.jsonl")


@dataclasses.dataclass(frozen=True)
class Sections:
    """How text is written, and the mesh."""

    sampling: SamplingConfig
    mesh: MeshConfig


def check_early(folder: pathlib.Path, config: Config, options: Options) -> None:
    """Finds a mistake in a profile or a question before JAX and the model are there, from what a bundle knows."""
    from cuma_jax.serving.bundle.files import has_bundle, read_contents
    from cuma_jax.surveys.profiles import parse_profile, unknown_value

    if not has_bundle(folder):
        return
    contents = read_contents(folder)
    people, ids = contents.people, [question.id for question in contents.questions]
    for name in options.question if ids else ():
        if name not in ids:
            raise CumaError(f"--question {name}: the survey has no such question; it has {near(name, ids)}")
    router = config.router.inputs
    by_value = router == "lookup" or ("profile" in router and config.profile.granularity == "categorical")
    for text in options.profile:
        for field, value in parse_profile(text, people.told).items():
            known = people.vocab[field]
            if by_value and value.casefold() not in [one.casefold() for one in known]:
                raise unknown_value(field, value, known, f"profile {text!r}")


def write(config: Config, folder: pathlib.Path, options: Options) -> None:
    """Builds the run, writes all replies and prints them; mistakes show first. All processes call this."""
    check_early(folder, config, options)
    # Imported here: `--help` must not wait for jax.
    import jax
    import numpy as np

    from cuma_jax.commands.replies import askers, chat_of, read_requests, reply_json, reply_text
    from cuma_jax.commands.score_run import build_saved
    from cuma_jax.generation.texts import EncodedPrompt, generate_texts, prompt_tokens
    from cuma_jax.run.inference import writer_of
    from cuma_jax.run.trained import load_adapters

    requests = read_requests(options.prompt, options.question, options.file)
    run = build_saved(config, folder)
    people, pairs = askers(run, options.profile, options.base, requests)
    chats = [chat_of(run, request, people[p]) for request, p in pairs]
    rows = [prompt_tokens(run.tokenizer, chat) for chat in chats]
    prompts = [
        EncodedPrompt(row, p, index, request.name)
        for row, (request, p) in zip(rows, pairs, strict=True)
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
            request, chat, who = pairs[n // options.samples][0], chats[n // options.samples], people[prompt.profile]
            if options.json:
                print(reply_json(request, who, prompt, reply, chat, about))
            else:
                print(reply_text(n + 1, len(prompts), who, prompt, reply, chat))


def main() -> None:
    """Reads the command line and the run, and writes."""
    argv = sys.argv[1:]
    with joined(argv):
        options, folder, config = parse_saved_run("generate", _HELP, argv, Options, Sections)
        write(config, folder, options)
