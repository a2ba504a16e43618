"""Laws of replies: what a row's text depends on, where it ends, and its log-probabilities.

Shapes: B rows, T tokens, N new tokens, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiling import compiled
from conftest import changed

from cuma_jax.config import SamplingConfig
from cuma_jax.generation import generate_texts, make_generate
from cuma_jax.generation.texts import EncodedPrompt, prompt_tokens
from cuma_jax.run.inference import writer_of
from cuma_jax.runtime.errors import CumaError

SAMPLING = SamplingConfig(temperature=0.7, top_k=200, top_p=0.98, max_new_tokens=7)
PAD = 3
LENGTHS = np.array([5, 12, 1, 9, 0, 12, 7, 2], np.int32)


def batch_of(lengths_B=LENGTHS, seed=0):
    rng = np.random.default_rng(seed)
    rows = len(lengths_B)
    return {
        "tokens": rng.integers(0, 300, (rows, 12)).astype(np.int32),
        "lengths": lengths_B,
        "profile": np.arange(rows, dtype=np.int32) % 5,
        "key": rng.integers(0, 2**32, (rows, 2), dtype=np.uint32),
    }


def generated(run, adapters, batch, sampling=SAMPLING, end_ids=(), **settings):
    generate = make_generate(
        run.decoder, sampling, end_ids, PAD, run.mesh, run.adapter_shardings, run.base_shardings,
        **settings,
    )  # fmt: skip
    vectors_PC = jax.device_put(run.table.vectors_PM)
    return jax.device_get(generate(run.base, adapters, vectors_PC, batch))


@pytest.fixture(scope="module")
def written(debug_run, random_adapters):
    """The replies of one batch on one device, and the adapters that wrote them; nothing ends."""
    adapters = random_adapters(debug_run)
    return adapters, generated(debug_run, adapters, batch_of(), unroll=False)


@pytest.mark.slow
def test_log_probabilities_are_those_of_the_forward_pass_without_a_cache(debug_run, written):
    (adapters, out), batch, decoder = written, batch_of(), debug_run.decoder
    whole_BT = np.concatenate([batch["tokens"], np.zeros_like(out.tokens_BN)], axis=1)
    for row, length in enumerate(LENGTHS):
        whole_BT[row, length : length + SAMPLING.max_new_tokens] = out.tokens_BN[row]
    variables = {"params": debug_run.base, "adapters": adapters}
    profile_BC = debug_run.table.vectors_PM[batch["profile"]]

    @jax.jit
    def logits(tokens_BT, at_BN):
        x_BTD, _ = decoder.apply(variables, tokens_BT, jnp.full(len(tokens_BT), tokens_BT.shape[1]), profile_BC)
        return decoder.apply(variables, decoder.apply(variables, x_BTD, at_BN, method="at_positions"), method="logits")

    at_BN = np.maximum(LENGTHS, 1)[:, None] - 1 + np.arange(SAMPLING.max_new_tokens)
    logp_BNV = jax.nn.log_softmax(logits(whole_BT, at_BN) / SAMPLING.temperature)
    expected_BN = np.take_along_axis(np.asarray(logp_BNV), out.tokens_BN[..., None], axis=2)[..., 0]
    real_B = LENGTHS > 0
    np.testing.assert_allclose(out.logp_BN[real_B], expected_BN[real_B], atol=2e-4)
    assert len(np.unique(out.tokens_BN[real_B])) > 10  # drawn, not repeated
    # A row that fills the batch up gets nothing.
    assert not out.length_B[~real_B].any()
    assert not out.stopped_B.any()
    assert (out.tokens_BN[~real_B] == PAD).all()


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [False, True])
def test_a_mesh_writes_what_one_device_writes(unroll, debug_config, run_on, random_adapters, written):
    _, expected = written
    run = run_on(changed(debug_config, mesh={"data": 2, "fsdp": 2, "tensor": 2}))
    found = generated(run, random_adapters(run), batch_of(), unroll=unroll)
    np.testing.assert_array_equal(found.tokens_BN, expected.tokens_BN)
    np.testing.assert_allclose(found.logp_BN, expected.logp_BN, atol=1e-4)


@pytest.mark.slow
def test_a_reply_ends_with_its_end_of_turn_and_the_rest_goes_on(debug_run, written):
    adapters, free = written
    end = int(free.tokens_BN[0, 2])
    out = generated(debug_run, adapters, batch_of(), end_ids=(end, 319))
    stops = 0
    for row, length in enumerate(LENGTHS):
        tokens = free.tokens_BN[row] if length else free.tokens_BN[row][:0]
        found = np.flatnonzero(np.isin(tokens, (end, 319)))
        count = found[0] + 1 if len(found) else len(tokens)
        stops += len(found) > 0
        assert (out.length_B[row], out.stopped_B[row]) == (count, len(found) > 0)
        np.testing.assert_array_equal(out.tokens_BN[row, :count], tokens[:count])
        assert (out.tokens_BN[row, count:] == PAD).all()
        np.testing.assert_allclose(out.logp_BN[row, :count], free.logp_BN[row, :count], atol=1e-4)
        assert not out.logp_BN[row, count:].any()
    assert 0 < stops < len(LENGTHS)


@pytest.mark.slow
def test_a_row_has_the_same_reply_whoever_is_in_the_batch(debug_run, written):
    adapters, expected = written
    batch, other = batch_of(), batch_of(np.roll(LENGTHS, 3), seed=9)
    mixed = {
        name: np.where((np.arange(8) == 3).reshape(-1, *[1] * (v.ndim - 1)), v, other[name])
        for name, v in batch.items()
    }
    found = generated(debug_run, adapters, mixed, unroll=False)
    np.testing.assert_array_equal(found.tokens_BN[3], expected.tokens_BN[3])
    np.testing.assert_array_equal(found.logp_BN[3], expected.logp_BN[3])
    assert (found.tokens_BN[:3] != expected.tokens_BN[:3]).any()
    # Its profile, its key and its prompt are its own: another one of each writes something else.
    for name in ("profile", "key", "tokens"):
        changed_batch = batch | {name: other[name] if name != "profile" else (batch[name] + 1) % 5}
        assert (generated(debug_run, adapters, changed_batch, unroll=False).tokens_BN != expected.tokens_BN).any()


@pytest.mark.slow
def test_texts_come_in_order_and_do_not_depend_on_what_else_is_asked(debug_run, random_adapters):
    adapters, tokenizer = random_adapters(debug_run), debug_run.tokenizer
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=5)
    writer = writer_of(debug_run, sampling, 4, (64, 128))
    chats = [[{"role": "user", "content": "why? " * n}] for n in (1, 12, 2, 1, 11, 3, 1)]
    prompts = [EncodedPrompt(prompt_tokens(tokenizer, chat), n % 3, n // 6) for n, chat in enumerate(chats)]
    together = generate_texts(writer, adapters, prompts, 0, progress=False)
    assert {len(p.tokens) > 64 for p in prompts} == {True, False}
    with compiled() as programs:
        alone = [generate_texts(writer, adapters, [prompts[n]], 0, progress=False)[0] for n in (0, 4, 5)]
    assert not programs  # one for each length, and both lengths have been seen
    for n, reply in zip((0, 4, 5), alone, strict=True):
        np.testing.assert_array_equal(reply.tokens, together[n].tokens)
        np.testing.assert_array_equal(reply.logp, together[n].logp)
        assert reply.text == together[n].text
    # Another seed, person or index is another draw.
    others = [dataclasses.replace(prompts[0], profile=1), dataclasses.replace(prompts[0], index=1)]
    draws = generate_texts(writer, adapters, others, 0, progress=False)
    draws += generate_texts(writer, adapters, prompts[:1], 1, progress=False)
    assert len({tuple(reply.tokens) for reply in [together[0], *draws]}) == 4
    long = EncodedPrompt(np.zeros(129, np.int32), name="the essay")
    with pytest.raises(
        CumaError, match=r"the essay has 129 tokens .* room for 128; shorten it, or add a longer bucket"
    ):
        generate_texts(writer, adapters, [prompts[0], long], 0, progress=False)
    with pytest.raises(CumaError, match="a prompt has no tokens"):
        generate_texts(writer, adapters, [EncodedPrompt(np.zeros(0, np.int32))], 0, progress=False)


def test_too_little_memory_is_one_message(debug_run):
    def generate(*args):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 38695857888 bytes.")

    writer = writer_of(debug_run, SAMPLING, 8)
    writer.__dict__["generate"] = generate
    with pytest.raises(CumaError, match=r"not enough memory for 8 replies at once .*--batch_size"):
        generate_texts(writer, None, [EncodedPrompt(np.zeros(3, np.int32))], 0, progress=False)


@pytest.mark.slow
def test_several_replies_to_a_prompt_are_those_to_the_prompt_given_several_times(debug_run, random_adapters):
    adapters, batch = random_adapters(debug_run), batch_of(LENGTHS[:4])
    keys = np.random.default_rng(5).integers(0, 2**32, (8, 2), dtype=np.uint32)
    once = generated(debug_run, adapters, batch | {"key": keys}, samples=2)
    twice = {name: np.repeat(values, 2, axis=0) for name, values in batch.items()} | {"key": keys}
    expected = generated(debug_run, adapters, twice)
    np.testing.assert_array_equal(once.tokens_BN, expected.tokens_BN)
    np.testing.assert_allclose(once.logp_BN, expected.logp_BN, atol=1e-4)
    assert (once.tokens_BN[::2] != once.tokens_BN[1::2]).any(axis=1).all()


def test_a_prompt_is_what_training_puts_before_the_reply(debug_run):
    tokenizer = debug_run.tokenizer
    turns = [{"role": role, "content": text} for role, text in (("user", "a "), ("assistant", " b"), ("user", "c"))]
    for chat in (turns[:1], turns):
        ids, mask_T = tokenizer.supervised_tokens([*chat, {"role": "assistant", "content": "the reply"}])
        prompt = prompt_tokens(tokenizer, chat)
        np.testing.assert_array_equal(prompt, ids[: len(prompt)])
        assert mask_T[len(prompt) :][0]
        assert not mask_T[len(prompt) - 1]
        assert tokenizer.decode(ids[len(prompt) :]).startswith("the reply")
    for bad, message in ((turns[:2], "must be the user's"), ([turns[0] | {"content": " "}], "empty turn of the user")):
        with pytest.raises(CumaError, match=message):
            prompt_tokens(tokenizer, bad)
