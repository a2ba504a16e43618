import dataclasses
import zlib

import numpy as np
import pytest

from cuma_jax.config import ProfileConfig
from cuma_jax.profile_encoders.normalise import fit_normaliser
from cuma_jax.profile_encoders.profile_table import ProfileTable, build_profile_table
from cuma_jax.profile_encoders.text_encoder import TextEncoder
from cuma_jax.runtime.errors import CumaError
from cuma_jax.surveys.profiles import Profiles, build_profiles, describe
from cuma_jax.surveys.sources.invented import make_invented

CATEGORICAL = ProfileConfig(granularity="categorical")


class FakeEncoder(TextEncoder):
    """Gives every text its own random vector, far from zero, and counts the calls."""

    def __init__(self, width=16):
        super().__init__(
            "fake", "fake-hash", width, "mean", 64, 0, "words", lambda text: [1], 0, "float32", lambda: None
        )
        self.calls = []

    def encode(self, texts, progress=True):
        self.calls.append(list(texts))
        rows = [3 + np.random.default_rng(zlib.crc32(text.encode())).normal(size=self.width) for text in texts]
        return np.array(rows, np.float32).reshape(len(texts), self.width)


@pytest.fixture(scope="module")
def profiles():
    return build_profiles(make_invented(0))


@pytest.fixture
def config():
    return ProfileConfig(components=5, values_per_component=4)


def held_out(profiles, country="Hestia"):
    return profiles.codes_PF[:, profiles.fields.index("country")] != profiles.vocab["country"].index(country)


def build(profiles, config, tmp_path, encoder=None, train_P=None, **kwargs):
    train_P = np.ones(len(profiles), bool) if train_P is None else train_P
    return build_profile_table(profiles, train_P, config, encoder or FakeEncoder(), tmp_path, progress=False, **kwargs)


