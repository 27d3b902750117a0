"""A request goes to the host that the operator wrote, or to one on the list, and nowhere else."""

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.exchange import Misconfigured
from runtime.provider.endpoint_url import discovered_url, filled, resolved_url

ZENDESK = "https://{subdomain}.zendesk.com/oauth/tokens"
ZENDESK_HOSTS = ("*.zendesk.com",)
SALESFORCE = "https://{endpoint_base}/services/oauth2/token"
SALESFORCE_HOSTS = ("*.salesforce.com", "login.example")
BAD_VALUES = (
    *("", ".", "..", ".a", "a..b", "a/b", "a?b", "a#b", "a@b", "a:1", "a b", "a\n", "%2e", "ä"),
    *("{b}", "a" * 254, "a\\b", "evil.example/"),
)


def code_of(url: str | Misconfigured) -> str:
    assert isinstance(url, Misconfigured)
    return url.code


@pytest.mark.parametrize(
    "url",
    [
        "https://provider.example/token",
        "https://provider.example:8443/token?tenant=a&b=%20c",
        "https://provider.example",
        "https://[2001:db8::1]/token",
        "http://127.0.0.1:8080/token",
        "http://127.9.9.9/token",
        "http://[::1]:8080/token",
        "http://localhost/token",
    ],
)
def test_a_url_without_templates_is_taken_as_it_is(url: str):
    assert resolved_url(url, values={}) == url


@pytest.mark.parametrize(
    "url",
    [
        "provider.example/token",
        "ftp://provider.example/token",
        "https:///token",
        "https://user:password@provider.example/token",
        "https://user@provider.example/token",
        "https://provider.example/token#part",
        "https://provider.example:0/token",
        "https://provider.example:65536/token",
        "https://provider.example:{port}/token",
        "https://provider.example\\@evil.example/token",
        "https://provider.example/a b",
        "https://provider.example/tok\n",
        "https://provider.example/a/../b",
        "https://provider.example/a/%2E%2e/b",
        "https://provider.example/./b",
        "https://provider..example/token",
        "https://-provider.example/token",
        "https://provider_.example/token",
        "https://pröv.example/token",
        "https://[provider]/token",
        "https://[::1/token",
        "https://provider.example/{}",
        "https://provider.example/{a b}",
        "https://provider.example/}",
        "{scheme}://provider.example/token",
        f"https://{'a' * 64}.example/token",
        f"https://{'a.' * 130}example/token",
    ],
)
def test_a_url_that_is_not_plainly_one_is_refused(url: str):
    values = {"port": "80", "scheme": "https"}

    assert code_of(resolved_url(url, values=values)) == "endpoint_malformed"


@pytest.mark.parametrize(
    "url",
    [
        "http://provider.example/token",
        "http://10.0.0.1/token",
        "http://127.0.0.1.evil.example/token",
        "http://localhost.evil.example/token",
        "http://[::2]/token",
        "http://0.0.0.0/token",
        "http://127.1/token",
    ],
)
def test_plain_http_goes_to_loopback_only(url: str):
    assert code_of(resolved_url(url, values={})) == "endpoint_not_https"


def test_a_value_fills_host_path_and_query():
    url = resolved_url(
        "https://{region}.example/{tenant}/token?t={tenant}",
        values={"region": "EU", "tenant": "a_B-1.c"},
        allowed_hosts=("*.example",),
    )

    assert url == "https://eu.example/a_B-1.c/token?t=a_B-1.c"


def test_a_value_that_is_missing_is_told():
    assert code_of(resolved_url(ZENDESK, values={})) == "template_value_missing"
    assert code_of(resolved_url(SALESFORCE, values={})) == "template_value_missing"


@pytest.mark.parametrize(
    "value",
    BAD_VALUES,
)
@pytest.mark.parametrize("template", [ZENDESK, "https://provider.example/{subdomain}/token"])
def test_a_value_can_fill_its_place_only(template: str, value: str):
    url = resolved_url(template, values={"subdomain": value}, allowed_hosts=ZENDESK_HOSTS)

    assert code_of(url) == "template_value_malformed"


@pytest.mark.parametrize(
    ("template", "value", "allowed_hosts"),
    [
        ("https://{host}/token", "evil.example", ZENDESK_HOSTS),
        ("https://{host}/token", "zendesk.com", ZENDESK_HOSTS),
        ("https://{host}/token", "evilzendesk.com", ZENDESK_HOSTS),
        ("https://{host}/token", "a.zendesk.com.evil.example", ZENDESK_HOSTS),
        ("https://{host}.zendesk.com/token", "a", ()),
        ("https://{host}.zendesk.com/token", "a", ("zendesk.com",)),
        ("https://api.{host}/token", "evil.example", ("api.provider.example",)),
        ("https://{host}/token", "169.254.169.254", ZENDESK_HOSTS),
    ],
)
def test_a_host_that_a_value_had_a_part_in_must_be_on_the_list(
    template: str, value: str, allowed_hosts: tuple[str, ...]
):
    url = resolved_url(template, values={"host": value}, allowed_hosts=allowed_hosts)

    assert code_of(url) == "host_not_allowed"


@pytest.mark.parametrize("value", ["a", "a.b", "A"])
def test_a_star_stands_for_one_label_or_more(value: str):
    url = resolved_url(ZENDESK, values={"subdomain": value}, allowed_hosts=("*.Zendesk.com",))

    assert url == f"https://{value.lower()}.zendesk.com/oauth/tokens"


