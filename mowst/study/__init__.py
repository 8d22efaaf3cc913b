r"""Studies: many runs, their results, and the search for settings."""

from mowst.study.best import best_row
from mowst.study.figures import plot_confidence, plot_deferral_runs, plot_predictions
from mowst.study.lines import RESULTS, append_line, read_lines, read_runs, select_newest
from mowst.study.report import write_report
from mowst.study.run import run_one
from mowst.study.run_spec import RunSpec, expand, read_rows
from mowst.study.runner import run_study
from mowst.study.statistics import paired_difference
from mowst.study.sweep import sweep
from mowst.study.tables import results_table
from mowst.train.plots import plot_history

__all__ = [
    "RESULTS",
    "RunSpec",
    "append_line",
    "best_row",
    "expand",
    "paired_difference",
    "plot_confidence",
    "plot_deferral_runs",
    "plot_history",
    "plot_predictions",
    "read_lines",
    "read_rows",
    "read_runs",
    "results_table",
    "run_one",
    "run_study",
    "select_newest",
    "sweep",
    "write_report",
]
