"""Options that are a known scale come in its order; of any others no order is told."""

import random

import pytest

from cuma_jax.surveys.scales import is_no_answer, means_no_answer, scale_order, scale_with_ends

SCALES = """
Strongly agree|Agree|Neither agree nor disagree|Disagree|Strongly disagree
Completely agree|Mostly agree|Mostly disagree|Completely disagree
Strongly agree|Agree|Somewhat agree|Neutral|Somewhat disagree|Disagree|Strongly disagree
Agree strongly|Agree|Undecided|Disagree|Disagree strongly
Always|Often|Sometimes|Rarely|Never
Almost always|Often|Sometimes|Almost never|Never
Every day|Several times a week|Once a week|Once a month|Less often|Never
Very important|Rather important|Not very important|Not at all important
Extremely important|Very important|Moderately important|Slightly important|Not at all important
Very satisfied|Somewhat satisfied|Neither satisfied nor dissatisfied|Somewhat dissatisfied|Very dissatisfied
Completely satisfied|Fairly satisfied|Not very satisfied|Not at all satisfied
Trust completely|Trust somewhat|Do not trust very much|Do not trust at all
Trust a lot|Trust somewhat|Don\u2019t trust much|Don\u2019t trust at all
A great deal of confidence|Some confidence|No confidence
A great deal|Quite a lot|Not very much|None at all
Very likely|Likely|Unlikely|Very unlikely
Definitely|Probably|Probably not|Definitely not
Yes, definitely|Yes, probably|No, probably not|No, definitely not
Yes|Maybe|No
Yes|No
A lot|Some|A little|None
Very much|Somewhat|A little|Not at all
Excellent|Good|Fair|Poor
Much better|Better|About the same|Worse|Much worse
Increased a lot|Increased a little|Stayed the same|Decreased a little|Decreased a lot
Very happy|Quite happy|Not very happy|Not at all happy
10 - Completely|9|8|7|6|5|4|3|2|1|0 - Not at all
65 and over|50-64|30-49|18-29
10,000 and over|1,000-9,999|500-999|1-499
$1,250,000|$12,500.75|$1,000|$20
2,5|1,25|0,125
1|0|-1,5|-2
Very sure|Fairly sure|Not very sure|Not sure
""".strip().split("\n")

