"""What `python -m cuma_jax.data` does: build, show, check and export, each from a config to a `Result`."""

import dataclasses
import pathlib
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cuma_jax.commands.data.examples import Example, conversation_rows, survey_rows, try_tokenizer
from cuma_jax.commands.data.export import check_folder, export, file_names
from cuma_jax.commands.data.facts import preference_facts, split_facts, survey_facts
from cuma_jax.commands.data.show import show_text, wants_colour
from cuma_jax.config import Config
from cuma_jax.config.fields import Name
from cuma_jax.config.presets import OWN_SURVEY
from cuma_jax.data.load import load_source, source_profiles, source_units
from cuma_jax.preferences.load import SOURCES as PREFERENCE_SOURCES
from cuma_jax.preferences.load import cached_folder as cached_preferences
from cuma_jax.preferences.preferences import Preferences
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.memory import host_peak_bytes
from cuma_jax.surveys.load import cached_folder as cached_survey
from cuma_jax.surveys.profiles import Profiles
from cuma_jax.surveys.survey import Survey


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command found: for people, and as plain JSON values; `failed`: whether the exit code says so."""

    text: str
    facts: dict[str, Any]
    failed: bool = False


class Phases:
    """Names what is being done on stderr, and how long it took: a ticking line on a terminal, else one line each."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str, ticks: bool = True) -> Iterator[None]:
        """Times what is inside; `ticks` False for what shows a bar of its own."""
        began, done = time.perf_counter(), threading.Event()

        def tick() -> None:
            while not done.wait(0.2):
                print(f"\r{name} ... {time.perf_counter() - began:.0f} s", end="", file=sys.stderr, flush=True)

        thread = threading.Thread(target=tick, daemon=True) if ticks and sys.stderr.isatty() else None
        if thread:
            thread.start()
        try:
            yield
        finally:
            done.set()
            if thread:
                thread.join()
                print("\r\x1b[K", end="", file=sys.stderr)
        self.seconds[name] = time.perf_counter() - began
        print(f"{name}: {self.seconds[name]:.1f} s", file=sys.stderr, flush=True)


def build(config: Config) -> Result:
    """Reads the source into the cache, or opens it from there, and says what there is."""
    data, phases = config.data, Phases()
    where = cached_preferences if data.source in PREFERENCE_SOURCES else cached_survey
    folder = where(data, config.run.cache_dir)
    fresh = folder is not None and not folder.exists()
    shows_bar = fresh and data.source in ("wvs7", "wvb")  # their readers show how far they are
    with phases(f"{'read' if fresh or folder is None else 'open'} {data.source}", ticks=not shows_bar):
        source = _load(config)
    if fresh:
        del source
        with phases("open it from the cache"):
            source = _load(config)
    with phases("profiles"):
        profiles = _profiles(source, config)
    splits: dict[str, Any] = {"splits": []}
    if fresh or folder is None:  # what was there before is only opened; `show` counts it
        with phases("split"):
            splits = split_facts(source_units(source), data)
    facts: dict[str, Any] = {
        "source": data.source,
        **counts(source),
        "profiles": len(profiles),
        "skipped": dict(source.skipped),
        "by_split": splits,
        "cache": str(folder) if folder else None,
        "cache_bytes": _bytes(folder) if folder else 0,
        "was_cached": not fresh,
        "seconds": {name: round(seconds, 2) for name, seconds in phases.seconds.items()},
        "peak_memory_bytes": host_peak_bytes(),
    }
    return Result(build_text(facts), facts)


def show(config: Config, examples: int = 5, seed: int = 0, as_json: bool = False) -> Result:
    """Counts a source, and renders examples of its rows."""
    phases = Phases()
    with phases(f"load {config.data.source}"):
        source = _load(config)
    with phases("count"):
        profiles = _profiles(source, config)
        count: Any = survey_facts if isinstance(source, Survey) else preference_facts
        facts = count(source, source_units(source), profiles, config.data)
    rows, note = list[Example](), ""
    if examples > 0:
        with phases("render examples"):
            tokenizer, note = try_tokenizer(config, config.run.cache_dir)
            draw: Any = survey_rows if isinstance(source, Survey) else conversation_rows
            rows = draw(source, profiles, tokenizer, config, examples, seed)
    facts |= {"model": config.model.source, "objective": config.objective.name, "tokenizer_problem": note}
    facts["examples"] = [row.as_json() for row in rows]
    return Result("" if as_json else show_text(facts, rows, note, wants_colour(sys.stdout.isatty())), facts)


def check(config: Config) -> Result:
    """Lists every problem of a user's survey; reads any other source whole and reports what it left out."""
    data = config.data
    facts: dict[str, Any] = {"source": data.source, "path": data.path}
    lines: list[str] = []
    if data.source == "csv":
        from cuma_jax.surveys.sources.own.survey import check_csv_survey
        from cuma_jax.tables.problems import format_problems

        if not data.path:
            raise CumaError("check what? give the survey's YAML file: python -m cuma_jax.data check FILE.yaml")
        if proposed := _propose_beside(data.path):
            data = dataclasses.replace(data, path=proposed)
            config = dataclasses.replace(config, data=data)
            facts["proposed"] = proposed
        problems = check_csv_survey(data.path, data.bad_rows)
        errors = sum(problem.severity == "error" for problem in problems)
        facts |= {"errors": errors, "warnings": len(problems) - errors}
        facts["problems"] = [dataclasses.asdict(problem) for problem in problems]
        if problems:
            lines.append(format_problems(problems))
        if errors:
            return Result("\n".join(lines), facts, failed=True)
    source = _load(config)
    facts |= {**counts(source), "skipped": dict(source.skipped)}
    found = ", ".join(f"{n:,} {unit}" for unit, n in counts(source).items())
    if source.skipped:
        lines += ["left out by the reader, each counted:", *(f"  {n:>12,}  {why}" for why, n in source.skipped.items())]
    lines.append(f"no {'error' if facts.get('warnings') else 'problem'} found: {found}")
    if data.source == "csv":
        lines[-1] += "; train with"
        where = "runs/mine" if Name().problem(source.name) else f"runs/{source.name}"
        line = ["python", "-m", "cuma_jax.train", "--config", OWN_SURVEY, "--data.path", data.path, "--run.dir", where]
        lines.append(f"  {shlex.join(line)}")
    return Result("\n".join(lines), facts)


