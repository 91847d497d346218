import numpy as np
import pytest

from flr_model.titles.tree import ROOT, TitleTree

END = 9
# Items 0 and 3 share a title; item 1's title begins item 2's.
TITLES = [np.asarray(title) for title in ([5, 6], [1], [1, 2, 3], [5, 6], [1, 2, 4])]
POPULARITY = [1, 0, 0, 7, 0]


@pytest.fixture
def tree():
    return TitleTree.build(TITLES, np.asarray(POPULARITY), END)


def tokenized(tree, title):
    path = tree.paths(np.asarray([title]))[0]
    return tree.token[path[path >= 0]].tolist()


def test_every_distinct_title_is_a_path_that_ends(tree):
    assert [tokenized(tree, t) for t in range(tree.n_titles)] == [[1, 2, 3, 9], [1, 2, 4, 9], [1, 9], [5, 6, 9]]
    assert tree.end == END


def test_items_of_one_title_are_in_order_of_popularity(tree):
    assert [tree.items[a:b].tolist() for a, b in zip(tree.first_item, tree.first_item[1:], strict=False)] == [
        [2], [4], [1], [3, 0],
    ]  # fmt: skip
    assert tree.title_of.tolist() == [3, 2, 0, 3, 1]


def test_a_title_is_shared_by_its_items_in_proportion_to_popularity_plus_one(tree):
    np.testing.assert_allclose(np.exp(tree.log_share), [2 / 10, 1, 1, 8 / 10, 1])


def test_children_are_the_tokens_that_may_follow(tree):
    node, walked = ROOT, []
    for token in (1, 2):
        _, children = tree.children(np.asarray([node]))
        walked.append(tree.token[children].tolist())
        node = int(children[walked[-1].index(token)])
    _, children = tree.children(np.asarray([node, ROOT]))
    assert [*walked, tree.token[children].tolist()] == [[1, 5], [2, 9], [3, 4, 1, 5]]


def test_a_node_covers_the_titles_below_it(tree):
    assert (tree.first_title[ROOT], tree.last_title[ROOT]) == (0, 4)
    first_child = tree.children(np.asarray([ROOT]))[1][0]
    assert (tree.first_title[first_child], tree.last_title[first_child]) == (0, 3)


def test_choices_are_the_places_with_an_alternative(tree):
    choices = tree.choices(np.asarray([2, 3]))  # titles [1, 9] and [5, 6, 9]
    assert choices.tokens.tolist() == [[1, 9], [5, 6]]  # the last token of the second title is no choice
    assert list(zip(choices.row.tolist(), choices.place.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0)]
    assert [choices.option[choices.owner == n].tolist() for n in range(3)] == [[1, 5], [2, 9], [1, 5]]
    assert len(tree.choices(np.asarray([3]), forced=True).row) == 3


def test_more_items_are_less_popular_and_may_bring_new_titles(tree):
    wider = tree.with_items([np.asarray([5, 6]), np.asarray([1, 2])])
    assert [tokenized(wider, t) for t in range(wider.n_titles)] == [
        [1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 9], [1, 9], [5, 6, 9],
    ]  # fmt: skip
    assert wider.items[wider.first_item[4] : wider.first_item[5]].tolist() == [3, 0, 5]
    assert wider.items[wider.first_item[2]] == 6


def test_a_tree_is_read_as_it_was_written(tree, tmp_path):
    tree.write(tmp_path / "tree.npz")
    read = TitleTree.read(tmp_path / "tree.npz")
    assert all(np.array_equal(value, vars(read)[name]) for name, value in vars(tree).items())


def test_a_random_catalogue_is_spelled_back():
    rng = np.random.default_rng(0)
    titles = [rng.integers(0, 4, rng.integers(1, 7)) for _ in range(300)]
    tree = TitleTree.build(titles, np.zeros(300), 7)
    assert [tokenized(tree, t)[:-1] for t in tree.title_of] == [title.tolist() for title in titles]
    assert tree.n_titles == len({tuple(title) for title in titles})
