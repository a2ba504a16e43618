"""The server's addresses, in this process: every answer is right, and every bad request is a problem with a reason."""

import asyncio
import json

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs pip install -e '.[serve]'")
pytest.importorskip("sse_starlette", reason="needs pip install -e '.[serve]'")

from made_up_model import QUESTIONS, MadeUpStream, shares
from served import JAPAN, NEW, problem, run, serving, write_maps

from cuma_jax.serving.http.limits import Limits


def test_answers_are_the_models(tmp_path):
    async def steps():
        async with serving(tmp_path) as (client, _):
            body = {
                "groups": [JAPAN, {"where": "country=Peru; age>=30"}],
                "questions": ["q.trust", NEW | {"id": "home"}],
            }
            found = await client.post("/v1/predict", json=body)
            assert found.status_code == 200, found.text
            return found.json()["answers"]

    answers = run(steps())
    assert [(a["group"], a["question"]) for a in answers] == [
        (group, question) for group in ("country=Japan", "country=Peru; age>=30")
        for question in ("q.trust", "home")
    ]  # fmt: skip
    for answer in answers:
        np.testing.assert_allclose(
            answer["shares"], shares(answer["group"], answer["question"], len(answer["options"])), atol=1e-6
        )
    trained, new = answers[:2]
    assert trained["real"] == [0.5, 0.5]
    assert trained["notes"] == ["first", "second"]
    assert new["real"] is None
    assert new["options"] == NEW["options"]
    assert new["question_status"] == "new"


def test_no_request_is_mixed_up_and_those_that_wait_are_joined(tmp_path):
    async def steps():
        async with serving(tmp_path, call_s=0.02, fill=False) as (client, service):
            bodies = [
                {"groups": [JAPAN], "questions": [NEW | {"id": f"n{i}", "options": NEW["options"][: 2 + i % 2]}]}
                for i in range(60)
            ]
            found = await asyncio.gather(*(client.post("/v1/predict", json=body) for body in bodies))
            for i, response in enumerate(found):
                (answer,) = response.json()["answers"]
                assert answer["question"] == f"n{i}"
                np.testing.assert_allclose(answer["shares"], shares("country=Japan", f"n{i}", 2 + i % 2), atol=1e-6)
            return service.worker._model.calls

    calls = run(steps())
    assert sum(calls) == 60
    assert len(calls) < 10


def test_trained_questions_need_no_model_once_they_are_kept(tmp_path):
    async def steps(keep):
        async with serving(tmp_path, keep=True, fill=keep) as (client, service):
            cells = (await client.get("/data/cells.json")).json()
            for _ in range(200):
                if not service.cells.missing and (tmp_path / "cells.parquet").exists():
                    break
                await asyncio.sleep(0.02)
            before = len(service.worker._model.calls)
            cells = (await client.get("/data/cells.json")).json()
            found = (await client.post("/v1/predict", json={"groups": [JAPAN], "questions": ["q.work"]})).json()
            table = (await client.get("/v1/cells.csv")).text
            assert len(service.worker._model.calls) == before
            return cells, found["answers"][0], table, before

    first, second = run(steps(True)), run(steps(False))
    assert first[:3] == second[:3]
    assert first[3]
    assert not second[3], "the second server reads what the first has kept"
    cells, answer, table, _ = first
    labels = [group["label"] for group in cells["groups"]]
    assert len(labels) == 2 + 2 + 3 + 2 * 2 + 2 * 3
    assert cells["groups"][labels.index("country=Japan; sex=male")]["where"] == {"country": ["Japan"], "sex": ["male"]}
    assert cells["complete"]
    assert cells["questions"] == list(QUESTIONS)
    place = labels.index("country=Japan")
    for key, there in (("predicted", "shares"), ("real", "real"), ("low", "low"), ("own_average", "own_average")):
        assert cells[key]["q.work"][place] == answer[there]
    assert cells["logistic"]["q.work"][place] is None
    assert cells["pooled"]["q.work"] == answer["pooled"]
    assert len(table.splitlines()) == 1 + len(labels) * 5


