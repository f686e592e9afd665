"""The tests rely on these helpers to find every case."""

from itertools import combinations, product

from helpers.pairwise import covering


def test_covering_keeps_each_pair_of_values_in_few_cases() -> None:
    values = {"build": range(2), "cut": range(3), "size": range(5)}
    cases = [dict(zip(values, row, strict=True)) for row in product(*values.values())]
    chosen = [case for place, case in enumerate(cases) if place in covering(cases)]
    for one, other in combinations(values, 2):
        assert {(case[one], case[other]) for case in chosen} == set(product(values[one], values[other]))
    assert 15 <= len(chosen) <= 17


def test_covering_keeps_each_value_of_a_single_parameter() -> None:
    assert covering([{"size": 1}, {"size": 2}, {"size": 1}]) == {0, 1}
