"""`python -m cuma_jax.data show`: the facts of a source as text of 100 columns, and examples with the loss marked."""

import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cuma_jax.commands.data.examples import Example
from cuma_jax.commands.data.facts import Facts
from cuma_jax.runtime.text_table import aligned

WIDTH = 100
TOP = 20
"""Countries listed by name."""
MOST_QUESTIONS = 300
"""Questions listed; --json has all."""
DETAILED = 12
"""Up to so many questions, every option has a line of its own."""

_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR = 24
_OPEN, _CLOSE = "\ue000", "\ue001"
"""Stand for the start and end of a supervised stretch until the lines are broken; private characters, in no text."""
_COLOUR = ("\x1b[1;30;102m", "\x1b[0m")
_PLAIN = ("⟦", "⟧")


def show_text(facts: Facts, examples: Sequence[Example], note: str, colour: bool) -> str:
    """The whole page; `note`: why the examples have no chat template; `colour`: mark by colour, else by ⟦ and ⟧."""
    lines = [*_head(facts), *_skipped(facts), *_countries(facts["by_country"]), *_splits(facts["by_split"])]
    lines += [*_fields(facts), *_weights(facts["weights"])]
    lines += _questions(facts) if facts["kind"] == "survey" else _conversations(facts)
    lines += _examples(examples, note, colour)
    return "\n".join(line.rstrip() for line in lines)