def test_the_pages_documents_and_the_lists_say_the_same(tmp_path):
    async def steps():
        async with serving(tmp_path) as (client, _):
            for name in ("run", "fields", "questions"):
                page, public = [(await client.get(path)).json() for path in (f"/data/{name}.json", f"/v1/{name}")]
                assert page == public
            facts = (await client.get("/data/run.json")).json()
            assert (facts["name"], facts["static"], facts["country_field"]) == ("made_up", False, "country")
            fields = (await client.get("/v1/fields")).json()
            assert [field["name"] for field in fields] == ["country", "sex", "age"]
            assert fields[2]["numeric"]
            assert (await client.get("/data/countries.json")).json() == {"Japan": "392", "Peru": "604"}
            problem(await client.get("/data/culture_map.json"), 404)
            places = write_maps(tmp_path)
            assert (await client.get("/data/culture_map.json")).json() == places
            names = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
            assert names == ["run", "base"]
            paths = (await client.get("/openapi.json")).json()["paths"]
            assert {"/v1/predict", "/v1/chat/completions", "/v1/cells.csv", "/healthz", "/metrics"} <= set(paths)
            gates = (await client.post("/v1/gates", json={"groups": [JAPAN], "questions": ["q.trust"]})).json()
            assert gates["layers"] == [3, 4]
            assert gates["gates"] == [{"group": "country=Japan", "question": "q.trust", "gate": [[0.5, 0.5]] * 2}]
            peru = {"where": "country=Peru"}
            twice = {"groups": [JAPAN, peru, JAPAN], "questions": ["q.trust"]}
            found = (await client.post("/v1/gates", json=twice)).json()["gates"]
            assert [one["group"] for one in found] == ["country=Japan", "country=Peru"]
            tag = (await client.get("/data/run.json")).headers["etag"]
            assert (await client.get("/data/run.json", headers={"If-None-Match": tag})).status_code == 304

    run(steps())


LONG = "x" * 5000


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"groups": [{"where": {"gender": ["female"]}}]}, 422, "sex"),
        ({"groups": [{"where": {"country": ["Japn"]}}]}, 422, "Japan"),
        ({"groups": [JAPAN], "questions": ["q.wrok"]}, 422, "q.work"),
        ({"groups": [JAPAN] * 10_000, "questions": ["q.work"]}, 422, "500"),
        ({"groups": [], "questions": ["q.work"]}, 422, "groups"),
        ({"groups": [JAPAN], "questions": [NEW | {"text": ""}]}, 422, "text"),
        ({"groups": [JAPAN], "questions": [NEW | {"text": LONG}]}, 422, "4000"),
        ({"groups": [JAPAN], "questions": [NEW | {"text": "x" * 1_100_000}]}, 413, "1,048,576"),
        ({"groups": [JAPAN], "questions": [NEW | {"options": ["One"]}]}, 422, "options"),
        ({"groups": [JAPAN], "questions": [NEW | {"options": [str(i) for i in range(27)]}]}, 422, "26"),
        ({"groups": [JAPAN], "questions": [NEW | {"options": ["A", "A"]}]}, 422, "twice|equal|differ|same"),
        ({"groups": [JAPAN], "option_orders": 0}, 422, "option_orders"),
        ({"groups": [JAPAN], "people": "everybody"}, 422, "unseen_respondent"),
        ({"group": [JAPAN]}, 422, "groups"),
        ({"groups": [JAPAN], "questions": [NEW | {"text": "FAIL"}]}, 422, "cannot be asked"),
        ({"groups": [JAPAN], "questions": [NEW | {"text": "BREAK"}]}, 500, "its log"),
        ([1, 2], 422, "the body"),
        ("{", 400, "JSON"),
        ("[" * 200_000, 400, "body"),
        ('{"groups": [{}], "questions": [{"text": "\\ud800", "options": ["a", "b"]}]}', 422, "text"),
        ('{"groups": [{"where": {"country": ["\\u0000"]}}]}', 422, "country"),
        ('{"groups": [{}], "option_orders": NaN}', 422, "option_orders"),
        (b"\xff\xfe{}", 400, "body"),
    ],
)
def test_a_bad_question_is_one_clear_message(tmp_path, body, status, said):
    async def steps():
        async with serving(tmp_path, fill=False) as (client, _):
            text = body if isinstance(body, str | bytes) else json.dumps(body)
            detail = problem(
                await client.post("/v1/predict", content=text, headers={"Content-Type": "application/json"}), status
            )
            assert any(word in detail for word in said.split("|")), detail
            assert len(detail) < 1000
            good = await client.post("/v1/predict", json={"groups": [JAPAN], "questions": ["q.work"]})
            assert good.status_code == 200, "the server goes on"

    run(steps())


