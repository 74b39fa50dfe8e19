"""The sweeper at the only place where Hydra accepts one: a module of the namespace package hydra_plugins."""

from dcgan.runs.search import sweeper


class OptunaSweeper(sweeper.OptunaSweeper):
    __doc__ = sweeper.OptunaSweeper.__doc__
