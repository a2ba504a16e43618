"""Requests a second of `python -m cuma_jax.serve`, for several numbers of clients, joined and one by one in one run.

    python benchmarks/serve.py --run runs/quickstart                    all of it, about 10 minutes on 2 cores
    python benchmarks/serve.py --run runs/quickstart --seconds 5 --memory 0     a short look

The run's tables must be there (`python -m cuma_jax.serve --run RUN` once, until `cells_missing` of /healthz
is small: about 10 minutes on 2 cores). Two servers of it: one joins predictions that wait together, as always; the
other answers them one by one. They are loaded in turns. Asked are

- trained: questions of the run (kept tables);
- shared: eight new questions, of many profiles, as where a class looks at one question;
- profile: new questions, each of another wording, of one profile;
- country (--kinds): the same of a country's people.

Every answer is checked: it must be to the question that was asked, and new ones must be within 1e-6 of those of the
other server. To reach: joined, 4 times as many new questions a second at 64 clients, where texts are shared (and on
accelerators where they are not: on a CPU reading each text is most of the work, whatever is joined); no request lost;
memory after 10,000 requests within 5% of after 100.
"""

import argparse
import asyncio
import itertools
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx

SERVER = """
import sys
import cuma_jax.serving
from cuma_jax.serving.http.limits import Limits
from cuma_jax.serving.http.server import serve
model = cuma_jax.serving.load(sys.argv[1], start=False)
limits = Limits(waiting=1000, deadline_s=600)
said = lambda text: print(text, flush=True)
serve(model, port=int(sys.argv[2]), limits=limits, joined=sys.argv[3] == "joined", fill=False, said=said)
"""
CLIENTS, KINDS = (1, 8, 64), ("trained", "shared", "profile", "country")
THINGS = ("work from home", "vote at sixteen", "keep bees in a city", "close shops on Sundays", "own land abroad")
OPTIONS = (["Never", "Sometimes", "Always"], ["Yes", "No"], ["Agree", "Neither", "Disagree", "Strongly disagree"])


