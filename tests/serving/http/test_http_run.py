"""A trained run over HTTP: the same figures and the same text as from Python, and as `evaluate` wrote."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs pip install -e '.[serve]'")
pytest.importorskip("sse_starlette", reason="needs pip install -e '.[serve]'")

from conftest import changed
from served import NEW, run, serving
from served_runs import opened, per_cell, scored_run


@pytest.fixture(scope="module", autouse=True)
def _own_settings():
    with pytest.MonkeyPatch.context() as patch:
        for where in ("commands.score_run", "serving.asking.opening"):
            patch.setattr(f"cuma_jax.{where}.prepare_jax", lambda config: None)
        yield


@pytest.fixture(scope="module")
def made(debug_config, run_on, random_adapters, tmp_path_factory):
    """A run with random adapters that is scored, opened from its bundle: (its folder, the model)."""
    evaluation = {"splits": ("unseen_respondent", "unseen_country"), "max_profiles": 10, "bootstrap": 20}
    put = run_on(changed(debug_config, evaluation=evaluation))
    folder = scored_run(tmp_path_factory.mktemp("runs") / "run", put, random_adapters(put))
    return folder, opened(folder, put.config.mesh)


@pytest.mark.slow
def test_figures_are_those_of_evaluate_of_python_and_of_the_page(made):
    folder, model = made
    scored = per_cell(folder)

    async def steps():
        async with serving(model=model, keep=True) as (client, service):
            found = {}
            for split, group, question in scored:
                body = {"groups": [{"where": {"country": [group]}}], "questions": [question], "people": split}
                found[split, group, question] = (await client.post("/v1/predict", json=body)).json()["answers"][0]
            new = [{"groups": [{}], "questions": [NEW | {"text": f"{NEW['text']} {i}"}]} for i in range(6)]
            joined = [r.json() for r in await asyncio.gather(*(client.post("/v1/predict", json=b) for b in new))]
            alone = [(await client.post("/v1/predict", json=body)).json() for body in new]
            while service.cells.missing:
                await asyncio.sleep(0.05)
            return found, joined, alone, (await client.get("/data/cells.json")).json()

    found, joined, alone, page = run(steps(), 300)
    for cell, answer in found.items():
        np.testing.assert_allclose(answer["shares"], scored[cell][0], atol=1e-6)
        np.testing.assert_allclose(answer["real"], scored[cell][1], atol=1e-6)
    assert joined == alone
    assert page["complete"]
    for group, where in ((0, page["groups"][0]["where"]), (-1, page["groups"][-1]["where"])):
        table = model.predict(where)
        for question in page["questions"]:
            rows = table[table["question"] == question]
            np.testing.assert_allclose(page["predicted"][question][group], rows["share"], atol=1e-6)
            np.testing.assert_allclose(page["pooled"][question], rows["pooled"], atol=1e-6)
    assert (folder / "cells.parquet").is_file()


@pytest.mark.slow
def test_chats_say_what_python_says(made):
    _, model = made
    asked = [{"role": "user", "content": "What matters in life?"}]
    profile = {field: next(iter(values.values)) for field, values in model.fields.items() if values.told}

    async def steps():
        async with serving(model=model, fill=False) as (client, _):
            body = {"model": "run", "messages": asked, "profile": profile, "temperature": 0, "max_tokens": 12}
            whole = (await client.post("/v1/chat/completions", json=body)).json()
            stream = (await client.post("/v1/chat/completions", json=body | {"stream": True})).text
            return whole, stream

    whole, stream = run(steps(), 300)
    reply = model.reply(profile, asked, max_new_tokens=12, temperature=0)
    assert whole["choices"][0]["message"]["content"] == reply.text
    assert whole["usage"]["completion_tokens"] == reply.tokens
    assert whole["usage"]["prompt_tokens"] == reply.prompt_tokens
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    said = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
    assert said == reply.text
