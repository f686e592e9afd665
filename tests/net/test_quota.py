"""`Quota` counts the connections of each address."""

from streamws.net.quota import Quota


def test_quota_gives_each_address_its_number_of_connections() -> None:
    quota = Quota(2)
    assert [quota.take("a") for _ in range(3)] == [True, True, False]
    assert quota.take("b")
    quota.give_back("a")
    assert [quota.take("a") for _ in range(2)] == [True, False]


def test_quota_keeps_nothing_for_addresses_without_connections() -> None:
    quota = Quota(2)
    for address in ("a", "b"):
        quota.take(address)
        quota.take(address)
        assert not quota.take(address)
    assert len(quota) == 2
    for address in ("a", "a", "b", "b"):
        quota.give_back(address)
    assert len(quota) == 0
