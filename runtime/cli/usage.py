"""What is said of arguments that are missing: all of them at once."""

from functools import reduce

from cyclopts import App, CycloptsError
from cyclopts.exceptions import MissingArgumentError


def usage_words(app: App, error: CycloptsError) -> str:
    """Return what is wrong with the arguments, for people."""
    if not isinstance(error, MissingArgumentError) or error.keyword is not None:
        return str(error)
    chain = error.command_chain or ()
    names = _missing(reduce(App.__getitem__, chain, app), error)
    listed = " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    verb = "is" if len(names) == 1 else "are"
    command = " ".join(("refreshd", *chain))
    return f"{listed} {verb} missing. `{command} --help` says what there is."


def _missing(command: App, error: MissingArgumentError) -> list[str]:
    """Return the names from the first one on that is missing, in the order of the help."""
    first = error.argument
    assert first is not None
    given = {token.split("=", 1)[0] for token in error.root_input_tokens or ()}
    found: list[str] = []
    for one in command.assemble_argument_collection():
        is_required = one.parse and one.field_info.required and not one.keys
        if one.names == first.names or (found and is_required and given.isdisjoint(one.names)):
            is_positional = one.field_info.is_positional
            found.append(one.name.lstrip("-").upper() if is_positional else one.name)
    return found or [first.name]
