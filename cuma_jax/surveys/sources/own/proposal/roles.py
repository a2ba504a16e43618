"""Which columns are not questions: the respondent's id, weights, sampling units, the profile, and what nobody answered.

Columns are known by name and by label, in the usual words of six languages; what a name says must fit what is in the
column.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence

from cuma_jax.surveys.sources.own.proposal.columns import ColumnFacts, plain

MOST_GROUPS = 60
"""Different values of a profile field: from more, little is learned of each."""

_DESIGN = {
    "respondent": (
        r"(respondent|resp|response|person|participant|subject|user|case|interview|record|unique|serial|u|d|r|p)? ?"
        r"(id|idno|no|nr|number|num|code|key|identifier)|respno|caseid|idno|respid|uid|respondent|d interview|s007|"
        r"befragten? ?(id|nr|nummer)|lfdn|identifiant|num(ero)? (de )?(questionnaire|entrevista)|folio|cuestionario",
        r"(unique )?(respondents?|case|interview|response|person) ?(s )?(id|number|identification|identifier|no).*|"
        r"(respondents?|interview) (identification )?number|identifikationsnummer.*|response id",
    ),
    "weight": (
        r"(within|post ?strat\w*|ps|survey|analysis|final|pers|w|p|country)? ?(weight|weights|wt|wgt|wght|"
        r"weighting)|w|"
        r"pspwght|dweight|anweight|pweight|s017|s018|wtss\w*|weightvec|gewicht\w*|poids|ponderacion|ponderador|"
        r"pondera|"
        r"peso|fator( de)? ponderacao|ponderation|withinwt|wtssps|weight \w+",
        r".*\b(weight|weighting|gewicht|gewichtung|ponderation|ponderacion|ponderador|ponderacao|peso)\b.*",
    ),
    "stratum": (
        r"strat(um|a|e|ification)?|v?stratum|vstrat|estrato|schicht|strate|strato",
        r"(sampling |design |variance )?(stratum|strata|stratification( variable)?|estrato|schicht|strate|strato)",
    ),
    "psu": (
        r"(i |v|cluster )?psu|vpsu|cluster|sampling ?point|sample ?point|primary sampling unit|upm|conglomerado|"
        r"unite primaire|klumpen",
        r"(primary sampling unit|psu|sampling (point|unit)|cluster)( (id|number|code|no|identifier))?",
    ),
}
# Field: (names, labels, words that a label has whose name alone might mean something else).
_FIELDS = {
    "country": (
        r"(b |c )?(country|cntry|ctry|land|pays|pais|paese|nation|staat)( (name|code|alpha|t|id|label|iso\d?|"
        r"\d))?|s003|"
        r"countryname|iso3?|country of residence",
        r"country( (name|code|of (residence|interview|survey)))?( (code )?iso.*)?|land|pays|pais|paese|"
        r"(in )?(which|what) country (do|are) you (live|living|based)( in)?( now)?",
        r"country|land|pays|pais|paese|nation",
    ),
    "year": (
        r"(survey |interview )?(year|jahr|annee|ano|anno)( of (survey|interview))?|inwyr|s020",
        r"(survey |interview )?year( of (the )?(survey|interview))?", r"year|jahr|annee|ano|anno",
    ),
    "wave": (
        r"wave|welle|vague|ola|onda|ondata|round|essround|s002\w*", r"(survey )?(wave|round)( number)?|welle",
        r"wave|round|welle",
    ),
    "region": (
        r"region|regio|province|provincia|departement|departamento|bundesland|estado|state|regione|provinz|nuts ?\d?|"
        r"comunidad( autonoma)?|region (code|name|t|\d)|x048\w*",
        r"(your )?(province|region|state|bundesland|departement|provincia|regione|estado|county)"
        r"( or (region|province|state))?( of residence)?|(which|what) (region|state|province) do you live in",
        r"region|province|provincia|state|bundesland|departement|estado|provinz|county|nuts",
    ),
    "settlement": (
        r"urban|rural|urb ?rur|urban ?rural|rural ?urban|domicil\w*|settlement( (type|size))?|town ?size|"
        r"habitat|ambito|"
        r"x049\w*|g townsize|area type|gemeindegrosse|ortsgrosse|size of town",
        r"(urban|rural) (or|and|vs|versus)? ?(rural|urban).*|settlement (type|size).*|size of (town|place|"
        r"community|locality|"
        r"settlement).*|type of (area|community|settlement|locality)|domicile.*|"
        r"(which )?(phrase )?(best )?describes? the "
        r"area where you live|gemeindegrosse.*|ortsgrosse.*|habitat|urbano.*rural.*|urbain.*rural.*",
        r"urban|rural|settlement|domicile|size|area|town|habitat|gemeinde|community",
    ),
    "sex": (
        r"sex|gender|gndr|geschlecht|sexe|sexo|sesso|genero|genre|genere|female|male|q?\d* ?(sex|gender)|x001",
        r"(what is )?(your |the )?(respondents?( s)? |r s |rs )?(sex|gender|geschlecht|sexe|sexo|sesso|genero|genre|"
        r"genere)"
        r"( of (the )?(respondent|person|r))?( male female)?|are you (a )?(male|man|female|woman).*|"
        r"(ihr |votre |su |seu |was ist ihr |sind sie )?(geschlecht|sexe|sexo|sesso|genero|mannlich.*)",
        r"sex|gender|geschlecht|sexe|sexo|sesso|genero|genre|male|female",
    ),
    "age": (
        r"age|agea|alter|edad|idade|eta|age ?(group|grp|cat|categories|rec|recoded|t|\d|in years|years|r)|"
        r"altersgruppe|"
        r"age of respondent|x003\w*|grupo de edad|groupe d? ?age|tranche d? ?age|faixa etaria|classe d? ?eta|rage",
        r"(what is )?(your |the )?(exact )?(respondents?( s)? |r s |rs )?(current )?(age|alter|edad|idade|"
        r"eta)( group| category)?"
        r"( of (the )?respondent)?( in years| calculated| recoded| grouped| in groups| exact| \d+ (intervals|"
        r"groups|categories))*|how old are you.*|"
        r"(wie alt sind sie|quel est votre age|quel age avez vous|que edad tiene|cual es su edad|qual a sua idade|"
        r"quanti anni ha|qual e a sua idade)",
        r"age|old|alter|edad|idade|eta|anni|years",
    ),
    "education": (
        r"education|educ|edu|eisced|edulvl\w?|degree|bildung|schulabschluss|diplome|escolaridad|estudios|educacion|"
        r"educacao|escolaridade|istruzione|titolo di studio|niveau d?e? ?(etudes?|instruction)|edu(cation)? "
        r"(level|t|\w?\d|group|cat)|x025\w*|educ\w{0,4}|hisced",
        r"(what is )?(the |your )?(highest )?(level of )?(education(al)?|schooling|bildung\w*|schulabschluss|"
        r"educacion|"
        r"escolaridad|educacao|escolaridade|istruzione)( level| attainment| completed| attained| achieved)*"
        r"( of (the )?respondent)?( recoded| es isced)*|highest level of (education|schooling).*|"
        r"highest educational level.*|"
        r"(respondents?( s)? |r s |rs )?highest (degree|qualification)|(hochster|niveau|nivel|"
        r"titolo) .*(abschluss|etudes?|"
        r"instruction|"
        r"diplome|estudios|educacion|escolaridad\w?|studio|ensino).*",
        r"educ\w*|degree|bildung|schul\w*|school\w*|diplom\w*|etude\w*|estudio\w*|escolaridad\w?|istruzione|titolo|"
        r"qualification",
    ),
    "employment": (
        r"employment|employ|emplstat|occupation|wrkstat|mnactic|erwerb\w*|emploi|ocupacion|ocupacao|occupazione|"
        r"x028\w*|"
        r"(employment|work|job|labou?r) ?(status|force|situation)|situation professionnelle|situacion laboral",
        r"(your |respondents?( s)? )?(current )?(employment|work|occupation|occupational|labou?r force|job) ?(status|"
        r"situation)?"
        r"( of (the )?respondent)?|main activity.*|erwerbs\w+|beruf\w*|situation professionnelle.*|"
        r"situacion laboral.*|"
        r"situacao profissional.*|condizione professionale.*",
        r"employ\w*|work|occupation\w*|job|activity|erwerb\w*|beruf\w*|emploi|profess\w*|laboral|ocupac\w*|"
        r"occupaz\w*",
    ),
    "income": (
        r"income|hinctnta?|inc|einkommen|haushaltseinkommen|revenus?|ingresos?|renda|reddito|x047\w*|"
        r"(household|hh|family|monthly|net|total|personal)? ?income ?(group|decile|quintile|level|scale|cat|"
        r"bracket)?",
        r"(scale of |level of )?(your |respondents?( s)? |total |monthly |annual |yearly |net |gross |household s? ?|"
        r"family |hh )*"
        r"(income|incomes|haushalts\w*einkommen|einkommen|revenus?|ingresos?|renda|"
        r"reddito)( of (the )?(household|family|"
        r"respondent))?( group| decile| quintile| level| all sources| before taxes?| (per|a) (month|year))*",
        r"income\w*|\w*einkommen|revenu\w*|ingreso\w*|renda|reddito|decile",
    ),
    "marital_status": (
        r"marital( status)?|marstat|marsts?|marit\w{0,3}|familienstand|etat civil|estado civil|stato civile|x007\w*|"
        r"situation matrimoniale|civil status",
        r"(what is )?(your )?(current |legal )?(marital|civil) status.*|familienstand|etat civil|estado civil|"
        r"stato civile|"
        r"situation (matrimoniale|familiale)",
        r"marital|civil\w?|familienstand|matrimoniale",
    ),
    "religion": (
        r"religion|relig|denom(ination)?|rlgdnm|konfession|religione|religiao|f025\w*|religious (denomination|"
        r"affiliation)",
        r"(what is )?(your )?(respondents?( s)? )?(religion|religious (denominations?|affiliation|group|"
        r"preference)( major groups)?|denomination|"
        r"konfession|"
        r"religione|religiao)( of (the )?respondent)?|religion or denomination.*|welcher? (religion|konfession).*",
        r"relig\w*|denomination|konfession",
    ),
    "ethnicity": (
        r"ethnicity|ethnic( group)?|race|raza|raca|ethnie|etnia|x051\w*",
        r"(what is )?(your )?(respondents?( s)? )?(race|ethnic group|ethnicity|tribe or ethnic group|"
        r"race or ethnicity|ethnie|"
        r"etnia|raza|raca)( of (the )?respondent)?",
        r"race|ethnic\w*|raza|raca|ethnie|etnia|tribe",
    ),
    "language": (
        r"language|lang|lingua|sprache|langue|idioma|s016|home language|lnghom\d?",
        r"(home |main |first )?(language|sprache|langue|idioma|lingua)( (of (the )?respondent|spoken at home))?",
        r"language|sprache|langue|idioma|lingua",
    ),
}  # fmt: skip
_OTHERS = re.compile(
    r"\b(interviewers?|enumerators?|fathers?|mothers?|partners?|spouses?|husbands?|wi(fe|ves)|parents?|child(ren)?s?|"
    r"neighbou?rs?|previous interview|household head|encuestador|enqueteur|entrevistador|intervistatore)\b"
)
_RECORDED = re.compile(
    r"\binterview(er|ers|ing)?s?\b|\benumerator|back check|unsuccessful call|\bin the (psu|ea)\b|\b(start|end|"
    r"submit) ?"
    r"(date|time)\b|\btime (interview )?(started|ended)\b|\bdate of\b|\bduration\b|\blength of\b|number of calls|"
    r"\bsupervisor\b|\bdata entry\b|\bkeyed\b|\binterviewter\b|encuestador|enqueteur|entrevistador|intervistatore|"
    r"\bpopulation size weight\b"
)
# What survey programs record of an answer sheet: Qualtrics, LimeSurvey, REDCap, SoSci, Google Forms.
_PROGRAMS = re.compile(
    r"start ?date|end ?date|status|ip ?address|progress|duration( in seconds)?|finished|recorded ?date|"
    r"recipient ?(last|first) ?name|recipient ?email|external ?(data )?reference|location ?(latitude|longitude)|"
    r"distribution ?channel|user ?language|q recaptchascore|.* (first click|last click|page submit|click count)|"
    r"submit ?date|date submitted|last ?page|start ?language|seed|date ?stamp|ip ?addr|ref ?url|"
    r"(interview|group|question|total|str|end|start) ?time ?\w*|date started|date last action|"
    r"redcap (event name|repeat instrument|repeat instance|data access group|survey identifier)|"
    r"(\w[\w ]* )?timestamp|zeitstempel|horodateur|marca temporal|carimbo de data hora|"
    r"questnnr|lastdata|q viewer|maxpage|missrel|time rsi"
)
_DONE = {"0", "1", "2", "Incomplete", "Unverified", "Complete"}  # of a form of REDCap


@dataclasses.dataclass(frozen=True)
class Role:
    """What a column is, and why."""

    column: ColumnFacts
    reason: str


@dataclasses.dataclass(frozen=True)
class Roles:
    """What the columns are that are no questions.

    Attributes:
        design: respondent, weight, stratum, psu, where they are found.
        fields: the profile, in the order in which a person's sentence tells it.
        left_out: other columns that are not asked, and why.
    """

    design: dict[str, Role]
    fields: dict[str, Role]
    left_out: dict[str, str]


def find_roles(columns: Mapping[str, ColumnFacts], long: bool = False) -> Roles:
    """What each column is that is no question; with `long`, a respondent has several rows."""
    design: dict[str, Role] = {}
    left_out: dict[str, str] = {}
    for name, column in columns.items():
        if not column.counts:
            left_out[name] = "it is empty"
        elif column.said.kind == "date":
            left_out[name] = "a date or a time"
    free = [column for name, column in columns.items() if name not in left_out]
    for role in _DESIGN:
        found = [(reason, column) for column in free if (reason := _design_reason(role, column, long))]
        if not found:
            continue
        reason, column = min(found, key=lambda pair: _weight_order(pair[1]) if role == "weight" else 0)
        design[role] = Role(column, reason)
        if role == "weight":
            left_out |= {c.name: "another weight" for _, c in found if c is not column}
        free = [c for c in free if c is not column and c.name not in left_out]
    if "respondent" not in design and not long and (unique := next((c for c in free if _may_be_id(c)), None)):
        design["respondent"] = Role(unique, "every row has another value")
        free.remove(unique)
    for column in free:
        if reason := _of_program(column):
            left_out[column.name] = reason
    free = [column for column in free if column.name not in left_out]
    fields: dict[str, Role] = {}
    taken: set[str] = set()
    scores = {(f, c.name): score for f in _FIELDS for c in free if (score := _field_score(f, c)) is not None}
    for least in range(3):  # a better match of another field comes first: "Estado civil" is no state
        for field in _FIELDS:
            for column in free:
                how_well, reason = scores.get((field, column.name), (3, ""))
                if how_well > least:
                    continue
                if _too_many(field, column):
                    number = f"{len(column.codes)} different values"
                    left_out[column.name] = f"{number}: too many for profile field {field!r}"
                elif field in fields:
                    left_out[column.name] = f"it seems to say what profile field {field!r} says"
                else:
                    fields[field] = Role(column, reason)
                    taken.add(column.name)
            free = [column for column in free if column.name not in left_out and column.name not in taken]
    fields = {field: fields[field] for field in _FIELDS if field in fields}
    for column in free:
        if reason := _recorded(column):
            left_out[column.name] = reason
    return Roles(design, fields, left_out)


def _weight_order(column: ColumnFacts) -> int:
    """Of several weights that of the least: adjusted within countries, then others, then one across countries."""
    said = plain(f"{column.id} {column.label}")
    return 2 if "across" in said else 0 if re.search(r"psp|post ?strat|within|final|anweight|analysis", said) else 1


def _design_reason(role: str, column: ColumnFacts, long: bool) -> str:
    """Why a column is an id, a weight or a sampling unit; empty: it is not."""
    names, labels = _DESIGN[role]
    if _OTHERS.search(plain(column.label)) or (column.labels and role in ("respondent", "weight")):
        return ""
    by_name = re.fullmatch(names, plain(column.id)) is not None
    by_label = bool(column.label) and re.fullmatch(labels, plain(column.label)) is not None
    if not (by_name or by_label):
        return ""
    fits = {
        "respondent": long or column.is_unique,
        "weight": column.are_numbers and all(_positive(code) for code in column.counts),
        "stratum": len(column.counts) > 1,
        "psu": len(column.counts) > 10,
    }[role]
    return (f"its label: {column.label}" if by_label else "its name") if fits else ""


def _may_be_id(column: ColumnFacts) -> bool:
    return column.is_unique and not column.labels and not any("." in code or " " in code for code in column.counts)


def _positive(code: str) -> bool:
    try:
        return float(code.replace(",", ".")) >= 0
    except ValueError:
        return False


def _field_score(field: str, column: ColumnFacts) -> tuple[int, str] | None:
    """(how well it fits, the less the better; why) for a column that is a profile field."""
    names, labels, words = _FIELDS[field]
    name, label = plain(column.id), plain(column.label)
    if _OTHERS.search(label) or _OTHERS.search(name):
        return None
    if not column.codes or (field == "sex" and len(column.codes) > 8):
        return None
    short = re.sub(r"^(q|v|d|s)?\d+\w? | (of )?(the )?(respondent|r|recoded|rec|t|cat|group|grp|code|name)$", "", name)
    if re.fullmatch(labels, label):
        return 0, f"its label: {column.label}"
    by_name = re.fullmatch(names, name) or re.fullmatch(names, short)
    if by_name and (not label or re.search(rf"\b({words})\b", label)):
        return 1, "its name"
    parts = [word for word in name.split() if len(word) > 2]
    if not label and len(name.split()) <= 3 and any(re.fullmatch(names, word) for word in parts):
        return 2, "its name"
    return None


def _too_many(field: str, column: ColumnFacts) -> bool:
    """Whether a column has more values than groups to learn of; ages and incomes are put into groups."""
    numbers = column.are_numbers and not any(code in column.labels for code in column.codes)
    return len(column.codes) > MOST_GROUPS and field != "country" and not (numbers and field in ("age", "income"))


def _of_program(column: ColumnFacts) -> str:
    """Why a column was written by the survey's program; empty: it was not."""
    done = plain(column.id).endswith(" complete") and set(column.counts) <= _DONE
    if not column.labels and (done or re.fullmatch(_PROGRAMS, plain(column.id))):
        return "recorded by the survey's program"
    return ""


def _recorded(column: ColumnFacts) -> str:
    """Why a column was recorded of the interview, and not answered; empty: it was answered."""
    if column.label and (found := _RECORDED.search(plain(column.label))):
        return f"recorded of the interview, not answered ({found[0]!r} in its label)"
    return ""


def age_edges(codes: Sequence[str]) -> list[int]:
    """Where groups of ages start."""
    lowest = min(float(code.replace(",", ".")) for code in codes)
    return [edge for edge in (18, 25, 35, 45, 55, 65) if edge > lowest or edge == 18]
