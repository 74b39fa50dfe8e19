from dcgan.common.config_tree import flat_items, leaves, select

TREE = {"a": {"b": 1, "c": {"d": [2, {"e": 3}]}}, "f": None}


def test_flat_items_are_containers_and_values_by_dotted_keys():
    items = dict(flat_items(TREE))
    assert list(items) == ["a", "a.b", "a.c", "a.c.d", "f"]
    assert items["a.c"] == TREE["a"]["c"]
    assert items["a.b"] == 1


def test_select_distinguishes_null_from_a_missing_key():
    assert select(TREE, "a.c.d") == [2, {"e": 3}]
    assert select(TREE, "f") == "null"
    assert select(TREE, "a.x") is None
    assert select(TREE, "a.b.x") is None


def test_leaves_are_the_values_within_dicts_and_lists():
    assert list(leaves(TREE)) == [1, 2, 3, None]