class Server:
    """A process that serves."""

    def __init__(self, run: str, name: str, logs: pathlib.Path):
        self.name = name
        self.log = logs / f"{self.name.replace(' ', '_')}.log"
        self.began = time.perf_counter()
        with self.log.open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-c", SERVER, run, "0", name], stdout=log, stderr=log)
        self.address = ""

    async def wait(self) -> float:
        """Waits until the model is loaded; seconds since its start. `listens`: seconds until it answered at all."""
        self.listens = 0.0
        while True:
            if self.process.poll() is not None:
                sys.exit(f"the server ended:\n{self.log.read_text()}")
            text = self.log.read_text()
            if "http://" in text:
                self.address = "http://" + text.split("http://")[1].split("/")[0]
                try:
                    async with httpx.AsyncClient() as client:
                        health = (await client.get(f"{self.address}/healthz", timeout=60)).json()
                    self.listens = self.listens or time.perf_counter() - self.began
                    if health["ready"]:
                        return time.perf_counter() - self.began
                except httpx.HTTPError:
                    pass
            await asyncio.sleep(0.2)

    def memory(self) -> int:
        """Resident bytes."""
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Load:
    """Requests, and what became of them."""

    def __init__(self, fields: list[dict[str, Any]], questions: list[dict[str, Any]], cells: dict[str, Any]):
        # Those that are kept for the first field's values.
        self._questions = [question["id"] for question in questions if question["id"] in cells["questions"]]
        self._field = fields[0]["name"]
        self._values = [value["value"] for value in fields[0]["values"]]
        self._profile = {self._field: self._values[0]}
        # Profiles that somebody has: the first field with the one that it is crossed with most often.
        pairs: dict[str, list[dict[str, str]]] = {}
        for where in (group["where"] for group in cells["groups"] if len(group["where"]) == 2):
            pairs.setdefault("+".join(where), []).append({name: values[0] for name, values in where.items()})
        self._profiles = max(pairs.values(), key=len, default=[self._profile])
        self._number = itertools.count()
        self.known: dict[str, list[float]] = {}
        self.wrong = 0

    def body(self, kind: str, number: int) -> dict[str, Any]:
        """The request of a number: the same for both servers."""
        group = {"where": {self._field: [self._values[number % len(self._values)]]}}
        if kind == "trained":
            return {"groups": [group], "questions": [self._questions[number % len(self._questions)]]}
        if kind == "shared":
            which, who = number % 8, self._profiles[number // 8 % len(self._profiles)]
            text = f"Should people be allowed to {THINGS[which % 5]}? (Shared {which})"
            asked = {"text": text, "options": OPTIONS[which % 3], "ordered": True, "id": f"shared-{which}"}
            return {"groups": [{"where": who}], "questions": [asked], "average_over": "profile"}
        text = f"Should people be allowed to {THINGS[number % len(THINGS)]}? (Version {kind} {number})"
        options = OPTIONS[number % len(OPTIONS)]
        asked = {"text": text, "options": options, "ordered": True, "id": f"{kind}-{number}"}
        if kind == "profile":
            return {"groups": [{"where": self._profile}], "questions": [asked], "average_over": "profile"}
        return {"groups": [group], "questions": [asked]}

    def check(self, kind: str, number: int, body: dict[str, Any], answer: dict[str, Any]) -> None:
        """Counts an answer that is not the one to this request."""
        asked = body["questions"][0]
        name = asked if isinstance(asked, str) else asked["id"]
        good = answer["question"] == name and abs(sum(answer["shares"]) - 1) < 1e-5
        if kind != "trained":
            good &= answer["options"] == asked["options"]
        before = self.known.setdefault(json.dumps([kind, number]), answer["shares"])
        good &= len(before) == len(answer["shares"])
        good &= max(abs(a - b) for a, b in zip(before, answer["shares"], strict=False)) < 1e-6
        self.wrong += not good

    async def run(self, server: Server, kind: str, clients: int, seconds: float, first: int = 0) -> dict[str, Any]:
        """`clients` clients, each with one request at a time, for some seconds; then all that are under way end."""
        numbers, times, lost = itertools.count(first), [], 0
        limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
        async with httpx.AsyncClient(base_url=server.address, timeout=600, limits=limits) as http:

            async def client() -> None:
                nonlocal lost
                while time.perf_counter() < until:
                    number = next(numbers)
                    body = self.body(kind, number)
                    start = time.perf_counter()
                    response = await http.post("/v1/predict", json=body)
                    times.append(time.perf_counter() - start)
                    if response.status_code == 200:
                        self.check(kind, number, body, response.json()["answers"][0])
                    else:
                        lost += 1

            began = time.perf_counter()
            until = began + seconds
            await asyncio.gather(*(client() for _ in range(clients)))
            spent = time.perf_counter() - began
        ordered = sorted(times)
        return {
            "per_s": len(times) / spent,
            "p50": statistics.median(ordered),
            "p95": ordered[min(int(0.95 * len(ordered)), len(ordered) - 1)],
            "n": len(times),
            "lost": lost,
        }


async def throughput(args: argparse.Namespace, load: Load, servers: list[Server]) -> bool:
    """Prints the table; whether what is to be reached was."""
    print(f"{'asked':<10}{'clients':>8}  {'server':<12}{'requests/s':>11}{'p50 s':>9}{'p95 s':>9}{'n':>7}{'lost':>6}")
    ratios, good = {}, True
    first = 0
    for kind in args.kinds:
        for server in servers:  # programs are compiled, and are not timed
            await load.run(server, kind, 8, 1.0, 1_000_000)
        for clients in CLIENTS:
            found = {server.name: await load.run(server, kind, clients, args.seconds, first) for server in servers}
            first += 1_000
            for name, row in found.items():
                print(
                    f"{kind:<10}{clients:>8}  {name:<12}{row['per_s']:>11.2f}{row['p50']:>9.3f}{row['p95']:>9.3f}"
                    f"{row['n']:>7}{row['lost']:>6}",
                    flush=True,
                )
                good &= row["lost"] == 0
            ratios[kind, clients] = found["joined"]["per_s"] / found["one by one"]["per_s"]
    for (kind, clients), ratio in ratios.items():
        print(f"{kind}, {clients} clients: joined / one by one = {ratio:.2f}")
    print(f"answers that were another's, or differ by more than 1e-6: {load.wrong} of {len(load.known)} kinds")
    return good and not load.wrong and ratios.get(("shared", 64), 4) >= 4


async def memory(args: argparse.Namespace, load: Load, server: Server) -> bool:
    """Memory after 100 requests and after `args.memory`: 49 trained questions and a new one in fifty."""
    done, sizes = 0, {}
    async with httpx.AsyncClient(base_url=server.address, timeout=600) as http:

        async def ask(number: int) -> None:
            kind = "profile" if number % 50 == 0 else "trained"
            body = load.body(kind, number + 2_000_000)
            response = await http.post("/v1/predict", json=body)
            load.check(kind, number + 2_000_000, body, response.json()["answers"][0])

        for step in (100, args.memory):
            while done < step:
                await asyncio.gather(*(ask(done + i) for i in range(20)))
                done += 20
            sizes[done] = server.memory()
    (few, small), (many, large) = sizes.items()
    sizes_text = f"{small / 1e6:.0f} MB, after {many:,} {large / 1e6:.0f} MB: {large / small - 1:+.1%}"
    print(f"memory after {few} requests {sizes_text}")
    return large <= 1.05 * small


async def restarts(run: str, server: Server, load: Load, logs: pathlib.Path) -> bool:
    """Ends a loaded server by SIGTERM, a second by SIGKILL; seconds until one started after each answers."""
    good = True
    for number in (signal.SIGTERM, signal.SIGKILL):
        work = asyncio.ensure_future(load.run(server, "profile", 16, 20.0, 3_000_000 + number * 1000))
        await asyncio.sleep(3)
        server.process.send_signal(number)
        began = time.perf_counter()
        code = await asyncio.to_thread(server.process.wait)
        ended = time.perf_counter() - began
        outcome = (await asyncio.gather(work, return_exceptions=True))[0]
        server = Server(run, "joined", logs)
        seconds = await server.wait()
        saw = type(outcome).__name__ if isinstance(outcome, BaseException) else outcome
        print(f"{number.name} under load: ended with {code} after {ended:.1f} s, clients saw {saw}")
        print(f"  started again, it answers after {server.listens:.1f} s, new questions after {seconds:.1f} s")
        good &= server.listens < 15
    server.process.kill()
    return good


async def measure(args: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        logs = pathlib.Path(folder)
        servers = [Server(args.run, name, logs) for name in ("joined", "one by one")]
        try:
            for server in servers:
                print(f"{server.name}: ready after {await server.wait():.1f} s")
            async with httpx.AsyncClient(base_url=servers[0].address, timeout=60) as http:
                fields, questions = [(await http.get(f"/v1/{name}")).json() for name in ("fields", "questions")]
                try:
                    cells = (await http.get("/data/cells.json")).json()
                except httpx.ReadTimeout:
                    sys.exit(f"{args.run} has no tables yet: see --help")
            load = Load(fields, questions, cells)
            good = await throughput(args, load, servers)
            servers[1].process.kill()
            if args.memory:
                good &= await memory(args, load, servers[0])
            good &= await restarts(args.run, servers[0], load, logs)
        finally:
            for server in servers:
                server.process.kill()
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", default="runs/quickstart")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    parser.add_argument("--kinds", nargs="+", default=["trained", "shared", "profile"], choices=KINDS)
    parser.add_argument("--memory", type=int, default=10_000, help="requests; 0: not measured")
    args = parser.parse_args()
    if not asyncio.run(measure(args)):
        sys.exit("not reached; see above")


if __name__ == "__main__":
    main()
