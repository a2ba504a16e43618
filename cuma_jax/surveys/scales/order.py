"""The order of answers that are a known scale: agreement, frequency, importance, satisfaction, trust, likelihood, ...

A table of texts does not say what their order is, and the alphabet's is wrong for nearly every scale. An order is told
only where every option has a place of its own on one scale; else there is none.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Sequence

from cuma_jax.surveys.scales import languages

# How strong a word makes what it stands beside. Words of one number are not compared: which is stronger is open.
_DEGREES = {
    8: "extremely,completely,totally,absolutely,strongly,definitely,certainly,fully,entirely,a great deal,"
       "always,much,"
       "a lot,very much,far,utterly,complete,full,all",
    7: "very,highly,greatly",
    5: "quite,mostly,largely,generally",
    4: "fairly,rather,pretty,probably,reasonably",
    3: "somewhat,moderately,tend to,partly,to some extent,mildly,some,average",
    2: "slightly,a little,a bit,hardly,barely,little,just a little",
    -2: "not very,not too,not so,not really,not particularly,not especially,not much,not very much,"
        "not that,tend not to",
    -4: "not",
    -8: "not at all,in no way,never,no",
}  # fmt: skip
_PLAIN = 5  # without such a word: "quite" may be above it or below
_HEADS = (
    ("agree", "disagree"), ("satisfied", "dissatisfied unsatisfied"), ("likely probable", "unlikely improbable"),
    ("happy", "unhappy"),
    ("important importance", "unimportant"), ("favorable favourable", "unfavorable unfavourable"),
    ("favor favour", "oppose"),
    ("support", "oppose"), ("approve", "disapprove"), ("good well", "bad badly poor"), ("better", "worse"),
    ("more", "less fewer"), ("higher", "lower"), ("increase increased", "decrease decreased"),
    ("safe secure", "unsafe insecure"),
    ("positive positively", "negative negatively"), ("easy", "difficult hard"), ("true", "false untrue"),
    ("comfortable", "uncomfortable"), ("fair", "unfair"), ("interested", "uninterested"),
    ("trust", "distrust mistrust"),
    ("confident confidence", ""), ("sure", "unsure"), ("concerned", ""), ("worried", ""), ("proud", ""),
    ("willing", "unwilling"), ("close", ""),
    ("religious", ""), ("justifiable justified", "unjustifiable unjustified"),
    ("useful helpful", "useless unhelpful"),
    ("serious", ""), ("often frequently", ""), ("democratic", "undemocratic"), ("strong", "weak"), ("familiar", ""),
    ("acceptable", "unacceptable"), ("necessary", "unnecessary"), ("clear", "unclear"), ("healthy", "unhealthy"),
    ("optimistic", "pessimistic"), ("liberal", "conservative"), ("right", "left"), ("effective", "ineffective"),
    ("pleased", "displeased"), ("true_of_me", ""), ("like_me", "unlike_me"), ("better_off", "worse_off"),
    ("much", ""), ("yes", "no"), ("", ""),
)  # fmt: skip
_NEUTRAL = re.compile(
    r"(neither\b.*|neutral|undecided|indifferent|in between|(about |stay(ed)? |remain(ed)? )*(the )?same( as now)?|"
    r"as now|no change|unchanged|no difference|maybe|perhaps|moderate|about right|just right|"
    r"(feel )?mixed( feelings)?|"
    r"middle|cent(er|re)|so-so)"
)
# Each from most to least; what one place holds means the same, or is not found together.
_SCALES = (
    "always|almost always|very often,very frequently|often,frequently,usually,most of the time,regularly|"
    "sometimes,occasionally,some of the time,now and then|rarely,seldom,not often|very rarely,almost never,"
    "hardly ever|"
    "never",
    "several times a day,more than once a day|daily,every day,once a day,each day|almost every day,nearly every day|"
    "several times a week,more than once a week,a few times a week|weekly,every week,once a week,"
    "at least once a week|"
    "several times a month,a few times a month,more than once a month|"
    "monthly,every month,once a month,at least once a month|"
    "less than monthly,less than once a month,several times a year,a few times a year,only on special holy days|"
    "yearly,every year,once a year,annually|less than yearly,less than once a year,less often|"
    "never practically never,never",
    "excellent|very good|good|fair,average,acceptable,satisfactory,ok,okay|poor,bad|very poor,very bad|terrible",
    "all,all of them,everything|almost all,nearly all|most,most of them|about half,half|some,some of them,several|"
    "a few,few,few of them|very few,almost none|none,none of them,nothing",
    "a great deal,a very great deal|a lot,quite a lot,much|a fair amount,a moderate amount|some,a certain amount|"
    "a little,not much,not very much,little|very little|none,none at all,not at all,nothing,nothing at all",
    "very high|high|medium,moderate,middle,average|low|very low",
    "very large|large|medium|small|very small",
    "yes|sometimes,in part,partly|no",
    "yes definitely,yes certainly,yes absolutely|yes,yes probably,yes somewhat,yes i think so|maybe,perhaps|"
    "no,no probably not,no not really,no i do not think so|no definitely not,no certainly not,no not at all",
    "definitely,certainly,definitely will,definitely yes,definitely would|"
    "probably,probably will,probably yes,probably would|"
    "maybe,might or might not|probably not,probably will not,probably no,probably would not|"
    "definitely not,certainly not,definitely will not,definitely no,definitely would not",
    "very much,extremely|quite a bit,quite a lot,a lot|somewhat,moderately|a little,a little bit,slightly|"
    "not much,not very much|not at all",
    "far too much,much too much|too much|about right,just right,the right amount|too little,not enough|"
    "far too little,much too little",
    "all the time|most of the time|some of the time|a little of the time|none of the time",
    "every day|most days|some days|rarely|never",
    "daily|several times a week,a few times a week|once a week|less than once a week|never",
    "constantly,always|frequently,often|occasionally,sometimes|rarely|never",
    "essential,absolutely essential,crucial,extremely important|very important|"
    "important,fairly important,quite important,rather important,moderately important,of average importance|"
    "somewhat important|slightly important|not very important,of little importance|"
    "not important,not important at all,not at all important,unimportant",
    "to a great extent,to a large extent,a great extent|to some extent,to a moderate extent,some extent|"
    "to a small extent,to a limited extent,small extent|not at all,to no extent",
    "yes a lot,yes very much,yes often,yes always|yes sometimes,yes somewhat|yes a little,yes once or twice|"
    "no,no not at all,no never",
    "far too many,much too many|too many|about right,about the right number,the right number|too few|"
    "far too few,much too few",
    "always wrong|almost always wrong|wrong only sometimes,sometimes wrong,only sometimes wrong|"
    "not wrong at all,never wrong",
    "a big problem,big problem,a very big problem|somewhat of a problem|a small problem,small problem|"
    "not a problem,no problem,not a problem at all",
    "allow many,allow many to come|allow some|allow a few|allow none",
    "severe|moderate|mild|none",
    "always|many times|several times,a few times|once or twice,just once or twice|never",
    "all of the time,always|most of the time,often|some of the time,sometimes|hardly ever,rarely|"
    "never,none of the time",
    "a lot|some,somewhat|a little,just a little|none,not at all,nothing",
)  # fmt: skip
# "Agree very strongly with the first": of two statements, A and B, and how strongly.
_SIDE = re.compile(r"(?:i )?(?:(.*) )?agrees?(?: (.*?))? with (?!neither|both|none)(.+)")
_SIDE_NONE = re.compile(r"(i )?(dis)?agree with (neither|both|none).*|(both|neither)( .*)?")
_LEVEL = {word: level for level, words in _DEGREES.items() for word in words.split(",")}
_DEGREE = "|".join(sorted(_LEVEL, key=len, reverse=True))
# With commas between thousands ("1,000", "12,500.75"), or one for decimals ("1,5", "0,125").
_THOUSANDS = r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?"
_NUMBER = re.compile(rf"[<>≤≥~$€£]*\s*([+-]?(?:{_THOUSANDS}|\d+(?:[.,]\d+)?))(?![\d.,]*\d)")
_BELOW = ("under", "less than", "fewer than", "below", "up to", "younger than")
_BOUND = re.compile(rf"({'|'.join(_BELOW)}|over|more than|above|older than) (?=[$€£]?\d)")
_AFTER = re.compile(r"^[+-]?\d+[.,\d]*[\s.:)-]*")
_WORDS = re.compile(r"(?!(and|or) (over|more|older|above|less|fewer|under|younger)\b)[^\d]*[^\W\d_]{3,}[^\d]*")
_UNIT = re.compile(r"second|minute|hour|day|week|month|year|thousand|million|billion|percent|%")
_MOST = 24
# Options beside a scale of numbers, which are no ends of it ("None at all" and "All of the time" are some).
_BESIDE = re.compile(
    r"((some|any)(thing|one|body)? |an)?(other|else)\b.*|(both|neither|either)\b.*|"
    r"(none|all)( of (them|these|those|(the )?above)\b.*)?|(it )?(depends|varies)\b.*|no opinion"
)
_NO_ANSWER = re.compile(
    r"dk\b|(i )?(do not|don.?t|can.?t|cannot|can not) (know|say|choose)\b"
    r"|(refused|refusal|no answer|no response|not asked|not applicable|missing|other missing|nan|na)\b"
    r"|(prefer not to|inappropriate response|not ascertained)\b"
    # Not "Decline in trade", nor "Refuse the treaty".
    r"|(refuse|decline[ds]?|prefer not)(?= to (answer|say|state|respond|choose)\b|\W*$|\s*[(/;,])",
    re.IGNORECASE,
)
_UNSURE = re.compile(r"(i( am|.?m)? )?(not sure|unsure)\b", re.IGNORECASE)
_SURE = re.compile(r"\bsure\b", re.IGNORECASE)


def is_no_answer(text: str, beside: Iterable[str] = ()) -> bool:
    """Whether an option means that no answer was recorded: "Don't know", "Not sure", "DK/Refused", "(Refused)".

    `beside` are the question's options: where some are sure ("Very sure"), "Not sure" is an end of their scale.
    """
    plain = text.strip(" (").replace("\u2019", "'")
    if _UNSURE.match(plain):
        return not any(_SURE.search(other) and not _UNSURE.match(other.strip(" (")) for other in beside)
    return _NO_ANSWER.match(plain) is not None


def scale_order(texts: Sequence[str]) -> tuple[str, ...] | None:
    """The texts in the order of a scale that they are known to be, or None.

    >>> scale_order(["Agree", "Disagree", "Strongly agree", "Neither agree nor disagree", "Strongly disagree"])
    ('Strongly agree', 'Agree', 'Neither agree nor disagree', 'Disagree', 'Strongly disagree')
    """
    return _order(tuple(texts))


@functools.lru_cache(4096)
def _order(texts: tuple[str, ...]) -> tuple[str, ...] | None:
    plain = [_plain(text) for text in texts]
    if not 2 <= len(texts) <= _MOST or len(set(plain)) < len(plain):
        return None
    known = (_numbers(plain), _sides(plain), *(_places(plain, scale) for scale in _SCALES))
    for places in itertools.chain(known, _intensities(plain), languages.places(texts)):
        if places is not None and len(set(places)) == len(places):
            return tuple(text for _, text in sorted(zip(places, texts, strict=True)))
    return None


def is_middle(text: str) -> bool:
    """Whether an option is on neither side of a scale: "Neither agree nor disagree", "Agree with neither"."""
    plain = _plain(text)
    return any(p.fullmatch(plain) for p in (_NEUTRAL, _SIDE_NONE)) or languages.is_middle(text)


def _plain(text: str) -> str:
    text = re.sub(r"[\u2019\u2018]", "'", text.casefold())
    text = re.sub(r"\b(don't|do not|does not|doesn't|am not|is not|isn't|are not|would not) ?", "not ", text)
    return " ".join(re.sub(r"[^\w\s$€£<>≤≥+.,'-]|(?<!\d)[.,]|(?<=[^\d\s])-|[.,-](?!\d)", " ", text).split())


def _numbers(texts: Sequence[str]) -> list[float] | None:
    """Places of texts that begin with a number each: "0 - not at all", "1", "18-29", "65 and over"."""
    if len({unit for text in texts for unit in _UNIT.findall(text)}) > 1:  # "2 weeks", "1 year"
        return None
    found = [(_NUMBER.match(_BOUND.sub("", text)), _BOUND.match(text)) for text in texts]
    if not all(number for number, _ in found):
        return None
    # "1. Red", "2. Blue": what is counted there is no amount, unless the words are a scale themselves.
    words = [_AFTER.sub("", text) for text in texts]
    if len({word for word in words if _WORDS.fullmatch(word) and not _UNIT.search(word)}) > 2:
        return (
            None if _order(tuple(words)) is None else [_value(number[1]) for number, _ in found if number is not None]
        )
    # "Under 18" is below "18-29", and "more than 50" above "20-50".
    beside = {True: -0.5, False: 0.5}
    return [
        _value(number[1]) + (beside[bound[1] in _BELOW] if bound else 0)
        for number, bound in found
        if number is not None
    ]


def _value(number: str) -> float:
    return float(number.replace(",", "" if re.fullmatch(rf"[+-]?{_THOUSANDS}", number) else "."))


def _places(texts: Sequence[str], scale: str) -> list[float] | None:
    place = {word: n for n, words in enumerate(scale.split("|")) for word in words.split(",")}
    # "A great deal of confidence", "none of them".
    short = [text if text in place else re.sub(r"^no \w+( at all)?$", "none", text) for text in texts]
    short = [text if text in place else re.sub(r"( of| in) .*| \w+$", "", text) for text in short]
    return [place[text] for text in short] if all(text in place for text in short) else None


def _sides(texts: Sequence[str]) -> list[float] | None:
    """Places of how strongly one agrees with the first of two statements, or with the second."""
    found = [_SIDE.fullmatch(text) for text in texts]
    sides = sorted({match[3] for match in found if match})
    if len(sides) != 2 or not all(
        match or _SIDE_NONE.fullmatch(text) for match, text in zip(found, texts, strict=True)
    ):
        return None
    places: list[float] = []
    for match in found:
        degree = "" if match is None else (match[1] or match[2] or "").strip()
        level = (
            _PLAIN if not degree else _LEVEL.get(degree.removeprefix("very ") if degree not in _LEVEL else degree, 0)
        )
        if match is not None and not level:
            return None
        places.append(0 if match is None else level * (-1 if match[3] == sides[0] else 1))
    return places


def _intensities(texts: Sequence[str]) -> list[list[float]]:
    """Places by a word that all have, or its opposite, and how strong another makes it; of every word that fits."""
    found = []
    for heads in _HEADS:
        ups, downs = ([word.replace("_", " ") for word in head.split()] for head in heads)
        places = [_intensity(text, ups, downs) for text in texts]
        known = [place for place in places if place is not None]
        # Two that are neutral tell of no scale.
        if len(known) == len(places) and any(known):
            found.append([-place for place in known])
    return found


def _intensity(text: str, ups: Sequence[str], downs: Sequence[str]) -> float | None:
    if _NEUTRAL.fullmatch(text):
        return 0
    for sign, words in ((1, ups), (-1, downs)):
        for head in words or ([""] if sign == 1 else []):
            rest = re.sub(rf"(^|(?<= )){re.escape(head)}( |$)", "", text, count=1).strip() if head else text
            if head and rest == text:
                continue
            # "Not trust at all", "not very much", "would agree", "too much".
            if rest in _LEVEL:
                return sign * _LEVEL[rest]
            rest = re.sub(r"^(i|we|it|he|she|would|have|has|will|am|is|feel|got|gotten|become|a|the|of) ", "", rest)
            rest = re.sub(r"^not (.*)\bat all$", r"not at all", rest) if rest.startswith("not") else rest
            if not rest and head:
                return sign * _PLAIN
            if rest in _LEVEL:
                return sign * _LEVEL[rest]
    return None


def _beside(word: str) -> bool:
    return is_no_answer(word) or _BESIDE.fullmatch(_plain(word)) is not None


def scale_with_ends(texts: Sequence[str]) -> tuple[str, ...] | None:
    """A scale of numbers whose ends are words ("Never justifiable", "2", ..., "9", "Always justifiable"), in order.

    None where it is not one (a word such as "Other", "Both" or "Don't know" is beside it, and no end of it), or where
    which of its ends is the low one is not known.
    """
    numbers = sorted((int(t), t) for t in texts if re.fullmatch(r"\d{1,3}", t))
    words = [t for t in texts if not re.fullmatch(r"\d{1,3}", t)]
    rising = all(b[0] - a[0] == 1 for a, b in itertools.pairwise(numbers))
    if len(numbers) < 2 or not rising or not 1 <= len(words) <= 2:
        return None
    order = scale_order(words)
    if order is None and any(_beside(word) for word in words):
        return None
    middle = [text for _, text in numbers]
    listed = [t for t in texts if t not in words]
    at_ends = [texts.index(word) in (0, len(texts) - 1) for word in words]
    if listed in (middle, middle[::-1]) and all(at_ends):  # listed as the scale is
        return tuple(texts)
    # Of agreement, either end is found to be the low one.
    if order and not any("agree" in word.casefold() for word in words):
        return (order[1], *middle, order[0])
    return None
