r"""Studies: many runs, what they reached, and settings that are searched for."""

from mowst.study.cell import Cell, expand, read_rows
from mowst.study.figures import plot_answers, plot_confidence, plot_deferral_runs, plot_history
from mowst.study.lines import RESULTS, append_line, newest_lines, read_lines, read_runs
from mowst.study.paired import paired_difference
from mowst.study.report import write_report
from mowst.study.run import run_cell
from mowst.study.runner import run_study
from mowst.study.sweep import best_row, sweep
from mowst.study.tables import results_table

__all__ = [
    "RESULTS",
    "Cell",
    "append_line",
    "best_row",
    "expand",
    "newest_lines",
    "paired_difference",
    "plot_answers",
    "plot_confidence",
    "plot_deferral_runs",
    "plot_history",
    "read_lines",
    "read_rows",
    "read_runs",
    "results_table",
    "run_cell",
    "run_study",
    "sweep",
    "write_report",
]
