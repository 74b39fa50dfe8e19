from dcgan.settings import aside, differences, flatten


def test_settings_are_flat_keys():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_what_changes_no_figure_and_the_seed_are_aside():
    assert all(map(aside, ("log", "log.every_n_steps", "data.root", "seed", "data.seed", "evaluator.frechet._target_")))
    assert not any(map(aside, ("logging", "data.limit", "metrics.n", "max_steps", "trainer.precision")))


def test_differences_are_of_settings_that_both_have():
    before = {"lr": 1, "log": {"n": 1}, "old": 1, "same": [1, 2], "loss": {"weight": 1}}
    now = {"lr": 2, "log": {"n": 2}, "young": 1, "same": [1, 2], "loss": {"weight": 3}}
    assert differences(before, now) == {"lr": (1, 2), "loss.weight": (1, 3)}