def test_one_bad_request_of_a_joined_batch_spoils_no_other(tmp_path):
    async def steps():
        async with serving(tmp_path, fill=False) as (client, service):
            model = service.worker._model
            model.hold.clear()
            bodies = [{"groups": [JAPAN], "questions": [NEW | {"text": text}]} for text in ("a", "b", "FAIL", "c")]
            tasks = [asyncio.create_task(client.post("/v1/predict", json=body)) for body in bodies]
            await asyncio.sleep(0.2)
            model.hold.set()
            return [response.status_code for response in await asyncio.gather(*tasks)]

    assert run(steps()) == [200, 200, 422, 200]


def test_content_hosts_methods_and_addresses_are_checked(tmp_path):
    async def steps():
        async with serving(tmp_path, fill=False) as (client, _):
            body = json.dumps({"groups": [JAPAN], "questions": ["q.work"]})
            for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
                answer = await client.post("/v1/predict", content=body, headers={"Content-Type": kind})
                assert "application/json" in problem(answer, 415)
            problem(await client.get("/v1/nothing"), 404)
            problem(await client.get("/v1/predict"), 405)
            problem(await client.get("/v1/run", headers={"Host": "evil.example"}), 421)
            problem(await client.get("/../../setup.py"), 404)
            good = await client.get("/v1/run", headers={"Host": "localhost:8000", "Origin": "http://evil.example"})
            assert good.headers["content-security-policy"].startswith("default-src 'self'")
            assert good.headers["x-content-type-options"] == "nosniff"
            assert not [name for name in good.headers if name.startswith("access-control")]

    run(steps())


def test_a_key_is_asked_for_and_is_in_no_log(tmp_path, caplog, capfd):
    key = "a-long-secret-key-of-tests"

    async def steps():
        async with serving(tmp_path, key=key) as (client, _):
            for headers in (
                {},
                {"Authorization": "Bearer wrong"},
                {"Authorization": f"Basic {key}"},
                {"Authorization": b"Bearer \xe4"},
            ):
                assert "key" in problem(await client.get("/v1/run", headers=headers), 401)
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.get("/v1/run", headers={"Authorization": f"Bearer {key}"})).status_code == 200
            assert (await client.get("/index.html")).status_code in (200, 404)
            body = {"groups": [JAPAN], "questions": [NEW | {"text": "BREAK"}]}
            problem(await client.post("/v1/predict", json=body, headers={"Authorization": f"Bearer {key}"}), 500)
            return (await client.get("/metrics", headers={"Authorization": f"Bearer {key}"})).text

    measures = run(steps())
    assert 'cuma_requests_total{method="POST",route="/v1/predict",status="500"} 1.0' in measures
    assert "ZeroDivisionError" in caplog.text
    assert key not in caplog.text + measures + "".join(capfd.readouterr())


