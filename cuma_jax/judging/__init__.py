"""A judge of two replies, behind any OpenAI-compatible endpoint."""

from cuma_jax.judging.judge import FIRST, SECOND, TIE, Judge, Judged, ReplyPair, figures

__all__ = ["FIRST", "SECOND", "TIE", "Judge", "Judged", "ReplyPair", "figures"]
