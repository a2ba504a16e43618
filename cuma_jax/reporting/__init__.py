"""One self-contained page about a run."""

from cuma_jax.reporting.report import add_preferences, render_report, write_report

__all__ = ["add_preferences", "render_report", "write_report"]
