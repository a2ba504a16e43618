"""The lines of questions.yaml for one question, with the reason for what they say."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence

from cuma_jax.surveys.prompts import LETTERS
from cuma_jax.surveys.scales import is_middle, scale_order, scale_with_ends
from cuma_jax.surveys.sources.own.proposal.blocks import Block
from cuma_jax.surveys.sources.own.proposal.columns import ColumnFacts, are_whole, plain, sort_codes

MOST_CODES = 11
"""Options of a column without labels; with more, it is a number or a text."""

_TODO = "TODO"
_OTHER = re.compile(
    r"(some|any)?(thing|one|body)? ?(other|else)\b.*|other .*|none of (these|them|the above).*|sonstige\w*|andere\w*|"
    r"anderes|autres?\b.*|otr[oa]s?\b.*|outr[oa]s?\b.*|altr[oi]\b.*"
)


def why_no_question(column: ColumnFacts) -> str:
    """Why a column is no question; empty: it is one."""
    codes = column.codes
    labelled = [code for code in codes if code in column.labels]
    if not column.used:
        return "nobody has an answer"
    if not labelled:
        if column.are_numbers and column.labels:
            return "numbers, of which none has a label that is an answer: to ask it, give it `bins:`"
        if column.are_numbers and len(codes) > MOST_CODES:
            return f"{len(codes)} different numbers without labels: to ask it, give it `bins:`"
        if len(codes) > MOST_CODES:
            return f"open text, or {len(codes)} different values without labels"
        if not column.are_numbers and 5 < len(codes) == column.used and scale_order(codes) is None:
            return "a text of its own in every row"
    elif len(codes) > 3 * MOST_CODES and column.are_numbers and len(labelled) < len(codes) / 2:
        return f"{len(codes)} different numbers, most without a label: to ask it, give it `bins:`"
    if len(codes) < 2:
        return "one answer only" if codes else "nobody has an answer"
    if len(codes) > len(LETTERS):
        return f"{len(codes)} options, more than {len(LETTERS)}"
    return ""


def question_lines(column: ColumnFacts, common: Sequence[str] = ()) -> list[str]:
    """A question's lines: wording, options in the order of the scale, what is no answer.

    `common`: what means no answer in every column, and is told once.
    """
    lines = [f"{quoted(column.id)}:", f"  text: {_text(column.label) if column.label else quoted('TODO: the wording')}"]
    lines += [f"  column: {quoted(column.name)}"] if column.id != column.name else []
    codes, reason, ordered, gaps = _order(column)
    lines += [f"  ordered: {ordered}"] if ordered else []
    lines += ["  gaps: true"] if gaps else []
    lines += _missing({code: why for code, why in column.no_answer.items() if code not in common})
    lines.append(f"  options:{f'  # {reason}' if reason else ''}")
    return lines + [f"    {quoted(code)}: {text}" for code, text in _texts(column, codes)]


def _missing(codes: Mapping[str, str]) -> list[str]:
    """The line of what is no answer, each code with its text."""
    said = ", ".join(dict.fromkeys(codes.values()))
    return [f"  missing: {as_list(list(codes))}  # {one_line(said)}"] if codes else []


def block_lines(block: Block, common: Sequence[str] = ()) -> list[str]:
    """The lines of a question with several answers."""
    lines = [f"{quoted(block.id)}:", f"  text: {_text(block.text) if block.text else quoted('TODO: the wording')}"]
    lines.append(f"  multiple: true  # {block.reason}: one yes/no question an option")
    lines += _missing({code: why for code, why in block.missing.items() if code not in common})
    lines.append("  columns:")
    todo = quoted("TODO: the option's text")
    return lines + [f"    {quoted(name)}: {_text(text) if text else todo}" for name, text in block.options.items()]


def _order(column: ColumnFacts) -> tuple[list[str], str, str, bool]:
    """(codes in order, the reason, `ordered:` where it must be said, whether the codes have gaps)."""
    codes = _filled(column)
    texts = [column.labels.get(code, code) for code in codes]
    by_code = any(code in column.labels for code in codes)
    numbers = are_whole(codes)
    if not by_code and numbers:
        return codes, "in the order of the scale", "", _gaps(codes)
    known = scale_order(texts) or scale_with_ends(texts)
    if known is None:
        if not by_code:
            return codes, "", f"{_TODO}  # true, with the options below in the order of the scale; or false", False
        if any(re.fullmatch(_OTHER, plain(text)) for text in texts):
            return codes, "", "false  # an option such as 'other' or 'none of these' has no place on a scale", False
        return codes, "in the order of their codes; no scale that is known", "", numbers and _gaps(codes)
    if not by_code:
        listed = [codes[texts.index(text)] for text in known]
        return listed, "taken for a known scale: is this its order?", "", False
    if list(known) in (texts, texts[::-1]):
        return codes, "", "", numbers and _gaps(codes)
    middle = [text for text in texts if is_middle(text)]
    outer = [text for text in texts if text not in middle]
    order = [text for text in known if text not in middle]
    if outer in (order, order[::-1]):
        listed = [codes[texts.index(text)] for text in (known if outer == order else known[::-1])]
        return listed, f"{', '.join(map(repr, middle))} in the middle of the scale", "", numbers and _gaps(listed)
    return (
        codes,
        "",
        f"{_TODO}  # the codes tell another order than the texts: which is it? true or false",
        _gaps(codes),
    )


def _filled(column: ColumnFacts) -> list[str]:
    """The codes, with those that nobody chose where the scale has a number for each."""
    codes = column.codes
    labelled = [code for code in codes if code in column.labels]
    if not are_whole(codes) or len(labelled) == len(codes):
        return codes
    numbers = sorted(int(code) for code in codes)
    span = range(numbers[0], numbers[-1] + 1) if numbers else range(0)
    # Of codes without a label, one far from the others is not of the scale.
    if len(span) <= MOST_CODES and (not labelled or _has_ends(column, numbers)):
        return [str(number) for number in span]
    return sort_codes(codes)


def _has_ends(column: ColumnFacts, numbers: Sequence[int]) -> bool:
    """Whether the labels stand at the ends (and the middle) of a scale of numbers, which need none themselves."""
    return str(numbers[0]) in column.labels and str(numbers[-1]) in column.labels


def _texts(column: ColumnFacts, codes: Sequence[str]) -> list[tuple[str, str]]:
    """(code, text) as YAML; what only a person can know is a TODO."""
    labels, found = column.labels, []
    ends = are_whole(codes) and bool(codes) and codes[0] in labels and codes[-1] in labels
    twice = {text for text in labels.values() if list(labels[c] for c in codes if c in labels).count(text) > 1}
    for code in codes:
        text = labels.get(code, "")
        if text in twice and text:
            found.append((code, quoted(f"TODO: several codes are {text!r}: what is {code}?")))
        elif text:
            found.append((code, _text(text)))
        elif not labels and not column.are_numbers:
            found.append((code, quoted(code)))
        elif ends and _has_ends(column, [int(code) for code in codes]):
            found.append((code, quoted(code)))  # a number between two ends that have words
        else:
            rows = f" ({column.counts[code]:,} answers)" if code in column.counts else ""
            found.append(
                (code, quoted(f"TODO: what {code} means{rows}, or list it under missing") if labels else _TODO)
            )
    return found


def _gaps(codes: Sequence[str]) -> bool:
    if not are_whole(codes):
        return False
    steps = {int(b) - int(a) for a, b in itertools.pairwise(codes)}
    return steps not in ({1}, {-1})


def as_list(codes: Sequence[str]) -> str:
    """A YAML list of texts."""
    return json.dumps(list(codes), ensure_ascii=False)


def one_line(text: str) -> str:
    """A comment that ends where the line does."""
    text = " ".join(text.split())
    return text if len(text) <= 200 else f"{text[:197]}..."


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def quoted(text: str) -> str:
    """A YAML scalar: plain where that is safe, else in double quotes."""
    return text if re.fullmatch(r"[A-Za-z_]\w*( \w+)*|\d+", text, re.ASCII) else json.dumps(text, ensure_ascii=False)