def slow_twin(profiles, train_P, config):
    """Field by field, profile by profile."""
    encoder, rows = FakeEncoder(), [profiles.values(row) for row in range(len(profiles))]
    columns = []
    for field in profiles.fields:
        text = {v: f"{field.replace('_', ' ')}: {v}" for v in profiles.vocab[field]}
        known = sorted({text[r[field]] for r, keep in zip(rows, train_P, strict=True) if keep and field in r})
        components = min(config.components, max(1, len(known) // 4))
        normaliser = fit_normaliser(encoder.encode(known), config.normalise, components)
        blocks = [normaliser(encoder.encode([text[r[field]]]))[0] if field in r else None for r in rows]
        width = next(len(b) for b in blocks if b is not None)
        columns.append(np.array([np.zeros(width) if b is None else b for b in blocks]))
    return np.concatenate(columns, axis=1)


@pytest.mark.parametrize("normalise", ["whiten", "standardise", "l2", "none"])
def test_field_table_equals_the_slow_twin(profiles, config, tmp_path, normalise):
    config, train_P = dataclasses.replace(config, normalise=normalise), held_out(profiles)
    table = build(profiles, config, tmp_path, train_P=train_P)
    assert table.vectors_PM.dtype == np.float32
    np.testing.assert_allclose(table.vectors_PM, slow_twin(profiles, train_P, config), atol=1e-5)


def test_profile_table_whitens_over_the_training_profiles(profiles, config, tmp_path):
    train_P = held_out(profiles)
    table = build(profiles, dataclasses.replace(config, granularity="profile"), tmp_path, train_P=train_P)
    assert table.vectors_PM.shape == (len(profiles), 5)
    train_NM = table.vectors_PM[train_P].astype(np.float64)
    np.testing.assert_allclose(train_NM.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(train_NM.T @ train_NM / len(train_NM), np.eye(5), atol=1e-4)


@pytest.mark.parametrize("granularity", ["field", "profile"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_the_table_is_the_same_when_the_profiles_are_permuted(profiles, config, tmp_path, granularity, shuffle):
    config = dataclasses.replace(config, granularity=granularity, shuffle=shuffle)
    train_P, order_P = held_out(profiles), np.random.default_rng(0).permutation(len(profiles))
    permuted = dataclasses.replace(profiles, codes_PF=profiles.codes_PF[order_P])
    one = build(profiles, config, tmp_path / "a", train_P=train_P)
    other = build(permuted, config, tmp_path / "b", train_P=train_P[order_P])
    np.testing.assert_array_equal(other.vectors_PM, one.vectors_PM[order_P])


@pytest.mark.parametrize("granularity", ["field", "profile"])
def test_an_unseen_profile_equals_the_same_values_in_the_table(profiles, config, tmp_path, granularity):
    config = dataclasses.replace(config, granularity=granularity)
    table = build(profiles, config, tmp_path, train_P=held_out(profiles))
    values = [profiles.values(row) for row in range(len(profiles))]
    np.testing.assert_array_equal(table.embed_profiles(values), table.vectors_PM)
    np.testing.assert_allclose(table.embedder.embed(values), table.vectors_PM, atol=1e-6)
    # With values that no respondent has: only the block of that field differs.
    new, known = table.embed_profiles([values[0] | {"country": "Atlantis"}, values[0]])
    assert np.isfinite(new).all()
    assert not np.allclose(new, known)
    if granularity == "field":
        first = config.components if len(profiles.vocab["country"]) > 20 else 1
        assert profiles.fields[0] == "country"
        np.testing.assert_allclose(new[first:], known[first:], atol=1e-6)


def test_an_absent_field_is_a_block_of_zeros_and_a_constant_field_is_one(config, tmp_path):
    codes_PF = np.array([[0, 0], [1, 0], [-1, 0], [0, -1]], np.int32)
    profiles = Profiles(("country", "year"), {"country": ("A", "B"), "year": ("2012",)}, codes_PF, np.arange(4))
    table = build(profiles, config, tmp_path)
    np.testing.assert_allclose(np.abs(table.vectors_PM[:, 0]), [1, 1, 0, 1], atol=1e-5)
    np.testing.assert_array_equal(table.vectors_PM[:, 1], 0)
    np.testing.assert_array_equal(table.embedder.embed([{}, {"year": "1999"}]), 0)


def test_shuffle_deals_every_profile_the_vector_of_another(profiles, config, tmp_path):
    shuffled = dataclasses.replace(config, shuffle=True, granularity="profile", normalise="none")
    straight = build(profiles, dataclasses.replace(shuffled, shuffle=False), tmp_path).vectors_PM
    table = build(profiles, shuffled, tmp_path)
    assert (table.vectors_PM != straight).any(axis=1).all()
    np.testing.assert_array_equal(np.sort(table.vectors_PM, axis=0), np.sort(straight, axis=0))
    np.testing.assert_array_equal(build(profiles, shuffled, tmp_path).vectors_PM, table.vectors_PM)
    assert (build(profiles, shuffled, tmp_path, seed=1).vectors_PM != table.vectors_PM).any()
    np.testing.assert_array_equal(table.embed_profiles([profiles.values(3)])[0], table.vectors_PM[3])


def test_a_cache_hit_gives_identical_bits_and_does_not_call_the_encoder(profiles, config, tmp_path):
    first, second = FakeEncoder(), FakeEncoder()
    want = build(profiles, config, tmp_path, first).vectors_PM
    np.testing.assert_array_equal(build(profiles, config, tmp_path, second).vectors_PM, want)
    assert (len(first.calls), len(second.calls)) == (1, 0)
    second.tokenize = None  # what is kept is known by the tokenizer: no text is tokenised for its key
    np.testing.assert_array_equal(build(profiles, config, tmp_path, second).vectors_PM, want)
    assert sorted(set(first.calls[0])) == first.calls[0]  # each value once
    others = {"pooling": "last", "fingerprint": "x", "tokenizer": "x", "max_length": 65, "dtype": "bfloat16"}
    for name, value in others.items():
        encoder = FakeEncoder()
        setattr(encoder, name, value)
        build(profiles, config, tmp_path, encoder)
        assert len(encoder.calls) == 1, name


def test_a_damaged_cache_file_is_encoded_again(profiles, config, tmp_path):
    want = build(profiles, config, tmp_path).vectors_PM
    (path,) = (tmp_path / "profiles").iterdir()
    path.write_bytes(path.read_bytes()[:200])
    again = FakeEncoder()
    np.testing.assert_array_equal(build(profiles, config, tmp_path, again).vectors_PM, want)
    assert len(again.calls) == 1
    build(profiles, config, tmp_path, third := FakeEncoder())
    assert not third.calls


@pytest.mark.parametrize("normalise", ["whiten", "standardise", "l2", "none"])
def test_a_saved_table_is_read_back_whole(profiles, config, tmp_path, normalise):
    table = build(profiles, dataclasses.replace(config, normalise=normalise), tmp_path)
    table.save(tmp_path / "run")
    loaded = ProfileTable.load(tmp_path / "run", FakeEncoder())
    values = [profiles.values(2), {"country": "Atlantis", "sex": "female"}]
    np.testing.assert_array_equal(loaded.vectors_PM, table.vectors_PM)
    np.testing.assert_array_equal(loaded.embed_profiles(values), table.embed_profiles(values))
    bare = ProfileTable.load(tmp_path / "run")
    np.testing.assert_array_equal(bare.embed_profiles(values[:1]), table.vectors_PM[2:3])
    with pytest.raises(CumaError, match="needs the encoder fake"):
        bare.embed_profiles(values)
    dataclasses.replace(table, vectors_PM=table.vectors_PM * np.nan).save(tmp_path / "run")
    with pytest.raises(CumaError, match=r"npz is damaged: it holds vectors that are not finite; delete it, and start"):
        ProfileTable.load(tmp_path / "run")


def test_user_mistakes_are_named(profiles, config, tmp_path):
    table = build(profiles, config, tmp_path)
    with pytest.raises(CumaError, match="unknown profile field 'planet'; this run knows country"):
        table.embed_profiles([{"planet": "Mars"}])
    with pytest.raises(CumaError, match="does not exist"):
        ProfileTable.load(tmp_path / "nowhere")
    table.save(tmp_path)
    other = FakeEncoder()
    other.fingerprint = "another"
    with pytest.raises(CumaError, match="fingerprint"):
        ProfileTable.load(tmp_path, other)
    (tmp_path / "profile_table.npz").write_bytes(b"PK")
    with pytest.raises(CumaError, match="damaged"):
        ProfileTable.load(tmp_path)
    one = Profiles(("sex",), {"sex": ("female",)}, np.zeros((1, 1), np.int32), np.zeros(1, np.int32))
    with pytest.raises(CumaError, match="no profile has training answers"):
        build(one, config, tmp_path, train_P=np.zeros(1, bool))
    with pytest.raises(CumaError, match="at least two distinct profiles"):
        build(one, dataclasses.replace(config, shuffle=True), tmp_path)
    with pytest.raises(CumaError, match="no profile fields"):
        build(Profiles((), {}, np.zeros((1, 0), np.int32), np.zeros(1, np.int32)), config, tmp_path)


def test_whole_profile_texts_are_the_surveys_own(profiles, config, tmp_path):
    encoder = FakeEncoder()
    build(profiles, dataclasses.replace(config, granularity="profile"), tmp_path, encoder)
    assert encoder.calls[0] == sorted(describe(profiles.values(row)) for row in range(len(profiles)))


def one_hot_twin(profiles, train_P, lookup):
    """Profile by profile, value by value."""
    rows = [profiles.values(row) for row in range(len(profiles))]
    vectors = []
    for row in rows:
        vector = []
        for field in profiles.fields:
            known = sorted({r[field] for r, keep in zip(rows, train_P, strict=True) if keep and field in r})
            if lookup and row.get(field) not in known:
                vector += [1 / len(known)] * len(known)
            else:
                vector += [(1.0 if lookup else len(known) ** 0.5) * (row.get(field) == value) for value in known]
        vectors.append(vector)
    return np.array(vectors, np.float32)


@pytest.mark.parametrize("lookup", [False, True])
def test_categorical_equals_the_one_hot_twin(profiles, tmp_path, lookup):
    codes_PF = profiles.codes_PF.copy()
    codes_PF[3, 0] = -1
    codes_PF[5] = -1
    profiles = dataclasses.replace(profiles, codes_PF=codes_PF)
    train_P = held_out(profiles)
    train_P[[3, 5]] = False
    table = build_profile_table(profiles, train_P, CATEGORICAL, None, tmp_path, lookup=lookup)
    np.testing.assert_array_equal(table.vectors_PM, one_hot_twin(profiles, train_P, lookup))
    assert table.vectors_PM.dtype == np.float32
    if lookup:  # a gate, also of countries that nobody in training has
        np.testing.assert_allclose(table.vectors_PM[:, :7].sum(1), 1, atol=1e-6)
    else:  # routers see the scale that whitened vectors have
        np.testing.assert_allclose(np.square(table.vectors_PM[train_P]).mean(1), 1, atol=1e-6)
        assert not table.vectors_PM[5].any()


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_categorical_table_is_saved_and_embeds_new_profiles(profiles, tmp_path, shuffle):
    config = dataclasses.replace(CATEGORICAL, shuffle=shuffle)
    table = build_profile_table(profiles, held_out(profiles), config, None, tmp_path)
    table.save(tmp_path)
    plain = table.embedder.embed([profiles.values(row) for row in range(len(profiles))])
    for some in (table, ProfileTable.load(tmp_path), ProfileTable.load(tmp_path, FakeEncoder())):
        rows = some.embed_profiles([profiles.values(row) for row in range(len(profiles))])
        np.testing.assert_array_equal(rows, table.vectors_PM)
        assert np.array_equal(rows, plain) != shuffle
        new, hestia, absent = some.embed_profiles(
            [{"country": "Atlantis", "sex": "male"}, {"country": "Hestia", "sex": "male"}, {"sex": "male"}]
        )
        np.testing.assert_array_equal(new, absent)
        np.testing.assert_array_equal(hestia, absent)
        with pytest.raises(CumaError, match="unknown profile field 'colour'"):
            some.embed_profiles([{"colour": "red"}])


def test_a_field_with_very_many_values_cannot_be_columns(tmp_path):
    names = tuple(f"town {i:04d}" for i in range(1025))
    profiles = Profiles(("town",), {"town": names}, np.arange(1025, dtype=np.int32)[:, None], np.arange(1025))
    with pytest.raises(CumaError, match=r"field town has 1,025 training values, and at most 1,024 can be columns"):
        build_profile_table(profiles, np.ones(1025, bool), CATEGORICAL, None, tmp_path)
    some_P = np.arange(1025) < 1024
    assert build_profile_table(profiles, some_P, CATEGORICAL, None, tmp_path).width == 1024


@pytest.mark.parametrize("granularity", ["field", "profile"])
def test_a_new_country_gets_its_derived_fields(config, tmp_path, granularity):
    survey = make_invented(0)
    names = ("Chile", "Peru", "Mali", "Ghana", "Norway", "Sweden", "Japan", "India")
    column = survey.respondents["country"].cat.rename_categories(names)
    survey = dataclasses.replace(survey, respondents=survey.respondents.assign(country=column))
    profiles = build_profiles(survey, derived=("region", "language"))
    table = build(profiles, dataclasses.replace(config, granularity=granularity), tmp_path)
    table.save(tmp_path)
    for some in (table, ProfileTable.load(tmp_path, FakeEncoder())):
        given = {field: profiles.values(0)[field] for field in ("country", "sex", "age")}
        np.testing.assert_array_equal(some.embed_profiles([given])[0], table.vectors_PM[0])
        full = {"country": "Bolivia", "world_region": "South America", "official_language": "Spanish"}
        bolivia, same, other = some.embed_profiles(
            [{"country": "Bolivia"}, full, {"country": "Bolivia", "official_language": "Quechua"}]
        )
        np.testing.assert_array_equal(bolivia, same)
        assert not np.allclose(bolivia, other)
