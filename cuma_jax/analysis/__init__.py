"""What a run learnt about groups of people: collapse, conflict between their gradients, and who shares experts."""

from cuma_jax.analysis.run import ANALYSIS_FILE, Analysis, analyze_run, write_analysis

__all__ = ["ANALYSIS_FILE", "Analysis", "analyze_run", "write_analysis"]