def test_a_value_in_the_path_needs_no_list():
    template = "https://login.example/{tenant}/token"

    assert resolved_url(template, values={"tenant": "t"}) == "https://login.example/t/token"


@given(st.text(max_size=40), st.sampled_from(["https://{v}.ok.example/{v}?{v}", "https://{v}/x"]))
def test_whatever_a_value_is_the_host_stays_under_the_listed_domain(value: str, template: str):
    url = resolved_url(template, values={"v": value}, allowed_hosts=("*.ok.example",))

    if isinstance(url, str):
        parsed = httpx2.URL(url)
        assert parsed.host.endswith(".ok.example")
        assert parsed.scheme == "https"
        assert parsed.port is None
        assert not parsed.userinfo


@pytest.mark.parametrize(
    "base",
    ["na1.salesforce.com", "https://na1.salesforce.com", "https://NA1.salesforce.com:443/"],
)
@pytest.mark.parametrize("template", [SALESFORCE, SALESFORCE.removeprefix("https://")])
def test_the_host_of_an_earlier_answer_is_taken_and_no_more(template: str, base: str):
    url = resolved_url(template, values={}, endpoint_base=base, allowed_hosts=SALESFORCE_HOSTS)

    assert url == "https://na1.salesforce.com/services/oauth2/token"


@pytest.mark.parametrize(
    ("base", "code"),
    [
        ("https://evil.example", "host_not_allowed"),
        ("http://na1.salesforce.com", "endpoint_base_malformed"),
        ("https://na1.salesforce.com:8443", "endpoint_base_malformed"),
        ("https://na1.salesforce.com/path", "endpoint_base_malformed"),
        ("https://na1.salesforce.com?x", "endpoint_base_malformed"),
        ("https://evil.example#.salesforce.com", "endpoint_base_malformed"),
        ("https://na1.salesforce.com@evil.example", "endpoint_base_malformed"),
        ("na1.salesforce.com\n", "endpoint_base_malformed"),
        ("{v}.salesforce.com", "endpoint_base_malformed"),
    ],
)
def test_an_answer_cannot_name_a_host_off_the_list(base: str, code: str):
    url = resolved_url(SALESFORCE, values={}, endpoint_base=base, allowed_hosts=SALESFORCE_HOSTS)

    assert code_of(url) == code


def test_before_the_first_answer_the_base_is_a_value_like_others():
    values = {"endpoint_base": "login.example"}

    url = resolved_url(SALESFORCE, values=values, allowed_hosts=SALESFORCE_HOSTS)

    assert url == "https://login.example/services/oauth2/token"


def test_a_base_on_loopback_may_be_plain_where_the_template_names_the_port():
    url = resolved_url(
        "{endpoint_base}:8080/token",
        values={},
        endpoint_base="http://127.0.0.1:8080",
        allowed_hosts=("127.0.0.1",),
    )

    assert url == "http://127.0.0.1:8080/token"


def test_a_base_cannot_turn_https_off():
    url = resolved_url(
        "{endpoint_base}/token",
        values={},
        endpoint_base="http://na1.salesforce.com",
        allowed_hosts=SALESFORCE_HOSTS,
    )

    assert code_of(url) == "endpoint_not_https"


ISSUER = "https://login.example/tenant"


@pytest.mark.parametrize(
    "url",
    [
        "https://login.example/token",
        "https://login.example:443/t?x=1",
        "https://a.tokens.example/t",
    ],
)
def test_an_issuer_may_name_its_own_host_or_a_listed_one(url: str):
    assert discovered_url(url, issuer=ISSUER, allowed_hosts=("*.tokens.example",)) == url


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("https://evil.example/token", "host_not_allowed"),
        ("https://sub.login.example/token", "host_not_allowed"),
        ("https://login.example:8443/token", "host_not_allowed"),
        ("https://a.tokens.example:8443/token", "host_not_allowed"),
        ("http://login.example:443/token", "endpoint_not_https"),
        ("https://login.example/{tenant}", "endpoint_malformed"),
        ("https://{tenant}/token", "endpoint_malformed"),
        ("https://login.example@evil.example/token", "endpoint_malformed"),
        ("https://login.example/token#x", "endpoint_malformed"),
    ],
)
def test_an_issuer_cannot_name_what_it_is_not_trusted_for(url: str, code: str):
    found = discovered_url(url, issuer=ISSUER, allowed_hosts=("*.tokens.example",))

    assert code_of(found) == code


def test_an_https_issuer_cannot_lead_to_plain_loopback():
    found = discovered_url("http://127.0.0.1/t", issuer=ISSUER, allowed_hosts=("127.0.0.1",))

    assert code_of(found) == "endpoint_not_https"


def test_an_issuer_on_loopback_may_be_plain():
    url = "http://127.0.0.1:8080/token"

    assert discovered_url(url, issuer="http://127.0.0.1:8080", allowed_hosts=()) == url


def test_a_parameter_takes_any_text_and_leaves_other_braces_alone():
    assert filled('{"a": 1, "b": "{name}"}', {"name": "x/y ü"}) == '{"a": 1, "b": "x/y ü"}'
    assert code_of(filled("{name}", {"name": "a\r\nb"})) == "template_value_malformed"
    assert code_of(filled("{name}", {})) == "template_value_missing"
