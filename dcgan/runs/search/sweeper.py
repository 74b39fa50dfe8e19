"""Optuna behind Hydra's sweeper interface. The plugin that is published for Hydra needs Optuna 2.

Each command imports this module when Hydra looks for plugins, so it imports nothing that takes long.
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from dcgan.common.arg_checks import check_int
from dcgan.common.config_tree import is_within
from dcgan.common.errors import UserError
from dcgan.common.instantiate import name_config_key, require_callable
from dcgan.common.overrides import override_key
from dcgan.runs.run_dir import SUMMARY

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from dcgan.runs.search.space import SearchSpace
    from dcgan.runs.search.study import Search

REPORT = "dcgan.training.callbacks.trial_report.TrialReport"
# may differ between the calls and machines of one search
FREE_KEYS = (
    *("sweep", "skip_finished", "jobs_per_gpu", "trainer", "cuda_graph", "logger", "log", "checkpoints", "trusted"),
    *("data.root", "data.cache_dir"),
)


class OptunaSweeper(Sweeper):
    """Search for the settings with the lowest objective: `n_jobs` trials at a time, each of them a job of Hydra.

    The trials are in search.journal in the folder of the sweep. The same command continues a search that was stopped,
    and several machines with this folder may give it at the same time.

    Args:
        params: The search space, by config key: a list of options, or a range {low, high} with log or step.
        n_trials: Number of trials of all calls and machines, failed and pruned ones included, >= 1.
        n_jobs: Trials that the launcher gets at a time, >= 1, or -1: as many as CPUs.
        seed: Of the sampler, >= 0.
        sampler: Config of an Optuna sampler, partial: called with `seed`.
        pruner: Config of an Optuna pruner, which counts in training steps; None: no run is pruned.
        prune_by: The metric that the pruner gets; None: the objective.
    """

    def __init__(
        self,
        params: dict[str, Any],
        n_trials: int,
        n_jobs: int,
        seed: int,
        sampler: dict[str, Any],
        pruner: dict[str, Any] | None,
        prune_by: str | None,
    ) -> None:
        check_int("hydra.sweeper.n_trials", n_trials, 1)
        check_int("hydra.sweeper.n_jobs", n_jobs, -1)
        check_int("hydra.sweeper.seed", seed, 0)
        if n_jobs == 0:
            raise ValueError("hydra.sweeper.n_jobs must be >= 1, or -1 for the number of CPUs, got 0")
        self.params, self.n_trials, self.seed = params, n_trials, seed
        self.n_jobs = n_jobs if n_jobs > 0 else os.cpu_count() or 1
        self.sampler, self.pruner, self.prune_by = sampler, pruner, prune_by

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        if find_spec("optuna") is None:
            raise UserError("a search needs Optuna: pip install 'dcgan[search]'")
        self.config, self.load_job = config, hydra_context.config_loader.load_sweep_config
        self.launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search, or continue it, and write its report.

        Args:
            arguments: The overrides of the command line.

        Raises:
            UserError: The search space is wrong or names unknown keys, the folder holds another search, or no trial has
                worked.
            ConfigCompositionException: The search space names an unknown key or option.
        """
        from dcgan.runs.search.report import progress_line, write_report
        from dcgan.runs.search.space import SearchSpace
        from dcgan.runs.search.study import Search

        assert self.config is not None  # set by setup
        folder, objective = Path(self.config.hydra.sweep.dir), self.config.objective
        space = SearchSpace(self.params)
        arguments = [argument for argument in arguments if override_key(argument) != "skip_finished"]
        self.reject_swept(arguments)
        self.reject_unknown(arguments, space)
        common = sorted(argument for argument in arguments if not is_within(override_key(argument), FREE_KEYS))
        settings = {"objective": objective, "params": self.params, "overrides": common}
        # find bad settings before the first job
        with name_config_key("hydra.sweeper.sampler"):
            create_sampler = require_callable("the sampler", instantiate(self.sampler))
            create_sampler(seed=self.seed)
        with name_config_key("hydra.sweeper.pruner"):
            instantiate(self.pruner)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(self.config, folder / "multirun.yaml")
        with Search(folder, space, create_sampler, self.seed, self.n_trials, settings) as search:
            while trials := search.next_trials(self.n_jobs):
                self.run_trials(search, trials, arguments)
                print(progress_line(search, objective))
                search.reject_failures()
        path = write_report(search, objective)
        print(f"search       {path}, {path.with_suffix('.png')}")
        if not any((search.run_dir(trial.number) / SUMMARY).exists() for trial in search.asked):
            raise UserError(f"no trial of the search is complete: {path} has the reasons")

    def run_trials(self, search: "Search", trials: list["FrozenTrial"], arguments: list[str]) -> None:
        """Run the jobs of these trials and record their results."""
        jobs = []
        for trial in trials:
            report = {"_target_": REPORT, "journal": str(search.journal), "number": trial.number}
            report |= {"pruner": self.pruner, "metric": self.prune_by}
            jobs.append(
                [
                    *arguments,
                    *search.space.overrides(trial.params),
                    *self.job_overrides(search.run_dir(trial.number).name, report),
                ]
            )
        results = self.launcher.launch(jobs, initial_job_idx=trials[0].number)
        for trial, result in zip(trials, results, strict=True):
            search.tell(trial.number, result.return_value)

    def job_overrides(self, subdir: str, report: dict[str, Any]) -> list[str]:
        """Return the overrides of a job that are not settings: its folder, to resume, and the callback that reports."""
        from dcgan.runs.search.space import override_text

        return [
            f"hydra.sweep.subdir={subdir}",
            "skip_finished=true",
            f"+callbacks.trial_report={override_text(report)}",
        ]

    def reject_swept(self, arguments: list[str]) -> None:
        """Raise UserError for a key with several values on the command line."""
        for override in OverridesParser.create().parse_overrides(arguments):
            if override.is_sweep_override():
                raise UserError(
                    f"{override.input_line} has several values: in a search, give them below hydra.sweeper.params, or "
                    "give one value"
                )

    def reject_unknown(self, arguments: list[str], space: "SearchSpace") -> None:
        """Raise ConfigCompositionException for an unknown key or an unknown option of a config group in the space."""
        assert self.config is not None
        for values in space.examples():
            self.load_job(self.config, [*arguments, *space.overrides(values)])
