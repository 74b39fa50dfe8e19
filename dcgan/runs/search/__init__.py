"""Search for settings with Optuna, as a Hydra sweeper: docs/search.md."""
