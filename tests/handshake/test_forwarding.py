"""Addresses that proxies forward."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamws.handshake.forwarding import UNKNOWN, Forwarding, TrustedProxies, network_of
from streamws.handshake.headers import Headers

PROXIES = TrustedProxies(["10.0.0.0/8", "2001:db8:ffff::/48", "unix"])
Fields = list[tuple[str, str]]
F, X, P = "Forwarded", "X-Forwarded-For", "X-Forwarded-Proto"


def forwarded(fields: Fields, proxies: TrustedProxies = PROXIES) -> tuple[tuple[str, int] | None, bool | None]:
    forwarding = Forwarding(proxies, Headers(fields))
    return forwarding.remote, forwarding.secure


@pytest.mark.parametrize(
    ("fields", "remote"),
    [
        ([], None),
        ([(X, "")], None),
        ([(F, " , ;")], None),
        ([(X, "203.0.113.7")], ("203.0.113.7", 0)),
        ([(F, "for=203.0.113.7")], ("203.0.113.7", 0)),
        ([(F, "For = 203.0.113.7")], UNKNOWN),  # no spaces are allowed there
        ([(F, "by=10.0.0.2; FOR=203.0.113.7 ;proto=https")], ("203.0.113.7", 0)),
        # the rightmost hop that is not trusted; what is before it may be forged
        ([(X, "6.6.6.6, 203.0.113.7, 10.0.0.3, 10.1.2.3")], ("203.0.113.7", 0)),
        ([(X, "10.0.0.9, 203.0.113.7")], ("203.0.113.7", 0)),
        ([(X, "nonsense, 203.0.113.7")], ("203.0.113.7", 0)),
        ([(F, "for=6.6.6.6, for=203.0.113.7;proto=https,for=10.0.0.3")], ("203.0.113.7", 0)),
        # several lines are one list
        ([(X, "6.6.6.6"), (X, "203.0.113.7"), (X, "10.0.0.3, 10.0.0.4")], ("203.0.113.7", 0)),
        ([(F, "for=6.6.6.6"), (F, "for=203.0.113.7"), (F, "for=10.0.0.3, for=10.0.0.4")], ("203.0.113.7", 0)),
        # a hop inside the trusted networks is the client, if there is none outside
        ([(X, "10.0.0.9")], ("10.0.0.9", 0)),
        ([(X, "10.0.0.9, 10.0.0.3")], ("10.0.0.9", 0)),
        # ports and IPv6
        ([(X, "203.0.113.7:5000")], ("203.0.113.7", 5000)),
        ([(X, "2001:DB8:0::7")], ("2001:db8::7", 0)),
        ([(X, "[2001:db8::7]:5000")], ("2001:db8::7", 5000)),
        ([(X, "[2001:db8::7]")], ("2001:db8::7", 0)),
        ([(X, "203.0.113.7, 2001:db8:ffff::1, ::ffff:10.0.0.3")], ("203.0.113.7", 0)),
        ([(X, "::ffff:203.0.113.7")], ("203.0.113.7", 0)),
        ([(F, 'for="[2001:db8::7]:5000"')], ("2001:db8::7", 5000)),
        ([(F, 'for="203.0.113.7:5000"')], ("203.0.113.7", 5000)),
        ([(F, 'for="203.0.113.7:_port"')], ("203.0.113.7", 0)),
        ([(F, r'for="203.0.113\.7"')], ("203.0.113.7", 0)),
        # obfuscated and unknown identifiers
        ([(F, "for=_hidden")], ("_hidden", 0)),
        ([(F, 'for="_hidden:80"')], ("_hidden", 80)),
        ([(F, "for=203.0.113.7, for=_hidden")], ("_hidden", 0)),
        ([(F, "for=unknown")], UNKNOWN),
        ([(X, "203.0.113.7, unknown")], UNKNOWN),
        ([(F, f"for=_{64 * 'x'}")], UNKNOWN),
        # Unix sockets between proxies, as nginx names them
        ([(X, "203.0.113.7, unix:")], ("203.0.113.7", 0)),
        ([(X, "unix:")], UNKNOWN),
        ([(F, 'for=203.0.113.7, for="unix:"')], UNKNOWN),
    ],
)
def test_remote_is_the_nearest_hop_that_is_not_trusted(fields: Fields, remote: tuple[str, int] | None) -> None:
    assert forwarded(fields)[0] == remote


@pytest.mark.parametrize(
    "value",
    [
        "localhost",
        "203.0.113",
        "203.0.113.07",
        "203.0.113.7:",
        "203.0.113.7:65536",
        "203.0.113.7:x",
        "203.0.113.7 5000",
        "[2001:db8::7",
        "[2001:db8::7]5000",
        "[203.0.113.7",
        "2001:db8::7::",
        "fe80::1%eth0",
        "_hid den",
        "'203.0.113.7'",
        "203.0.113.7\t6.6.6.6",
        "\u0662\u0660\u0663.0.113.7",
    ],
)
def test_malformed_address_is_unknown(value: str) -> None:
    assert forwarded([(X, value)])[0] == UNKNOWN
    quoted = value.replace("\t", " ")
    assert forwarded([(F, f'for="{quoted}"')])[0] == UNKNOWN


@pytest.mark.parametrize(
    "line",
    [
        "203.0.113.7",
        "for=",
        "for=2001:db8::7",  # must be quoted and in brackets
        'for="203.0.113.7',
        'for="203.0.113.7"x',
        'for=203.0.113.7"',
        "for=203.0.113.7 proto=https",
        "for=203.0.113.7;for=203.0.113.7",
        "proto=https",
        # the client opens a quoted string, so that it swallows what the proxy appends
        'for=6.6.6.6;x=", for=203.0.113.7',
        'for=6.6.6.6;x=", for="[2001:db8::7]:5000"',
        'for=6.6.6.6;x="\\", for="[2001:db8::7]:5000"',
    ],
)
def test_malformed_forwarded_field_is_unknown(line: str) -> None:
    assert forwarded([(F, line)])[0] == UNKNOWN
    # but not if the proxy has sent a field of its own behind it
    assert forwarded([(F, line), (F, "for=203.0.113.7")])[0] == ("203.0.113.7", 0)


FROM_CLIENT = st.lists(
    st.text(st.sampled_from('for=";,\\ \t_[]:.06x\xff'), max_size=20)
    | st.sampled_from(["for=6.6.6.6", 'for="', "10.0.0.9", "unix:", "unknown", ", "]),
    max_size=8,
).map("".join)


@given(FROM_CLIENT)
def test_client_cannot_forge_its_address_in_front_of_what_the_proxy_appends(text: str) -> None:
    true = ("203.0.113.7", 0)
    assert forwarded([(X, text), (X, "203.0.113.7")])[0] == true
    assert forwarded([(X, f"{text}, 203.0.113.7, 10.0.0.3")])[0] == true
    assert forwarded([(F, text), (F, "for=203.0.113.7")])[0] == true
    # In one field the client can make it malformed, but it does not become another address.
    assert forwarded([(F, f"{text}, for=203.0.113.7")])[0] in (true, UNKNOWN)
    assert forwarded([(F, f'{text}, for="203.0.113.7:80";proto=https')])[0] in (("203.0.113.7", 80), UNKNOWN)
    assert forwarded([(F, text), (X, "203.0.113.7")])[0] in (true, UNKNOWN)


@pytest.mark.parametrize(
    ("fields", "remote"),
    [
        ([(F, "for=203.0.113.7"), (X, "203.0.113.7")], ("203.0.113.7", 0)),
        ([(F, 'for="203.0.113.7:5000"'), (X, "203.0.113.7")], ("203.0.113.7", 5000)),
        ([(F, "for=203.0.113.7"), (X, "6.6.6.6, 203.0.113.7, 10.0.0.3")], ("203.0.113.7", 0)),
        ([(F, "for=6.6.6.6"), (X, "203.0.113.7")], UNKNOWN),
        ([(F, "for=203.0.113.7"), (X, "6.6.6.6")], UNKNOWN),
        ([(F, "x"), (X, "203.0.113.7")], UNKNOWN),
        ([(F, "for=203.0.113.7"), (X, "x")], UNKNOWN),
    ],
)
def test_fields_that_contradict_each_other_are_not_believed(fields: Fields, remote: tuple[str, int]) -> None:
    assert forwarded(fields)[0] == remote


@pytest.mark.parametrize(
    ("fields", "secure"),
    [
        ([], None),
        ([(X, "203.0.113.7")], None),
        ([(P, "https")], True),
        ([(P, "WSS")], True),
        ([(P, "http")], False),
        ([(P, "ws")], False),
        ([(P, "gopher")], False),
        ([(P, "")], None),
        ([(X, "203.0.113.7, 10.0.0.3"), (P, "https")], True),
        # one for each proxy: that of the proxy to which the client is connected
        ([(X, "203.0.113.7, 10.0.0.3"), (P, "https, http")], True),
        ([(X, "203.0.113.7, 10.0.0.3"), (P, "http"), (P, "https")], False),
        # the client has sent one itself
        ([(X, "203.0.113.7"), (P, "https, http")], False),
        ([(X, "6.6.6.6, 203.0.113.7"), (P, "https, http")], False),
        ([(F, "for=203.0.113.7;proto=https")], True),
        ([(F, "proto=https;for=203.0.113.7, proto=http;for=10.0.0.3")], True),
        ([(F, "proto=https;for=6.6.6.6, proto=http;for=203.0.113.7")], False),
        ([(F, "for=203.0.113.7;proto=https"), (P, "https")], True),
        ([(F, "for=203.0.113.7;proto=https"), (P, "http")], False),
        ([(F, "for=203.0.113.7;proto=http"), (P, "https")], False),
    ],
)
def test_secure_is_what_the_nearest_proxy_of_the_client_says(fields: Fields, secure: bool | None) -> None:
    assert forwarded(fields)[1] is secure


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        (("10.255.0.1", 5000), True),
        (("11.0.0.1", 5000), False),
        (("::ffff:10.0.0.1", 5000), True),
        (("2001:db8:ffff::1", 5000), True),
        (("2001:db8:fffe::1", 5000), False),
        (("2001:db8:ffff::1%eth0", 5000), True),
        (("/run/chat.sock", 0), True),
        (("", 0), False),  # not known
        (("nonsense", 5000), False),
    ],
)
def test_peer_is_trusted_by_its_address(peer: tuple[str, int], trusted: bool) -> None:
    assert PROXIES.trusts(peer) is trusted


def test_unix_sockets_are_trusted_only_if_they_are_listed() -> None:
    proxies = TrustedProxies(["10.0.0.1"])
    assert not proxies.trusts(("/run/chat.sock", 0))
    assert proxies.trusts(("10.0.0.1", 1))
    assert not proxies.trusts(("10.0.0.2", 1))
    assert forwarded([(X, "203.0.113.7, unix:")], proxies)[0] == UNKNOWN


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ("10.0.0.0/8", r"^trusted_proxies must be a list such as \[.*\], not '10.0.0.0/8'$"),
        (["10.0.0.1/8"], "^'10.0.0.1/8' in trusted_proxies must be a network such as .*: .* has host bits set$"),
        (["*"], r"^'\*' in trusted_proxies must be a network such as \"10.0.0.0/8\", an address or \"unix\""),
        (["localhost"], "^'localhost' in trusted_proxies"),
        ([""], "^'' in trusted_proxies"),
        ([10], "^10 in trusted_proxies"),
        ([None], "^None in trusted_proxies"),
    ],
)
def test_trusted_proxies_refuse_what_is_not_a_network(entries: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrustedProxies(entries)


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("a:b", "a:b"),
    ],
)
def test_address_counts_by_its_network(host: str, network: str) -> None:
    assert network_of(host) == network


def test_hops_before_the_client_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    trusts = TrustedProxies.trusts_address

    def trusts_address(self: TrustedProxies, address: ipaddress.IPv4Address) -> bool:
        read.append(str(address))
        return trusts(self, address)

    monkeypatch.setattr(TrustedProxies, "trusts_address", trusts_address)
    assert forwarded([(X, "10.0.0.9, " * 1000 + "203.0.113.7, 10.0.0.3")])[0] == ("203.0.113.7", 0)
    assert read == ["10.0.0.3", "203.0.113.7"]


@pytest.mark.parametrize(
    ("name", "piece"), [(F, " "), (F, "\t ,"), (F, "a"), (F, "a=b"), (F, 'a="\\a'), (F, "a=b;"), (X, ","), (X, ":")]
)
def test_field_is_read_in_linear_time(name: str, piece: str) -> None:
    # Quadratic time would take minutes.
    forwarded([(name, piece * 400_000 + "\x80")])
