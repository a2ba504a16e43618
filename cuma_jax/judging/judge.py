"""Which of two replies a person would prefer, as a judge says: both orders, cached, and no verdict made up.

A call that fails for good is None with its reason. It is never a score: whoever compares drops it and counts it.
"""

import asyncio
import collections
import concurrent.futures
import dataclasses
import datetime
import json
import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqdm import tqdm

from cuma_jax.config.preferences import JudgeConfig
from cuma_jax.judging.endpoint import CallFailed, Endpoint, in_parallel
from cuma_jax.judging.prompt import REMINDER, VERSION, comparison_messages, parse_verdict, plain, prompt_text
from cuma_jax.runtime.errors import CumaError
from cuma_jax.runtime.files import content_key, write_text

FIRST, SECOND, TIE = "first", "second", "tie"
_SAYS = ({"A": FIRST, "B": SECOND, "tie": TIE}, {"A": SECOND, "B": FIRST, "tie": TIE})
_SHORT = 500
"""Characters of the judge's own words that the cache keeps."""


@dataclasses.dataclass(frozen=True)
class ReplyPair:
    """Two replies to one conversation (`messages`, up to the user's turn); `Judged.score` is for the first.

    `profile`: who is asking, in words; empty: nothing is known.
    """

    profile: str
    messages: Sequence[Mapping[str, str]]
    first: str
    second: str


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the judge said of a comparison.

    Attributes:
        verdicts: who was preferred (FIRST, SECOND or TIE), with `first` shown first and with `second` shown first;
            None where that call failed for good.
        reason: why it failed; empty where nothing did.
        asked: False: the replies were equal, a tie without a call.
    """

    verdicts: tuple[str | None, str | None]
    reason: str = ""
    asked: bool = True

    @property
    def score(self) -> float | None:
        """1: the first is preferred in both orders; 0: the second is; 0.5: neither; None: a call failed for good."""
        if None in self.verdicts:
            return None
        if self.verdicts[0] != self.verdicts[1]:
            return 0.5
        return {FIRST: 1.0, SECOND: 0.0}.get(self.verdicts[0] or "", 0.5)

    @property
    def positions(self) -> tuple[str | None, str | None]:
        """Of each call, which place the preferred reply had: FIRST, SECOND, TIE; None where it failed."""
        swapped = {FIRST: SECOND, SECOND: FIRST}
        return self.verdicts[0], swapped.get(self.verdicts[1] or "", self.verdicts[1])


class AnswerStore:
    """Verdicts by request key: one small file each, written whole, so that several processes may share a folder."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder

    def _path(self, key: str) -> pathlib.Path:
        return self._folder / key[:2] / f"{key}.json"

    def get(self, key: str) -> dict[str, Any] | None:
        """What was kept for a request; None where there is nothing, or a file that is no answer."""
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) and found.get("verdict") in ("A", "B", "tie") else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keeps an answer; `value["verdict"]` is A, B or tie."""
        text = json.dumps(value, ensure_ascii=False)
        write_text(self._path(key), text + "\n")


class Judge:
    """Compares replies; verdicts are cached by the whole request, so that asking again is free and says the same.

    Answers are kept in the folder `judge` of `cache_dir`; for the other arguments see `Endpoint`.
    """

    def __init__(self, config: JudgeConfig, cache_dir: str | pathlib.Path, backoff: float = 1.0, processes: int = 1):
        self.config = config
        self._endpoint = Endpoint(config, backoff, processes)
        self._store = AnswerStore(pathlib.Path(cache_dir) / "judge")

    def check(self) -> None:
        """Asks once, about two replies of our own, before any long work: a wrong key, URL or model is a `CumaError`."""
        trial = [{"role": "user", "content": "How are you?"}]
        messages = comparison_messages("", trial, "I am well, thank you.", "Purple seven of of.")

        async def ask() -> None:
            async with self._endpoint.client() as client:
                await self._endpoint.ask(client, messages, parse_verdict, REMINDER)

        try:
            _run(ask)
        except CallFailed as failure:
            raise CumaError(
                f"the judge at {self._endpoint.url} gave no verdict on a trial question: {failure}"
            ) from None

    def requests_needed(self, comparisons: Sequence[ReplyPair]) -> int:
        """How many requests `compare` would send, if none had to be repeated: two a comparison, less what is cached."""
        return len(self._missing([self._requests(c) for c in comparisons]))

    def compare(
        self, comparisons: Sequence[ReplyPair], progress: str = "", max_failed: float | None = None
    ) -> list[Judged]:
        """Judges each comparison in both orders.

        Args:
            comparisons: what is compared; equal replies are a tie without a call, equal comparisons share their calls.
            progress: what the bar on stderr says; empty: no bar.
            max_failed: stops as soon as more than this share of the comparisons failed for good, or two rounds of
                calls in a row did (an outage); None: never.

        Returns:
            One `Judged` for each, in order. What failed has `score` None and its reason.

        Raises:
            CumaError: the endpoint cannot be used at all (401, 403, 404, ...), the budget does not suffice, or more
                than `max_failed` failed. Verdicts so far are cached.
        """
        requests = [self._requests(c) for c in comparisons]
        missing = self._missing(requests)
        left = self._endpoint.budget_left
        if left is not None and len(missing) > left:
            raise CumaError(
                f"the judge would be asked {len(missing)} times more, but judge.max_requests leaves {left}; raise it "
                "(0: no limit) or compare fewer"
            )
        failed = self._ask_all(missing, requests, progress, max_failed) if missing else {}
        return [self._judged(keys, failed) for keys in requests]

    def about(self) -> dict[str, Any]:
        """What results say of the judge: its name and address, our prompt, the date, and what was spent; no key."""
        return {
            "judge": self.config.model,
            "url": self._endpoint.url,
            "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
            "prompt_version": VERSION,
            "prompt": prompt_text(),
            "temperature": self._endpoint.temperature,
            "max_tokens": self.config.max_tokens,
            "spent": dataclasses.asdict(self._endpoint.spent),
        }

    def _requests(self, comparison: ReplyPair) -> dict[str, list[dict[str, str]]]:
        """Cache key -> messages, with the first reply in place A, then in place B; none where the replies are equal."""
        c, found = comparison, {}
        if plain(c.first) == plain(c.second):
            return {}
        for reply_a, reply_b in ((c.first, c.second), (c.second, c.first)):
            messages = comparison_messages(c.profile, c.messages, reply_a, reply_b)
            # Where it goes (the URL holds no secret), the prompt's version, and everything in the request.
            body = json.dumps(self._endpoint.body(messages), sort_keys=True, ensure_ascii=True)
            found[content_key(self._endpoint.url, str(VERSION), body)] = messages
        return found

    def _missing(self, requests: Sequence[Mapping[str, list]]) -> dict[str, list]:
        every = {key: messages for keys in requests for key, messages in keys.items()}
        return {key: messages for key, messages in every.items() if self._store.get(key) is None}

    def _judged(self, keys: Mapping[str, list], failed: Mapping[str, str]) -> Judged:
        if not keys:
            return Judged((TIE, TIE), asked=False)
        verdicts: list[str | None] = []
        for says, key in zip(_SAYS, keys, strict=True):
            answer = None if key in failed else self._store.get(key)
            verdicts.append(says[answer["verdict"]] if answer else None)
        reason = next((failed[key] for key in keys if key in failed), "")
        return Judged((verdicts[0], verdicts[1]), reason)

    def _ask_all(
        self,
        missing: Mapping[str, list],
        requests: Sequence[Mapping[str, list]],
        progress: str,
        max_failed: float | None,
    ) -> dict[str, str]:
        """Asks what is missing, keeps the answers, and returns the reason of each call that failed for good."""
        failed: dict[str, str] = {}
        watch = _Watch(requests, max_failed, 2 * self._endpoint.concurrency)
        pace = 0.1 if sys.stderr.isatty() else 30.0
        bar = tqdm(total=len(missing), desc=progress, unit="call", disable=not progress, mininterval=pace,
                   dynamic_ncols=True)  # fmt: skip
        left = iter(missing.items())

        async def ask() -> None:
            async with self._endpoint.client() as client:
                await in_parallel(min(self._endpoint.concurrency, len(missing)), lambda: work(client))

        async def work(client: Any) -> None:
            for key, messages in left:  # the workers share one iterator
                try:
                    answer = await self._endpoint.ask(client, messages, parse_verdict, REMINDER)
                except CallFailed as failure:
                    failed[key] = str(failure)
                    watch.failed(failed)
                else:
                    kept = plain(answer["answer"])[-_SHORT:]
                    about = {"prompt_version": VERSION, "model": self.config.model}
                    self._store.put(key, about | answer | {"answer": kept})
                    watch.answered()
                bar.update()

        try:
            _run(ask)
        finally:
            bar.close()
        return failed


class _Watch:
    """Ends a comparison that would end badly anyway: too much failed, or nothing is answered any more."""

    def __init__(self, requests: Sequence[Mapping[str, list]], max_failed: float | None, in_a_row: int):
        self._requests, self._max_failed, self._longest, self._row = requests, max_failed, in_a_row, 0

    def answered(self) -> None:
        self._row = 0

    def failed(self, failed: Mapping[str, str]) -> None:
        if self._max_failed is None:
            return
        self._row += 1
        total, what = len(self._requests), ""
        lost = sum(any(key in failed for key in keys) for keys in self._requests)
        if lost > self._max_failed * total:
            what = (f"{lost} of {total} comparisons failed for good, more than the share of {self._max_failed:g} that "
                    "may (judge.max_failed; in training reward.max_failed)")  # fmt: skip
        elif self._row >= self._longest:
            what = f"the last {self._row} calls of the judge failed for good"
        if what:
            counts = collections.Counter(failed.values()).most_common()
            often = f" ({counts[0][1]} of {len(failed)})" if len(counts) > 1 else ""
            raise CumaError(
                f"{what}: {counts[0][0]}{often}. Verdicts so far are cached; run the same command again when the judge "
                "answers"
            )


def _run(work: Callable[[], Any]) -> None:
    """Runs a coroutine to its end, also where an event loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(work())
        return
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(work())).result()
