"""The results of a search: the best trials so far, all trials, and which keys matter."""

import warnings
from pathlib import Path

import optuna
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState

from dcgan.common.atomic_files import atomic_path, write_text
from dcgan.runs.search.study import REASON, Search

TABLE, PLOT = "search.md", "search.png"
MIN_COMPLETE = 2  # trials, for importances
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def value_text(value: object) -> str:
    """Return a value of the search space, numbers with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def settings_text(trial: FrozenTrial) -> str:
    return " ".join(f"{key}={value_text(value)}" for key, value in trial.params.items())


def improvements(trials: list[FrozenTrial]) -> list[FrozenTrial]:
    """Return the complete trials that were better than all before them."""
    best: list[FrozenTrial] = []
    for trial in trials:
        if trial.state == TrialState.COMPLETE and (not best or trial.values[0] < best[-1].values[0]):
            best.append(trial)
    return best


def progress_line(search: Search, objective: str) -> str:
    """Return one line: the numbers of trials by state, and the best one so far."""
    done = [trial for trial in search.asked if trial.state.is_finished()]
    counts = [f"{n} {name}" for state, name in STATES.items() if (n := sum(t.state == state for t in done))]
    line = f"search       {len(done)} of {search.n_trials} trials ({', '.join(counts)})"
    if best := improvements(search.asked):
        line += f"; best {objective} {best[-1].values[0]:.4g}: {settings_text(best[-1])}"
    return line


def to_markdown(search: Search, objective: str) -> str:
    """Return the table of the best trials so far, and that of all trials."""
    keys = list(search.space.params)
    head = ["trial", f"{objective} (minimized)", *keys]

    def row(trial: FrozenTrial, *more: str) -> str:
        value = f"{trial.values[0]:.4g}" if trial.values else ""
        values = (value_text(trial.params[key]) for key in keys)
        return f"| {' | '.join([str(trial.number), value, *values, *more])} |"

    def table(columns: list[str], rows: list[str]) -> list[str]:
        return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *rows, ""]

    trials = search.asked
    best = improvements(trials)
    lines = ["### best so far", "", *table(head, [row(trial) for trial in best])]
    if best:
        overrides = " ".join(search.space.overrides(best[-1].params))
        lines += [f"The best run is {search.run_dir(best[-1].number).name}: `{overrides}`", ""]
    states = [
        row(trial, STATES.get(trial.state, "running"), " ".join(str(trial.user_attrs.get(REASON, "")).split()))
        for trial in trials
    ]
    lines += ["### all trials", "", *table([*head, "state", "reason"], states)]
    return "\n".join(lines)


def importances(search: Search) -> dict[str, float]:
    """Return Optuna's importance of each key, in descending order; empty if there are too few complete trials."""
    if sum(trial.state == TrialState.COMPLETE for trial in search.asked) < MIN_COMPLETE:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # if the trials do not differ
        return optuna.importance.get_param_importances(search.study)


def search_plot(trials: list[FrozenTrial], importance: dict[str, float], objective: str) -> Figure:
    """Plot the objective of the trials, the best one so far, and the importance of each key."""
    figure = Figure(figsize=(9, 1.6 + 0.3 * max(6, len(importance))), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    for state, color in ((TrialState.COMPLETE, "#4477aa"), (TrialState.PRUNED, "#bbbbbb")):
        shown = [trial for trial in trials if trial.state == state and trial.values]
        left.plot([t.number for t in shown], [t.values[0] for t in shown], "o", color=color, label=STATES[state])
    if best := improvements(trials):
        steps = [*best, trials[-1]]
        left.step(
            [t.number for t in steps],
            [t.values[0] for t in best] + [best[-1].values[0]],
            where="post",
            color="#cc6677",
            label="best so far",
        )
    if all(value > 0 for trial in trials for value in trial.values or ()):
        left.set_yscale("log")  # a diverging trial is far worse than the others
    left.set(xlabel="trial", ylabel=f"{objective} (minimized)")
    left.legend(fontsize=8)
    right.barh(range(len(importance)), list(importance.values()), color="#4477aa")
    right.set_yticks(range(len(importance)), list(importance))
    right.invert_yaxis()
    right.set_xlabel("importance" if importance else f"importance: needs {MIN_COMPLETE} complete trials")
    return figure


def write_report(search: Search, objective: str) -> Path:
    """Write search.md and search.png, print the best trials so far, and return the path of search.md."""
    text = to_markdown(search, objective)
    print(text.partition("### all trials")[0])
    write_text(search.folder / TABLE, text)
    with atomic_path(search.folder / PLOT) as temporary:
        figure = search_plot(search.asked, importances(search), objective)
        figure.savefig(temporary, format="png")
    return search.folder / TABLE