def test_what_is_too_much_is_refused_in_order_and_the_rest_is_answered(tmp_path):
    async def steps():
        limits = Limits(waiting=16)
        async with serving(tmp_path, limits=limits, fill=False, call_s=0.01) as (client, service):
            model = service.worker._model
            model.hold.clear()
            bodies = [{"groups": [JAPAN], "questions": [NEW | {"id": str(i)}]} for i in range(200)]
            tasks = [asyncio.create_task(client.post("/v1/predict", json=body)) for body in bodies]
            await asyncio.sleep(0.5)
            model.hold.set()
            return await asyncio.gather(*tasks)

    found = run(steps())
    good = [response for response in found if response.status_code == 200]
    assert 16 <= len(good) <= 32, "those that waited, and those that were joined before"
    for response in found:
        if response.status_code != 200:
            problem(response, 429)
            assert 1 <= int(response.headers["retry-after"]) <= 60


def test_a_request_past_its_deadline_is_given_up(tmp_path):
    async def steps():
        async with serving(tmp_path, limits=Limits(deadline_s=0.3), fill=False) as (client, service):
            model = service.worker._model
            model.hold.clear()
            body, late = {"groups": [JAPAN], "questions": [NEW]}, []
            for _ in range(3):
                late.append(asyncio.create_task(client.post("/v1/predict", json=body)))
                while not model.calls:
                    await asyncio.sleep(0.01)
            for answer in await asyncio.gather(*late):
                problem(answer, 504)
            model.hold.set()
            await asyncio.sleep(0.1)
            return model.calls

    assert sum(run(steps())) == 1, "what nobody waits for any more is not computed"


def test_a_slow_body_is_cut_off(tmp_path):
    async def drip():
        yield b'{"groups": '
        await asyncio.sleep(5)

    async def flood():
        for _ in range(100):
            yield b" " * 100_000

    async def steps():
        async with serving(tmp_path, limits=Limits(body_s=0.2), fill=False) as (client, _):
            headers = {"Content-Type": "application/json"}
            problem(await client.post("/v1/predict", content=drip(), headers=headers), 408)
            problem(await client.post("/v1/predict", content=flood(), headers=headers), 413)

    run(steps())


def test_hostile_texts_come_out_inert(tmp_path):
    hostile = {
        "text": "Is 1 < 2? <script>alert(1)</script>",
        "options": ["=1+1", "<|im_start|>system", "@x\r\n"],
        "id": "=cmd",
    }

    async def steps():
        async with serving(tmp_path, fill=False) as (client, _):
            found = await client.post("/v1/predict", json={"groups": [JAPAN], "questions": [hostile]})
            return found

    found = run(steps())
    assert found.headers["content-type"] == "application/json"
    assert found.json()["answers"][0]["question"] == "=cmd"

    from cuma_jax.serving.http.answers import csv_lines, inert

    assert [inert(text) for text in ("=1+1", "-2", "+x", "@x", "\tx", "plain", -0.5)] == [
        "'=1+1", "'-2", "'+x", "'@x", "'\tx", "plain", -0.5,
    ]  # fmt: skip
    import pandas as pd

    lines = b"".join(csv_lines(pd.DataFrame({"option": ['=HYPERLINK("x")'], "share": [0.5]}))).decode()
    assert lines == 'option,share\r\n"\'=HYPERLINK(""x"")",0.5\r\n'


def test_streams_do_not_outlive_those_who_read_them(tmp_path):
    async def steps():
        async with serving(tmp_path, fill=False, word_s=0.02) as (_, service):
            events = service.worker.chat(
                lambda model: model.chat({}, [{"role": "user", "content": "word " * 500}], stream=True)
            )
            await anext(events)
            assert MadeUpStream.alive == 1
            await events.aclose()
            for _ in range(500):  # the model's thread sees it at its next turn, which may be late on a busy machine
                if MadeUpStream.alive == 0:
                    break
                await asyncio.sleep(0.02)
            assert MadeUpStream.alive == 0

    run(steps())
