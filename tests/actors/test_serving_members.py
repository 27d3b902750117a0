"""Whom a command is handed over to: a member that hears it, not one that is about to."""

from actors.members import Heartbeat, Members


def _heard(*beats: Heartbeat) -> Members:
    members = Members("d-1", timeout_s=5.0)
    for beat in beats:
        members.heard(beat, 1.0)
    return members


def test_who_is_about_to_claim_a_partition_is_left_alone_with_it_and_handed_nothing() -> None:
    members = _heard(Heartbeat(daemon="d-2", number=1, owned={0: 0, 1: 7}))

    assert members.owner_of == {0: "d-2", 1: "d-2"}
    assert (members.who_serves(0), members.who_serves(1)) == (None, "d-2")


def test_until_it_has_claimed_the_one_before_it_is_handed_what_comes() -> None:
    members = _heard(
        Heartbeat(daemon="d-2", number=1, owned={0: 7}),
        Heartbeat(daemon="d-3", number=1, owned={0: 0}),
    )

    assert members.who_serves(0) == "d-2"

    members.heard(Heartbeat(daemon="d-3", number=2, owned={0: 12}), 2.0)

    assert members.who_serves(0) == "d-3"
    assert members.forget_silent(hears_s=6.5) == ["d-2"]
    assert members.forget_silent(hears_s=7.5) == ["d-3"]
    assert members.who_serves(0) is None
