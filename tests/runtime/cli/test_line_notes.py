"""A text is told once, with how many lines it is about and the first of them by number."""

from runtime.cli.line_notes import LineNotes


def told(*notes: tuple[str, int]) -> list[str]:
    held = LineNotes()
    for text, line in notes:
        held.note(text, line)
    return list(held.told())


def test_one_line_is_named():
    assert told(("it ends", 7)) == ["it ends (line 7)"]


def test_of_many_lines_the_first_are_named_in_whatever_order_they_came():
    lines = [("it ends", line) for line in (9, 3, 8, 1, 7, 2, 6)]

    assert told(*lines, ("other", 4)) == ["it ends (7 lines: 1, 2, 3, 6, 7, ...)", "other (line 4)"]
    assert told(*lines[:2]) == ["it ends (2 lines: 3, 9)"]


def test_however_many_texts_there_are_no_more_than_a_hundred_are_held():
    said = told(*((f"provider {number}", number) for number in range(1, 501)))

    assert len(said) == 101
    assert said[-1] == "more is to be told of 400 lines: mend these first"
