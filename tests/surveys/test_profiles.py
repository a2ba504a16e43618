import dataclasses

import numpy as np
import pandas as pd
import pytest
from made_up import survey_of

from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import (
    REFERENCE_FIELDS,
    build_profiles,
    describe,
    field_text,
    parse_profile,
    profile_text,
)
from cuma_jax.surveys.sources.invented import make_invented


def random_survey(size, fields, values, seed=0):
    rng = np.random.default_rng(seed)
    names = np.array([f"v{i}" for i in range(values)] + [None], dtype=object)
    return survey_of({f"f{i}": names[rng.integers(values + 1, size=size)] for i in range(fields)})


@pytest.mark.parametrize(("fields", "values"), [(3, 4), (30, 40)])
def test_profiles_equal_the_rows_one_by_one(fields, values):
    """Against a dictionary of tuples; 30 fields of 40 values overflow one integer key on the way."""
    survey = random_survey(500, fields, values)
    profiles = build_profiles(survey)
    rows = [tuple(row) for row in survey.respondents[list(survey.profile_fields)].astype(object).to_numpy()]
    got = [tuple(map(profiles.values(row).get, profiles.fields)) for row in profiles.profile_R]
    assert got == [tuple(None if pd.isna(v) else v for v in row) for row in rows]
    assert len(profiles) == len(set(got))
    assert len(np.unique(profiles.codes_PF, axis=0)) == len(profiles)


def test_profiles_do_not_depend_on_row_order_or_unused_categories():
    survey = random_survey(300, 3, 4)
    shuffled = np.random.default_rng(1).permutation(300)
    frame = survey.respondents.iloc[shuffled].reset_index(drop=True)
    frame["f0"] = frame["f0"].cat.add_categories(["never used"]).cat.reorder_categories(
        ["never used", *reversed(list(survey.respondents["f0"].cat.categories))]
    )  # fmt: skip
    a, b = build_profiles(survey), build_profiles(dataclasses.replace(survey, respondents=frame))
    assert a.vocab == b.vocab
    np.testing.assert_array_equal(a.codes_PF, b.codes_PF)
    np.testing.assert_array_equal(a.profile_R[shuffled], b.profile_R)


def test_fields_can_be_chosen():
    survey = make_invented()
    profiles = build_profiles(survey, ("sex",))
    assert [profile_text(profiles, row) for row in range(2)] == ["A person; sex: female.", "A person; sex: male."]
    with pytest.raises(CumaError, match="unknown profile field 'colour'; known here: country, sex, age"):
        build_profiles(survey, ("colour",))
    with pytest.raises(CumaError, match="twice"):
        build_profiles(survey, ("sex", "sex"))


def test_texts_leave_out_absent_fields():
    survey = survey_of(
        {
            "country": ["Chile", "United States", None],
            "year": ["2006", None, None],
            "sex": ["female", None, None],
            "age": ["25-34", "35-44", None],
            "political_views": ["liberal", None, None],
        }
    )
    profiles = build_profiles(survey)
    texts = [profile_text(profiles, row) for row in profiles.profile_R]
    assert texts == [
        "A person from Chile, surveyed in 2006; sex: female; age: 25-34; political views: liberal.",
        "A person from the United States; age: 35-44.",
        "A person.",
    ]
    assert field_text("political_views", "liberal") == "political views: liberal"


EIGHT = {"country": "Chile", "age": "16-24 years", "sex": "Female", "education": "Bachelor", "marital_status": "Single",
         "religion": "Catholic", "ethnicity": "CL: Mestizo", "employment": "Student"}  # fmt: skip


def test_the_reference_sentence_is_word_for_word():
    assert describe(EIGHT, "reference") == (
        "You are a person from Chile, age group: 16-24 years old, gender: Female, education: Bachelor, marital status: "
        "Single, religion: Catholic, ethnicity: CL: Mestizo, employment: Student."
    )
    official = dict(zip(REFERENCE_FIELDS.values(), EIGHT.values(), strict=True))
    assert describe(official, "reference") == describe(EIGHT, "reference")
    assert describe({"B_COUNTRY": "Chile", "Q289": "None"}, "reference") == (
        "You are a person from Chile, age group: nan, gender: nan, education: nan, marital status: nan, religion: nan, "
        "ethnicity: nan, employment: nan."
    )


def test_the_reference_sentence_needs_its_eight_fields():
    survey = survey_of({name: [value, None] for name, value in EIGHT.items()} | {"year": ["2018", "2019"]})
    with pytest.raises(CumaError, match=r"reference needs exactly the fields B_COUNTRY, .*has country, .*year"):
        build_profiles(survey, sentence="reference")
    profiles = build_profiles(survey, tuple(EIGHT), "reference")
    texts = [profile_text(profiles, row) for row in profiles.profile_R]
    assert texts[0] == describe(EIGHT, "reference")
    assert texts[1].count("nan") == 8
    with pytest.raises(CumaError, match="reference has no place for year"):
        describe({"year": "2018"}, "reference")


def test_the_reference_sentence_takes_the_official_columns_where_there_are_any():
    official = {column: f"official {column}" for column in REFERENCE_FIELDS.values()}
    columns = {name: [value] for name, value in (EIGHT | official).items()}
    survey = dataclasses.replace(survey_of(columns), profile_fields=tuple(EIGHT))
    assert build_profiles(survey).fields == tuple(EIGHT)
    assert build_profiles(survey, sentence="reference").fields == tuple(REFERENCE_FIELDS.values())
    assert parse_profile("b_country=Chile", ("B_COUNTRY",)) == {"B_COUNTRY": "Chile"}


def test_parse_profile_reads_what_describe_writes_about_with_colons_or_equals_signs():
    read = parse_profile("country = Korea, South, political views=left")
    assert read == {"country": "Korea, South", "political_views": "left"}
    assert describe(parse_profile("country=Chile, year=2012")) == "A person from Chile, surveyed in 2012."
    fields = ("country", "age", "views")
    expected = {"country": "Japan", "age": "30-39", "views": "left, mostly"}
    assert parse_profile("country: Japan; age: 30-39; views: left, mostly", fields) == expected
    assert parse_profile("Country=Japan, age=30-39, views=left, mostly;", fields)["country"] == "Japan"
    assert parse_profile("country: Trinidad; Tobago; age: 30-39;", fields)["country"] == "Trinidad; Tobago"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("contry=Chile", "unknown profile field 'contry'; known here: country, year"),
        ("planet: Mars", "known here: country, year"),
        ("Chile", "cannot read 'Chile'"),
        ("country=", "cannot read"),
        ("", "cannot read"),
        ("year=2000, year=2001", "given twice"),
    ],
)
def test_parse_profile_errors_say_what_is_wrong(text, message):
    with pytest.raises(CumaError, match=message):
        parse_profile(text, ("country", "year"))
