r"""The names of the classes that the model of a run tells apart, beside the model: a folder numbers its own names in
alphabetical order, which another folder, or the same one later, may do otherwise.
"""

from copy import copy
from dataclasses import replace

import torch

from mowst.io import read_json, write_json
from mowst.task import GraphTask
from mowst.train import RunFolder

CLASSES = "classes.json"


def write_classes(folder: RunFolder, task: GraphTask) -> None:
    r"""Keeps the names of a task's classes with the run, if they have names."""
    if names := task.data.get("class_names"):
        write_json(folder.path / CLASSES, names)


def renumbered(task: GraphTask, folder: RunFolder) -> GraphTask:
    r"""A task with classes as the model of a run numbers and names them; without names, if none are kept with the run.

    Raises:
        ValueError: If the task has classes that the model does not know.
    """
    path, data = folder.path / CLASSES, copy(task.data)
    names, known = data.pop("class_names", None), read_json(path) if path.is_file() else None
    if known is None:
        return replace(task, data=data)
    if names is None or set(names) - set(known):
        theirs = "are numbers" if names is None else f"are {', '.join(names)}"
        raise ValueError(
            f"the model of '{folder.path}' tells the classes {', '.join(known)} apart, those of '{task.name}' {theirs}"
        )
    data.class_names = known
    # The last number is the one of nodes without a label.
    data.y = torch.tensor([*(known.index(name) for name in names), -1])[data.y]
    return replace(task, data=data, num_classes=len(known))