MORE = """
1 Strongly agree|2 Agree|3 Disagree|4 Strongly disagree
1 child|2 children|3 children|4 children
65 and over|50-64|30-49|Under 30
All the time|Most of the time|Some of the time|A little of the time|None of the time
To a great extent|To some extent|To a small extent|Not at all
Under 18|18-24|25-34|35-44|45+
Less than $10,000|$10,000 to $19,999|$20,000 to $49,999|More than $50,000
Less than 1 hour|1-2 hours|3-5 hours|More than 5 hours
Too few|About the right number|Too many
Essential|Very important|Fairly important|Not very important|Not important at all
Always wrong|Almost always wrong|Wrong only sometimes|Not wrong at all
Yes, a lot|Yes, a little|No, not at all
Daily|Several times a week|Once a week|Less than once a week|Never
Allow many to come|Allow some|Allow a few|Allow none
Strongly agree|Somewhat agree|Neither agree nor disagree|Somewhat disagree|Strongly disagree
Tend to agree|Neither agree nor disagree|Tend to disagree
Strongly approve|Approve|Disapprove|Strongly disapprove
Very often|Often|Sometimes|Rarely|Never
Never|Less than once a month|A few times a month|A few times a week|Every day
Not at all|Just a little|Somewhat|A lot
Trust a great deal|Tend to trust|Tend not to trust|Do not trust at all
None at all|Not very much|Quite a lot|A great deal
Extremely likely|Somewhat likely|Neither likely nor unlikely|Somewhat unlikely|Extremely unlikely
Not at all interested|Not very interested|Somewhat interested|Very interested
Much too little|Too little|About right|Too much|Much too much
Never|Just once or twice|Several times|Many times|Always
Very bad|Fairly bad|Neither good nor bad|Fairly good|Very good
Much worse|Worse|Same|Better|Much better
Never|Hardly ever|Some of the time|Most of the time|All of the time
Not important at all|Of little importance|Moderately important|Important|Very important
Low|Medium|High
Daily|Weekly|Monthly|Yearly|Never
Agree very strongly with 1|Agree with 1|Agree with neither|Agree with 2|Agree very strongly with 2
Definitely would|Probably would|Probably would not|Definitely would not
A lot more|A little more|About the same|A little less|A lot less
Complete trust|Some trust|Little trust|No trust
""".strip().split("\n")
OTHER_LANGUAGES = """
Stimme voll und ganz zu|Stimme eher zu|Teils/teils|Stimme eher nicht zu|Stimme \u00fcberhaupt nicht zu
Stimme zu|Weder noch|Stimme nicht zu
Trifft voll und ganz zu|Trifft eher zu|Trifft eher nicht zu|Trifft \u00fcberhaupt nicht zu
Sehr wichtig|Eher wichtig|Eher unwichtig|\u00dcberhaupt nicht wichtig
Sehr zufrieden|Eher zufrieden|Weder zufrieden noch unzufrieden|Eher unzufrieden|Sehr unzufrieden
Immer|Oft|Manchmal|Selten|Nie
T\u00e4glich|Mehrmals pro Woche|Einmal pro Woche|Einmal im Monat|Seltener|Nie
Sehr viel Vertrauen|Ziemlich viel Vertrauen|Wenig Vertrauen|\u00dcberhaupt kein Vertrauen
Sehr wahrscheinlich|Eher wahrscheinlich|Eher unwahrscheinlich|Sehr unwahrscheinlich
Ja|Vielleicht|Nein
Sehr gut|Gut|Mittelm\u00e4\u00dfig|Schlecht|Sehr schlecht
Tout \u00e0 fait d'accord|Plut\u00f4t d'accord|Ni d'accord ni pas d'accord|Plut\u00f4t pas d'accord|Pas du tout d'accord
Tr\u00e8s important|Assez important|Peu important|Pas du tout important
Tr\u00e8s satisfait|Plut\u00f4t satisfait|Plut\u00f4t insatisfait|Tr\u00e8s insatisfait
Toujours|Souvent|Parfois|Rarement|Jamais
Tous les jours|Plusieurs fois par semaine|Une fois par mois|Jamais
Tr\u00e8s confiance|Plut\u00f4t confiance|Plut\u00f4t pas confiance|Pas du tout confiance
Beaucoup|Assez|Peu|Pas du tout
Oui|Non
Tr\u00e8s probable|Probable|Peu probable|Pas du tout probable
Muy de acuerdo|De acuerdo|Ni de acuerdo ni en desacuerdo|En desacuerdo|Muy en desacuerdo
Totalmente de acuerdo|De acuerdo|En desacuerdo|Totalmente en desacuerdo
Muy importante|Bastante importante|Poco importante|Nada importante
Muy satisfecho|Bastante satisfecho|Poco satisfecho|Nada satisfecho
Siempre|Casi siempre|A veces|Casi nunca|Nunca
Mucha confianza|Alguna confianza|Poca confianza|Ninguna confianza
Mucho|Bastante|Poco|Nada
S\u00ed|No
Muy bueno|Bueno|Regular|Malo|Muy malo
Muy probable|Probable|Poco probable|Nada probable
Concordo totalmente|Concordo|N\u00e3o concordo nem discordo|Discordo|Discordo totalmente
Concordo totalmente|Concordo em parte|Discordo em parte|Discordo totalmente
Muito importante|Importante|Pouco importante|Nada importante
Muito satisfeito|Satisfeito|Insatisfeito|Muito insatisfeito
Sempre|Frequentemente|\u00c0s vezes|Raramente|Nunca
Muita confian\u00e7a|Alguma confian\u00e7a|Pouca confian\u00e7a|Nenhuma confian\u00e7a
Sim|N\u00e3o
\u00d3timo|Bom|Regular|Ruim|P\u00e9ssimo
Molto d'accordo|Abbastanza d'accordo|Poco d'accordo|Per niente d'accordo
Completamente d'accordo|D'accordo|N\u00e9 d'accordo n\u00e9 in disaccordo|In disaccordo|Completamente in disaccordo
Molto importante|Abbastanza importante|Poco importante|Per niente importante
Molto soddisfatto|Abbastanza soddisfatto|Poco soddisfatto|Per niente soddisfatto
Sempre|Spesso|Qualche volta|Raramente|Mai
Molta fiducia|Abbastanza fiducia|Poca fiducia|Nessuna fiducia
S\u00ec|No
Molto|Abbastanza|Poco|Per niente
Molto probabile|Abbastanza probabile|Poco probabile|Per niente probabile
""".strip().split("\n")


@pytest.mark.parametrize("scale", OTHER_LANGUAGES)
def test_scales_of_five_more_languages_are_put_in_order_however_they_are_listed(scale):
    right = tuple(scale.split("|"))
    for seed in range(10):
        listed = random.Random(seed).sample(right, len(right))
        assert scale_order(listed) in (right, right[::-1])


@pytest.mark.parametrize(
    "options",
    [
        "Rot|Gr\u00fcn|Blau", "Mann|Frau", "Stimme zu|Rot", "Rouge|Vert", "Homme|Femme", "Perro|Gato", "CDU|SPD|FDP",
        "Catholic|Protestant|Muslim|None", "Weder noch|Neutral", "Married|Single|Widowed", "Radio|TV|Other",
        "Car|Bus|Never",
        "1. Red|2. Blue|3. Green", "1 Labour|2 Liberal|3 Green|4 Other",
        "Sehr gut|Sehr wichtig", "Full time|Part time|Retired|Student", "Full democracy|Not a democracy|A junta",
        "The government|The market|Neither", "Oui|Non|Ne sait pas", "Yes|No|It depends", "Norland|Estmark",
    ],
)  # fmt: skip
def test_of_options_that_are_no_scale_no_order_is_told_in_any_language(options):
    for seed in range(5):
        listed = random.Random(seed).sample(options.split("|"), len(options.split("|")))
        assert scale_order(listed) is None