def wants_colour(is_terminal: bool) -> bool:
    """Whether to print colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    return is_terminal and not os.environ.get("NO_COLOR")


def bar(share: float, width: int = _BAR) -> str:
    """A horizontal bar; a share that is not zero is at least a thin one."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def sparkline(shares: Iterable[float]) -> str:
    """One block a share, relative to the largest; a share of zero is a dot."""
    shares = list(shares)
    top = max(shares, default=0.0) or 1.0
    return "".join("·" if s == 0 else _BLOCKS[min(int(s / top * len(_BLOCKS)), len(_BLOCKS) - 1)] for s in shares)


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Rows of cells as aligned lines, indented under the first, a heading; the columns in `left` lean left."""
    head, *others = rows
    right = [c for c in range(len(head)) if c not in left]
    return aligned([head, *((f"  {row[0]}", *row[1:]) for row in others)], right)


def _head(facts: Facts) -> list[str]:
    units: tuple[str, ...] = ("respondents", "questions", "answers")
    if facts["kind"] == "conversations":
        units = ("annotators", "conversations", "turns", "prompts")
    return [f"{facts['source']}: " + ", ".join(f"{facts[unit]:,} {unit}" for unit in units)]


def _skipped(facts: Facts) -> list[str]:
    if not facts["skipped"]:
        return ["", "Skipped: nothing"]
    rows = sorted(facts["skipped"].items(), key=lambda item: -item[1])
    shown = [f"  {n:>12,}  {_cut(reason, 82)}" for reason, n in rows[:TOP]]
    if rest := rows[TOP:]:
        shown.append(f"  {sum(n for _, n in rest):>12,}  {len(rest)} other reasons (--json lists them)")
    return ["", f"Skipped by the reader, of the whole source: {sum(n for _, n in rows):,}", *shown]


def _countries(facts: Facts) -> list[str]:
    field, values = facts["field"], facts["values"]
    if not values:
        return ["", f"By {field}: nobody has a value of the field {field!r} (--held_out_field names another)"]
    units = [key for key in values[0] if key != "value"]
    rest = values[TOP:]
    listed = [(row["value"], row) for row in values[:TOP]]
    if rest:
        listed.append((f"({len(rest)} others)", {unit: sum(row[unit] for row in rest) for unit in units}))
    if facts["missing"]:
        listed.append(("(missing)", facts["missing"]))
    return _shares(f"By {field} ({len(values)})", listed, units, units[-1])


def _splits(facts: Facts) -> list[str]:
    if "problem" in facts:
        return ["", *textwrap.wrap(f"By split: it cannot be made. {facts['problem']}", WIDTH)]
    splits = facts["splits"]
    if not splits:
        return []
    units = [key for key in splits[0] if key != "split"]
    return _shares("By split", [(row["split"], row) for row in splits], units, units[0])


def _shares(title: str, listed: list[tuple[str, Facts]], units: list[str], of: str) -> list[str]:
    """A row for each of `listed`: its counts, and its share of all in the unit `of`."""
    total = max(sum(row[of] for _, row in listed), 1)
    rows = [[title, *units, "share", ""]]
    for name, row in listed:
        share = row[of] / total
        rows.append([_cut(name, 40), *(f"{row[unit]:,}" for unit in units), f"{share:.1%}", bar(share)])
    return ["", *table(rows, left=(0, len(units) + 2))]


def _fields(facts: Facts) -> list[str]:
    rows = [["Field", "values", "missing", "most frequent", "", "in profile"]]
    empty = [field["field"] for field in facts["profile_fields"] if not field["values"]]
    for field in facts["profile_fields"]:
        if field["field"] in empty:
            continue
        top, share = field["most_frequent"], field["most_frequent_share"]
        name, uses = _cut(field["field"], 30), "yes" if field["in_profile"] else "no"
        rows.append(
            [name, f"{field['values']:,}", f"{field['missing_share']:.1%}", _cut(top, 30), f"{share:.0%}", uses]
        )
    lines = ["", *table(rows, left=(0, 3, 5))]
    if empty:
        lines += textwrap.wrap(f"  missing for everybody: {', '.join(empty)}", WIDTH, subsequent_indent="  ")
    return [*lines, f"  {facts['profiles']:,} distinct profiles"]


def _weights(facts: Facts) -> list[str]:
    if "min" not in facts:
        return []
    if facts["all_equal"]:
        line = f"all {facts['mean']:g}"
    else:
        line = (
            f"{facts['min']:.3g} to {facts['max']:.3g}, mean {facts['mean']:.3g}; Kish's effective n "
            f"{facts['effective_n']:,.0f} ({facts['effective_share']:.0%})"
        )
    for name, label in (("stratum", "strata"), ("psu", "sampling units")):
        if facts.get(name):
            line += f"; {facts[name]:,} {label}"
    return ["", f"Weights: {line}"]


def _questions(facts: Facts) -> list[str]:
    questions = facts["by_question"]
    lines = [""]
    if len(questions) <= DETAILED:
        lines.append("Questions" if facts["weights"].get("all_equal", True) else "Questions; shares are weighted")
        for question in questions:
            lines += _question_detail(question)
    else:
        rows = [["Question", "answers", "missing", "options", "most chosen", "balance", "text"]]
        for question in questions[:MOST_QUESTIONS]:
            shares = [option["share"] for option in question["options"]]
            rows.append(
                [
                    _cut(question["id"], 28),
                    f"{question['answers']:,}",
                    f"{question['missing_share']:.0%}",
                    f"{len(shares)}" + ("" if question["ordered"] else "*"),
                    f"{max(shares):.0%}",
                    _cut(sparkline(shares), 11),
                    question["text"].replace("\n", " "),
                ]
            )
        lines += [_cut(line, WIDTH) for line in table(rows, (0, 5, 6))]
        if len(questions) > MOST_QUESTIONS:
            lines.append(f"  and {len(questions) - MOST_QUESTIONS:,} more (--json lists them)")
        if not facts["weights"].get("all_equal", True):
            lines.append("  Most chosen and balance are weighted.")
        lines.append("  * options in no order. --questions ID prints every option of a question")
    for ids in facts["duplicates"]["question_texts"][:TOP]:
        lines.append(_cut(f"  the same text: {', '.join(ids)}", WIDTH))
    for name in facts["duplicates"]["option_texts"][:TOP]:
        lines.append(f"  an option listed twice: {name}")
    return lines


def _question_detail(question: dict[str, Any]) -> list[str]:
    scale = "" if question["ordered"] else ", in no order"
    head = f"  {question['id']}: {question['answers']:,} answers, {question['missing_share']:.0%} missing{scale}"
    lines = ["", head, *textwrap.wrap(question["text"], WIDTH - 4, initial_indent="    ", subsequent_indent="    ")]
    code = max(len(option["code"]) for option in question["options"])
    width = min(max(len(option["text"]) for option in question["options"]), max(WIDTH - 28 - _BAR - code, 20))
    for option in question["options"]:
        share, text = option["share"], _cut(option["text"], width).ljust(width)
        lines.append(f"    {option['code']:>{code}}  {text}  {option['answers']:>10,}  {share:6.1%}  {bar(share)}")
    return lines


def _conversations(facts: Facts) -> list[str]:
    lines = ["", "Turns of a conversation: " + _counts(facts["turns_per_conversation"])]
    lines.append("Candidates of a turn: " + _counts(facts["candidates_per_turn"]))
    for group in facts["chosen_position"]["by_candidates"]:
        total = max(sum(group["chosen"]), 1)
        shares = ", ".join(f"{chr(ord('a') + i)} {n / total:.1%}" for i, n in enumerate(group["chosen"]))
        lines.append(f"Chosen of {group['candidates']}: {shares} ({total:,} turns)")
    if none := facts["chosen_position"]["none_chosen"]:
        lines.append(f"Nothing chosen in {none:,} turns")
    shared = facts["shared_prompts"]
    lines.append(
        f"Opening prompts of several annotators: {shared['prompts']:,}, in {shared['conversations']:,} conversations "
        f"(at most {shared['most_annotators']:,} annotators)"
    )
    pairs = facts["pairs"]
    lines.append(f"Preference pairs: {pairs['pairs']:,}, {pairs['with_margin']:,} with a margin of scores")
    lines += [f"  left out: {n:,} {reason}" for reason, n in pairs["skipped"].items()]
    if margin := pairs.get("margin"):
        lines.append("  margin: " + ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in margin.items()))
    for column in facts["columns"]:
        values = [f"{row['value'] or '(missing)'} {row['conversations']:,}" for row in column["values"][:TOP]]
        text = f"By {column['column']} ({len(column['values'])}): " + ", ".join(values)
        lines += textwrap.wrap(text, WIDTH, subsequent_indent="  ")
    return lines


def _counts(histogram: list[Facts]) -> str:
    return ", ".join(f"{row['value']}: {row['count']:,}" for row in histogram)


def _examples(examples: Sequence[Example], note: str, colour: bool) -> list[str]:
    if not examples:
        return []
    marks = "in colour" if colour else "in ⟦ ⟧"
    lines = ["", f"Examples, as the model sees them; the loss is taken on the tokens {marks}"]
    if note:
        lines += textwrap.wrap(f"Without chat template and token counts: {note}", WIDTH)
    for n, example in enumerate(examples, 1):
        size = "" if example.tokens is None else f"; {example.tokens:,} tokens, {example.supervised:,} supervised"
        lines += ["", *textwrap.wrap(f"{n}. {example.title}{size}", WIDTH, subsequent_indent="   ")]
        lines += textwrap.wrap(example.profile, WIDTH, initial_indent="   who: ", subsequent_indent="        ")
        if example.note:
            lines += textwrap.wrap(example.note, WIDTH, initial_indent="   note: ", subsequent_indent="         ")
        lines += marked_lines(example, colour)
    return lines


def marked_lines(example: Example, colour: bool) -> list[str]:
    """The row of an example, broken at 100 columns: `│` begins a line of it, `┊` one that goes on."""
    text = "".join(f"{_OPEN}{_safe(t)}{_CLOSE}" if marked else _safe(t) for t, marked in example.segments)
    lines = [
        f"   {'┊' if n else '│'} {piece}"
        for line in text.removesuffix("\n").split("\n")
        for n, piece in enumerate(_pieces(line, WIDTH - 5))
    ]
    return list(_coloured(lines, *(_COLOUR if colour else _PLAIN), colour))


def _pieces(line: str, width: int) -> list[str]:
    """A line in parts of at most `width` characters, after a space where there is one; joined they are the line."""
    pieces = []
    while len(line) > width:
        cut = line.rfind(" ", width // 2, width) + 1 or width
        pieces.append(line[:cut])
        line = line[cut:]
    return [*pieces, line]


def _coloured(lines: Iterable[str], start: str, end: str, colour: bool) -> Iterator[str]:
    """Marks become brackets, or colour that is switched off at the end of a line and on again in the next."""
    inside = False
    for line in lines:
        if colour and inside:
            line = f"{line[:5]}{_OPEN}{line[5:]}"
        inside = line.rfind(_OPEN) > line.rfind(_CLOSE) or (inside and not colour and _CLOSE not in line)
        if colour and inside:
            line += _CLOSE
        yield line.replace(_OPEN, start).replace(_CLOSE, end)


def _safe(text: str) -> str:
    """Without characters that would move the cursor or colour the terminal."""
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ue000\ue001]", "\ufffd", text)


def _cut(text: str, width: int) -> str:
    text = _safe(text)
    return text if len(text) <= width else text[: width - 1] + "…"
