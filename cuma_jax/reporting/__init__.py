"""One self-contained page about a run."""

from cuma_jax.reporting.report import render_report, write_report

__all__ = ["render_report", "write_report"]