def propose_files(file: str, folder: pathlib.Path | None, overwrite: bool = False, stdout: bool = False) -> Result:
    """Writes survey.yaml and questions.yaml for the table `file` into `folder` (None: beside it); says on stderr what
    they hold. With `stdout` the text is both as one YAML file, and nothing is written.
    """
    from cuma_jax.surveys.sources.own.proposal.propose import propose, write_proposal

    found = propose(file, folder) if stdout else write_proposal(file, folder, overwrite)
    path = str((folder or pathlib.Path(file).parent) / "survey.yaml")
    facts = {"file": file, "todos": found.todos, "notes": list(found.notes), "written": None if stdout else path}
    for note in found.notes:
        print(note, file=sys.stderr)
    if found.todos:
        print(f"{found.todos} lines say TODO: only a person can know", file=sys.stderr)
    if stdout:
        return Result(found.in_one().removesuffix("\n"), facts)
    print(f"written: {path} and questions.yaml", file=sys.stderr)
    return Result(f"python -m cuma_jax.data check {shlex.quote(path)}", facts)


def _propose_beside(path: str) -> str:
    """The survey.yaml that was proposed for a table that has none beside it; empty: there was nothing to propose."""
    from cuma_jax.tables.packed import given_path

    table = given_path(path)
    if not table.is_file() or table.suffix.lower() in (".yaml", ".yml") or (table.parent / "survey.yaml").exists():
        return ""
    return str(propose_files(path, None).facts["written"])


def export_tables(config: Config, out: pathlib.Path, form: str = "parquet", overwrite: bool = False) -> Result:
    """Writes plain tables to the folder `out`. Raises what `export` does."""
    phases = Phases()
    conversations = config.data.source in PREFERENCE_SOURCES
    if not conversations:  # before minutes of reading
        check_folder(out, file_names(form, conversations=False), overwrite)
    with phases(f"load {config.data.source}"):
        source = _load(config)
    with phases("write"):
        rows = export(source, config.data, out, form, overwrite)
    facts: dict[str, Any] = {"source": config.data.source, "out": str(out), "rows": rows}
    facts |= {"bytes": {name: (out / name).stat().st_size for name in rows}, "peak_memory_bytes": host_peak_bytes()}
    width = max(len(name) for name in rows)
    lines = [f"  {name:<{width}}  {n:>12,} rows  {_size((out / name).stat().st_size):>10}" for name, n in rows.items()]
    return Result("\n".join([f"{config.data.source} as tables in {out}", *lines]), facts)


def _load(config: Config) -> Survey | Preferences:
    return load_source(config.data, config.reads_choices, config.run.cache_dir, config.profile)


def _profiles(source: Survey | Preferences, config: Config) -> Profiles:
    return source_profiles(source, config.profile)


def counts(source: Survey | Preferences) -> dict[str, int]:
    """How much there is, by unit."""
    people = len(source.respondents)
    if isinstance(source, Survey):
        return {"respondents": people, "questions": len(source.questions), "answers": source.num_answers}
    return {"annotators": people, "conversations": len(source.conversations), "turns": len(source.turns)}


def build_text(facts: dict[str, Any]) -> str:
    """What `build` found, for people."""
    units = [u for u in ("respondents", "annotators", "conversations", "turns", "questions", "answers") if u in facts]
    rows = [(unit, f"{facts[unit]:,}") for unit in units] + [("profiles", f"{facts['profiles']:,} distinct")]
    rows += [("skipped", f"{sum(facts['skipped'].values()):,}")]
    rows += [("", f"{n:,}  {why}") for why, n in sorted(facts["skipped"].items(), key=lambda item: -item[1])[:12]]
    if len(facts["skipped"]) > 12:
        rows.append(("", f"and {len(facts['skipped']) - 12} other reasons (--json lists them)"))
    if "problem" in facts["by_split"]:
        rows.append(("splits", f"cannot be made: {facts['by_split']['problem']}"))
    for n, split in enumerate(facts["by_split"]["splits"]):
        name, *others = [f"{v:,} {k}" if k != "split" else f"{v}:" for k, v in split.items()]
        rows.append(("splits" if n == 0 else "", f"{name} {', '.join(others)}"))
    if facts["cache"]:
        rows.append(("cache", f"{facts['cache']} ({_size(facts['cache_bytes'])})"))
    rows.append(("seconds", ", ".join(f"{name} {seconds:.1f}" for name, seconds in facts["seconds"].items())))
    rows.append(("memory", f"{_size(facts['peak_memory_bytes'])} at most"))
    return "\n".join([f"{facts['source']} is ready", *(f"  {name:<13} {value}" for name, value in rows)])


def _bytes(folder: pathlib.Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _size(number: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} bytes"
