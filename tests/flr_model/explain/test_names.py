from flr_model.explain.names import name_facets

CATALOG = ["Blue Train", "Blue Notes", "The Red House", "The Road", "The Sea", "The End"]


def test_a_shared_word_comes_before_one_that_occurs_once():
    # blue: 2 log(6/2) = 2.20; train, notes: log 6 = 1.79
    assert name_facets([["Blue Train", "Blue Notes"]], CATALOG) == ["Blue, Train, Notes"]


def test_a_word_of_most_titles_comes_last():
    # the: 2 log(6/4) = .81; red, house, road: log 6 = 1.79
    assert name_facets([["The Red House", "The Road"]], CATALOG) == ["Red, House, Road"]


def test_case_does_not_count_and_numbers_name_nothing():
    catalog = ["BLUE 1959", "blue 1960", "1984"]
    assert name_facets([["BLUE 1959", "blue 1960"], ["1984"]], catalog) == ["BLUE", "1984"]


def test_words_keep_their_apostrophes_in_any_script():
    catalog = ["Don't Look", "Война и мир"]
    assert name_facets([["Don't Look"], ["Война и мир"]], catalog) == ["Don't, Look", "Война, мир"]


def test_where_all_titles_are_alike_the_first_one_is_the_name():
    assert name_facets([["Same", "Same"], []], ["Same", "Same"]) == ["Same", ""]
