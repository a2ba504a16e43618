"""What was trained, put to use: `load` gives a `Model` that predicts groups' answers and chats.

Nothing here imports JAX until a model is started.
"""

from cuma_jax.serving.groups import Condition, Field, Group, parse_group, parse_groups
from cuma_jax.serving.load import load
from cuma_jax.serving.model import Model
from cuma_jax.serving.questions import Ask
from cuma_jax.serving.replies import ChatReply, ChatStream
from cuma_jax.serving.requests import COLUMNS, Request

__all__ = [
    "COLUMNS",
    "Ask",
    "ChatReply",
    "ChatStream",
    "Condition",
    "Field",
    "Group",
    "Model",
    "Request",
    "load",
    "parse_group",
    "parse_groups",
]
