"""Cosines between gradients of groups equal those that jax.grad and numpy give by hand."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from conftest import changed

from cuma_jax.run.forward import Model
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.sharding import put_batch
from cuma_jax.training.interference import Interference, build_probe, choose_groups, while_training
from cuma_jax.training.interference_metrics import Grams, cosines, summaries, summary, within


@pytest.fixture(scope="module")
def probe(debug_run):
    return build_probe(debug_run, rows=10)


def test_the_probe_is_the_same_each_time_and_asks_groups_the_same_questions(debug_run, probe):
    again = build_probe(debug_run, rows=10)
    assert again.names == probe.names
    assert len(probe.names) >= 5
    assert probe.names == tuple(sorted(probe.names))
    assert set(probe.questions) == {q.id for q in debug_run.survey.questions}
    assert len(probe.halves) == 2 * len(probe.names)
    for mine, other in zip(probe.halves, again.halves, strict=True):
        for (bucket, batch), (bucket_again, batch_again) in zip(mine, other, strict=True):
            assert bucket == bucket_again
            jax.tree.map(np.testing.assert_array_equal, batch, batch_again)
    asked = [sorted(np.concatenate([b["template"][b["weight"] > 0] for _, b in half])) for half in probe.halves]
    assert all(a == asked[0] for a in asked)
    assert (probe.rows_G == 10).all()


def test_rows_of_the_probe_are_training_rows_of_their_group(debug_run, probe):
    profiles = debug_run.profiles
    country = profiles.fields.index("country")
    train_P = np.zeros(len(profiles), bool)
    train_P[profiles.profile_R[debug_run.units.person_N[debug_run.mask("train")]]] = True
    for unit, half in enumerate(probe.halves):
        for _, batch in half:
            assert train_P[batch["profile"]].all()
            names = {profiles.vocab["country"][c] for c in profiles.codes_PF[batch["profile"], country]}
            assert names == {probe.names[unit // 2]}


def test_groups_are_the_largest_of_those_asked_the_widely_asked_questions():
    # Group 2 has most answers, but to a question that nobody else was asked.
    count_GI = np.array([[30, 20, 0], [50, 40, 0], [0, 0, 900], [25, 25, 0], [3, 90, 0]])
    group_N = np.repeat(np.repeat(np.arange(5), 3), count_GI.ravel())
    item_N = np.repeat(np.tile(np.arange(3), 5), count_GI.ravel())
    chosen, items, answers = choose_groups(group_N, item_N, groups=5, enough=20, most=2)
    assert (chosen.tolist(), items.tolist(), answers.tolist()) == ([0, 1], [0, 1], [50, 90])


def test_a_single_group_is_an_error_while_training_and_nothing_afterwards(debug_run):
    config = changed(debug_run.config, evaluation={"min_cell": 10**6}, train={"interference_every": 2})
    alone = dataclasses.replace(debug_run, config=config)
    assert build_probe(alone) is None
    assert while_training(debug_run) is None
    with pytest.raises(CumaError, match=r"interference_every.*country.*evaluation\.min_cell"):
        while_training(alone)


def flat(tree, keep):
    """One vector of the leaves that `keep(path)` maps to a view of them (None: left out), float64."""
    parts = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        part = keep(jax.tree_util.keystr(path, simple=True, separator="/"), np.asarray(leaf, np.float64))
        if part is not None:
            parts.append(part.ravel())
    return np.concatenate(parts)


def by_hand(one, two):
    return one @ two / np.linalg.norm(one) / np.linalg.norm(two)


@pytest.fixture(scope="module")
def three_groups(debug_run, probe):
    return dataclasses.replace(probe, names=probe.names[:3], halves=probe.halves[:6])


@pytest.fixture(scope="module")
def grams(debug_run, random_adapters, three_groups):
    return Interference(debug_run, three_groups)(random_adapters(debug_run))


@pytest.mark.slow
def test_room_for_one_gradient_at_a_time_changes_nothing(debug_run, random_adapters, probe, grams):
    two = dataclasses.replace(probe, names=probe.names[:2], halves=probe.halves[:4])
    one_by_one = Interference(debug_run, two, held_bytes=1)(random_adapters(debug_run)).blocks()
    for name, gram_XUU in grams.blocks().items():
        assert np.isfinite(gram_XUU).all()
        np.testing.assert_allclose(one_by_one[name], gram_XUU[:, :4, :4], rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_cosines_equal_those_of_jax_grad_and_numpy(debug_run, random_adapters, three_groups, grams):
    adapters = random_adapters(debug_run)
    blocks = {name: cosines(gram) for name, gram in grams.blocks().items()}
    a = debug_run

    @jax.jit
    def grad(adapters, tables, batch):
        return jax.grad(
            lambda x: (
                a.objective.sums(a.config, Model(a.decoder, a.base, x, tables), batch, None).objective["loss"].mean()
            )
        )(adapters)

    halves = []
    for half in three_groups.halves:
        ((bucket, batch),) = half
        halves.append(jax.device_get(grad(adapters, a.training.tables[bucket], put_batch(batch, a.mesh))))
    # Halves have as many rows, so the mean of their gradients is their group's.
    wholes = [jax.tree.map(lambda x, y: (x + y) / 2, *halves[i : i + 2]) for i in (0, 2, 4)]

    def expert(layer, number):
        def keep(path, leaf):
            if "router" in path:
                return None
            return leaf[layer, :, number] if path.endswith("_a") else leaf[layer, number]

        return keep

    keeps = {
        "all": [lambda path, leaf: leaf],
        "matrices": [lambda path, leaf: None if "router" in path else leaf],
        "router": [lambda path, leaf: leaf if "router" in path else None],
        "layers": [lambda path, leaf, i=i: None if "router" in path else leaf[i] for i in range(2)],
        "experts": [expert(layer, e) for layer in range(2) for e in range(8)],
    }
    unused = 0
    for name, keep_X in keeps.items():
        assert len(blocks[name]) == len(keep_X)
        for x, keep in enumerate(keep_X):
            vectors = [flat(tree, keep) for tree in wholes]
            for i, j in itertools.combinations(range(3), 2):
                if vectors[i].any() and vectors[j].any():
                    np.testing.assert_allclose(blocks[name][x, i, j], by_hand(vectors[i], vectors[j]), atol=2e-5)
                else:
                    unused += 1
                    assert np.isnan(blocks[name][x, i, j])
    said = summaries(grams)
    assert said["experts"]["unused_pairs"] == unused
    assert said["experts"]["pairs"] == 2 * 8 * 3 - unused
    everything = keeps["all"][0]
    np.testing.assert_allclose(
        within(grams.blocks()["all"])[0],
        [by_hand(flat(halves[i], everything), flat(halves[i + 1], everything)) for i in (0, 2, 4)],
        atol=2e-5,
    )


def grams_of(vectors_UN):
    gram = (vectors_UN @ vectors_UN.T)[None]
    empty = np.zeros((1, 0, *gram.shape[1:]))
    return Grams(gram, np.zeros_like(gram), empty, np.zeros(gram.shape[1:]), np.zeros(gram.shape[1:]))


def test_summary_counts_conflicts_and_leaves_out_what_is_not_used():
    """Groups pull at (2,0), (-1,0), (0,0) and (0,4); the halves of a group agree, or are both zero."""
    vectors = np.array([[2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    grams = grams_of(np.repeat(vectors, 2, axis=0))
    said = summary(grams.blocks()["matrices"])
    assert said["pairs"] == 3
    assert said["unused_pairs"] == 3
    np.testing.assert_allclose(said["mean_cosine"], -1 / 3)
    np.testing.assert_allclose(said["negative_share"], 1 / 3)
    np.testing.assert_allclose(said["weighted_cosine"], -2 / (2 + 8 + 4))
    np.testing.assert_allclose(said["within"], 1.0)
    assert summaries(grams).keys() == {"all", "matrices", "layers"}, "no router and no experts, nothing to say of them"


def test_nothing_used_by_two_groups_is_said_and_not_a_number():
    said = summary(grams_of(np.zeros((4, 3))).blocks()["matrices"])
    assert (said["mean_cosine"], said["negative_share"], said["pairs"], said["unused_pairs"]) == (None, None, 0, 1)


def test_halves_add_up_to_their_group():
    vectors = np.random.default_rng(0).normal(size=(6, 5))
    whole = vectors.reshape(3, 2, 5).sum(1)
    unit = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(cosines(grams_of(vectors).blocks()["all"])[0], unit @ unit.T)


@pytest.mark.slow
@pytest.mark.nightly
def test_training_logs_what_is_measured_on_its_own_state_and_readers_do_not_trip(debug_run, tmp_path):
    from cuma_jax.reporting.charts import training_plot
    from cuma_jax.run.folder import read_metrics, trim_metrics
    from cuma_jax.training.loop import train

    steps = {"steps": 2, "eval_every": 0, "eval_batches": 0, "save_every": 0, "interference_every": 1}
    config = changed(debug_run.config, train=steps, evaluation={"group_by": ("sex",)})
    run = dataclasses.replace(debug_run, config=config)
    state = train(run, tmp_path).state
    lines = read_metrics(tmp_path)
    measured = [line for line in lines if "interference" in line]
    assert [line["step"] for line in measured] == [1, 2]
    assert measured[-1]["interference"] == summaries(while_training(run)(state.adapters))
    assert measured[-1]["interference"].keys() == {"all", "matrices", "layers", "experts", "router"}
    assert training_plot(lines)["steps"] == 2
    trim_metrics(tmp_path, 1)
    assert [line["step"] for line in read_metrics(tmp_path) if "interference" in line] == [1]