@pytest.mark.parametrize(
    "text",
    ["Don't know", "Not asked in Norland", "Missing", "NA/No opposition", "Can't determine", "Refused to answer",
     "Wei\u00df nicht", "Keine Angabe", "k.A.", "Ne sait pas", "NSP", "Sans r\u00e9ponse", "No sabe", "NS/NC",
     "No contesta",
     "N\u00e3o sabe", "N\u00e3o respondeu", "Non so", "Non risponde", "No experience with this in past year"],
)  # fmt: skip
def test_labels_of_no_answer_are_known_in_six_languages(text):
    assert means_no_answer(text)


@pytest.mark.parametrize(
    "text",
    ["No", "None", "Not at all", "Nein", "Nothing", "Refuse the treaty", "Nada", "Neither", "Nunca", "Jamais", ""],
)
def test_answers_are_not_taken_for_none(text):
    assert not means_no_answer(text)


@pytest.mark.parametrize("scale", [*SCALES, *MORE])
def test_a_known_scale_is_put_in_order_however_it_is_listed(scale):
    right = tuple(scale.split("|"))
    for seed in range(5):
        listed = random.Random(seed).sample(right, len(right))
        assert scale_order(listed) in (right, right[::-1])
        assert scale_order([text.upper() for text in listed]) is not None


@pytest.mark.parametrize(
    "options",
    [
        "Red|Green|Blue", "Female|Male", "Agree|Red", "Agree|AGREE", "Quite happy|Happy", "2 weeks|1 year|6 months",
        "Neutral|Undecided", "Very good|Very important", "Agree|Disagree|Don't know", "Agree",
    ],
)  # fmt: skip
def test_of_other_options_no_order_is_told(options):
    assert scale_order(options.split("|")) is None


def test_a_scale_of_numbers_with_words_at_its_ends_is_in_order_if_it_can_be_known():
    middle = list("23456789")
    for low, high in (
        ("Never justifiable", "Always justifiable"), ("Left", "Right"), ("Dissatisfied", "Satisfied"),
        ("Not at all important", "Very important"), ("A lot worse off", "A lot better off"),
        ("None at all", "A great deal"),
    ):  # fmt: skip
        right = (low, *middle, high)
        for seed in range(5):
            assert scale_with_ends(random.Random(seed).sample(right, len(right))) == right
    listed = ("Incomes more equal", *middle, "Larger differences")
    assert scale_with_ends(listed) == listed
    assert scale_with_ends(listed[::-1]) == listed[::-1]
    assert scale_with_ends([listed[-1], listed[0], *middle]) is None  # which of the ends is 1?
    assert scale_with_ends(["Completely agree", "Completely disagree", *middle]) is None
    for low, high in (("All of the time", "None of the time"), ("Nothing at all", "Everything")):
        assert scale_with_ends([low, *middle, high]) == (low, *middle, high)
    assert scale_with_ends(["None", *middle, "All"]) == ("None", *middle, "All")
    assert scale_with_ends(["Yes", "No"]) is None
    assert scale_with_ends(["Yes", "2", "4", "No"]) is None


@pytest.mark.parametrize(
    "word",
    [
        "Other", "Another one", "Something else", "None", "None of these", "All of the above", "Both", "Both equally",
        "Neither", "Either of them", "It depends", "Don't know", "Not sure", "Refused", "No opinion",
    ],
)  # fmt: skip
def test_what_stands_beside_a_scale_of_numbers_is_no_end_of_it(word):
    assert scale_with_ends(["2", "3", "4", word]) is None
    assert scale_with_ends(["Red", "2", "3", word]) is None
    assert scale_with_ends(["Red", "2", "3"]) is not None


def test_no_answer_is_told_from_an_answer():
    missing = ["Don't know", "Don\u2019t know", "I do not know", "DK/Refused", "(DK)", "Refused (VOL)", "No answer",
               "Other missing; Multiple answers Mail (EVS)", "Missing; Unknown", "Not applicable", "Prefer not to say",
               "Not sure", "I'm not sure", "Unsure", "Cannot say", "Can't say", "Can not choose", "Declined to answer",
               "NA", "Decline (VOL)", "Declined", "Declines to state", "Refuse to answer", "Refuse"]  # fmt: skip
    answers = ["No", "None", "Neither", "Nationalism", "Does not matter", "Not at all", "Dark", "Not surely",
               "Decline in living standards", "Declined a lot", "Declining", "Refuse the treaty", "-1"]  # fmt: skip
    assert [option for option in [*missing, *answers] if is_no_answer(option)] == missing


def test_not_sure_is_an_answer_beside_those_who_are_sure():
    assert is_no_answer("Not sure", ["Yes", "No", "Not sure"])
    assert not is_no_answer("Not sure", ["Very sure", "Fairly sure", "Not sure"])
    assert is_no_answer("I'm not sure", ["Not sure", "Unsure"])
