"""A reuse policy is read from the words of a profile, and written in them again."""

import pytest

from domain.profile import NO_REUSE, NON_ROTATING, UNKNOWN_REUSE, ReusePolicy, reuse_policy

YEAR_S = 31_536_000


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("none", NO_REUSE),
        ("strict", NO_REUSE),
        ("unknown", UNKNOWN_REUSE),
        ("non_rotating", NON_ROTATING),
        ("grace:120", ReusePolicy("grace", 120.0)),
        ("grace:0.5", ReusePolicy("grace", 0.5)),
        (f"grace:{YEAR_S - 1}", ReusePolicy("grace", YEAR_S - 1.0)),
    ],
)
def test_every_policy_is_read_and_reads_as_itself_when_written(
    text: str, policy: ReusePolicy
) -> None:
    assert reuse_policy(text) == policy
    assert reuse_policy(str(policy)) == policy
    assert policy.is_free == (text == "non_rotating")


@pytest.mark.parametrize(
    "text",
    [
        *("", "grace", "grace:", "grace:0", "grace:-1", "grace:nan", "grace:x", "grace:1:2"),
        *(f"grace:{YEAR_S}", "Grace:1", "none:1", "strict:", "unknown:1", "nothing"),
    ],
)
def test_any_other_text_is_no_policy(text: str) -> None:
    with pytest.raises(ValueError):
        reuse_policy(text)


def test_a_policy_is_written_as_the_profile_writes_it() -> None:
    assert str(ReusePolicy("grace", 120.0)) == "grace:120"
    assert str(ReusePolicy("grace", 1_234_567.5)) == "grace:1234567.5"
    assert [str(one) for one in (NO_REUSE, UNKNOWN_REUSE, NON_ROTATING)] == [
        "none",
        "unknown",
        "non_rotating",
    ]
