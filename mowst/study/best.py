r"""The best trials of a sweep, as rows of a study."""

from typing import TYPE_CHECKING, Any

from mowst.study.objective import Search
from mowst.study.storage import open_storage

if TYPE_CHECKING:
    import optuna


def best_row(
    storage: str, study_name: str | None = None, trial: int | None = None
) -> dict[str, Any]:
    r"""Returns the best trial of a sweep as a row of a study. With two objectives, it is the trial
    with the highest score.

    Args:
        storage (str): The storage of the sweep, such as :obj:`"sqlite:///FILE"`,
            :obj:`"postgresql://USER@HOST/NAME"` or :obj:`"FILE.log"`.
        study_name (str, optional): The name within the storage. Not needed if there is only one.
            (default: :obj:`None`)
        trial (int, optional): The number of another complete trial, such as one of the Pareto front
            of two objectives. (default: :obj:`None`)

    Raises:
        ValueError: If the study does not exist, was not made by a sweep, or has no complete trial
            (of this number).
    """
    study, search = load_sweep(storage, study_name)
    chosen = rank_best(study)[0]
    if trial is not None:
        complete = {t.number: t for t in study.get_trials() if t.state.name == "COMPLETE"}
        if trial not in complete:
            raise ValueError(
                f"trial {trial} of the study '{study.study_name}' is not complete; the best is "
                f"trial {chosen.number}"
            )
        chosen = complete[trial]
    return search.make_row(chosen.params)


def load_sweep(storage: str, study_name: str | None = None) -> "tuple[optuna.Study, Search]":
    r"""Returns a study that was made by a sweep and has a complete trial, and what it searches.

    Raises:
        ValueError: See :func:`best_row`.
    """
    import optuna

    opened = open_storage(storage, create=False)
    names = optuna.get_all_study_names(opened)
    if study_name is None and len(names) == 1:
        study_name = names[0]
    if study_name not in names:
        found = "no study" if study_name is None else f"no study '{study_name}'"
        if study_name is None and names:
            found = "several studies"
        hint = f"; name one of these: {'; '.join(names)}" if names else ""
        raise ValueError(f"'{storage}' holds {found}{hint}")
    study = optuna.load_study(study_name=study_name, storage=opened)
    search = Search.of_study(study)
    if search is None:
        raise ValueError(
            f"the study '{study_name}' in '{storage}' was not made by a sweep of this version"
        )
    if not rank_best(study):
        raise ValueError(f"no trial of the study '{study_name}' is complete yet")
    return study, search


def rank_best(study: "optuna.Study") -> "list[optuna.trial.FrozenTrial]":
    r"""Returns the best trials of a study, those with the highest score first: of one objective,
    the trials with the highest score, and of two, the Pareto front.
    """
    return sorted(study.best_trials, key=lambda trial: (-trial.values[0], trial.number))
