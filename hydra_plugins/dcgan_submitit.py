"""The launchers at the only place where Hydra accepts them: a module of the namespace package hydra_plugins."""

from dcgan.runs import submitit_launchers


class LocalLauncher(submitit_launchers.LocalLauncher):
    __doc__ = submitit_launchers.LocalLauncher.__doc__


class SlurmLauncher(submitit_launchers.SlurmLauncher):
    __doc__ = submitit_launchers.SlurmLauncher.__doc__
