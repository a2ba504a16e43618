"""A model for tests of the server: its answers are a function of group and question, and it counts what it is asked."""

import pathlib
import threading
import time
import zlib
from collections.abc import Sequence

import numpy as np
import pandas as pd

from cuma_jax.runtime.errors import CumaError
from cuma_jax.serving import COLUMNS, ChatReply, ChatStream, Model, Request
from cuma_jax.serving.groups import Condition, Group, make_field, parse_groups
from cuma_jax.serving.questions import Ask

QUESTIONS = {
    "q.work": ("Is work important?", ["Very", "Rather", "Not at all"]),
    "q.trust": ("Can most people be trusted?", ["Yes", "No"]),
}


class MadeUpStream(ChatStream):
    """Words, one at a time; `alive` counts those that are being written."""

    alive = 0

    def __init__(self, model, words, profile, stopped):
        self._model, self._words, self._profile, self._stopped = model, list(words), profile, stopped
        self._said, self._open, self.reply = [], True, None
        MadeUpStream.alive += 1

    def __next__(self):
        assert threading.get_ident() == self._model.thread
        time.sleep(self._model.word_s)
        if len(self._said) == len(self._words):
            self.close()
            text = "".join(self._said)
            self.reply = ChatReply(text, 7, len(self._words) + self._stopped, self._stopped, self._profile, ("a note",))
            raise StopIteration
        self._said.append(self._words[len(self._said)])
        return self._said[-1]

    def close(self):
        MadeUpStream.alive -= self._open
        self._open = False


class MadeUpModel(Model):
    """See the top of the file."""

    can_predict = True

    def __init__(self, folder, call_s=0.0, word_s=0.0, fails=None):
        self.folder, self.name = pathlib.Path(folder), "made_up"
        self.about = {"base": {"source": "random:tiny", "revision": ""}, "warnings": ["w"], "errors": {},
                      "data": {"name": "invented", "source": "invented", "waves": []}, "created": None, "steps": 5,
                      "method": {"objective": "choice"}, "min_cell": 20, "option_orders": 1, "has_router": True,
                      "has_answers": True, "cite": "Cite this."}  # fmt: skip
        counts = {"country": {"Japan": 30, "Peru": 20}, "sex": {"female": 25, "male": 25},
                  "age": {"18-29": 20, "30-59": 20, "60+": 10}}  # fmt: skip
        self.fields = {name: make_field(name, values) for name, values in counts.items()}
        self.call_s, self.word_s, self.fails = call_s, word_s, fails
        self.calls: list[int] = []
        self.thread = None
        self.hold = threading.Event()
        self.hold.set()

    @property
    def questions(self):
        rows = [(name, text, options, True, "in training", 50, "W") for name, (text, options) in QUESTIONS.items()]
        return pd.DataFrame(rows, columns=["id", "text", "options", "ordered", "status", "n", "source"])

    def start(self):
        if self.fails is not None:
            raise self.fails
        self.thread = threading.get_ident()
        return self

    @property
    def started(self):
        return self.thread is not None

    def groups_of(self, *fields):
        groups = [Group()]
        for field in fields:
            values = self.fields[field].values
            groups = [Group((*g.conditions, Condition(field, (value,)))) for g in groups for value in values]
        return groups

    def request(self, groups, questions=None, option_orders=None, average_over="people", people="all"):
        parsed = parse_groups(groups, self.fields, average_over == "profile")
        asked = list(QUESTIONS) if questions is None else questions
        asked = [asked] if isinstance(asked, str | Ask) else list(asked)
        for one in asked:
            if isinstance(one, str) and one not in QUESTIONS:
                raise CumaError(f"unknown question {one!r}; there are {', '.join(QUESTIONS)}")
        return Request(tuple(parsed), tuple(asked), option_orders, average_over, people)

    def predict(self, groups, questions=None, option_orders=None, average_over="people", people="all"):
        return self.predict_many([self.request(groups, questions, option_orders, average_over, people)])[0]

    def predict_many(self, requests: Sequence[Request]):
        assert threading.get_ident() == self.thread, "one thread owns the model"
        self.calls.append(len(requests))
        self.hold.wait(20)
        time.sleep(self.call_s)
        return [self.table(request) for request in requests]

    def table(self, asked: Request):
        """The answer to a request."""
        rows = []
        for group in asked.groups:
            for question in asked.questions:
                new = isinstance(question, Ask)
                if new and "FAIL" in question.text:
                    raise CumaError("this question cannot be asked")
                if new and "BREAK" in question.text:
                    raise ZeroDivisionError("a secret of the server")
                name = (question.id or question.text) if new else question
                options = list(question.options) if new else QUESTIONS[question][1]
                for option, share in zip(options, shares(group.label, name, len(options)), strict=True):
                    real = float("nan") if new else 1 / len(options)
                    rows.append([group.label, name, option, share, real - 0.1, real + 0.1, real, 0 if new else 40,
                                 real, real, float("nan"), "in training", "new" if new else "in training", 0.1,
                                 "unseen_respondent", 0.02, 25, "first; second"])  # fmt: skip
        return pd.DataFrame(rows, columns=list(COLUMNS))

    def predict_gates(self, groups, questions=None):
        rows = [(g.label, layer, e, 0.5) for g in parse_groups(groups, self.fields) for layer in (3, 4) for e in (1, 2)]
        return pd.DataFrame(rows, columns=["group", "layer", "expert", "gate"])

    def chat(self, profile, prompt, base=False, max_new_tokens=None, temperature=None, seed=None, stream=False):
        last = prompt[-1]["content"]
        if "FAIL" in last:
            raise CumaError("this cannot be said")
        who = ", ".join(profile.values()) or "nobody"
        words = [f"{'base' if base else 'run'} ", f"as {who}: ", *(f"{word} " for word in last.split())]
        stopped = max_new_tokens is None or len(words) <= max_new_tokens
        return MadeUpStream(self, words[:max_new_tokens], dict(profile), stopped)


def shares(group, question, options):
    """The made-up distribution of a cell."""
    rng = np.random.default_rng(zlib.crc32(f"{group}|{question}".encode()))
    return [float(share) for share in rng.dirichlet(np.ones(options))]
