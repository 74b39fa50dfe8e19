from dcgan.runs.config_diff import config_diff, flatten, is_ignored


def test_flatten_returns_dotted_keys():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_seed_and_keys_without_effect_on_results_are_ignored():
    assert all(
        map(is_ignored, ("log", "log.every_n_steps", "data.root", "seed", "data.seed", "evaluator.frechet._target_"))
    )
    assert not any(map(is_ignored, ("logging", "data.limit", "metrics.n", "max_steps", "trainer.precision")))


def test_keys_of_only_one_config_are_no_difference():
    before = {"lr": 1, "log": {"n": 1}, "old": 1, "same": [1, 2], "loss": {"weight": 1}}
    now = {"lr": 2, "log": {"n": 2}, "new": 1, "same": [1, 2], "loss": {"weight": 3}}
    assert config_diff(before, now) == {"lr": (1, 2), "loss.weight": (1, 3)}
