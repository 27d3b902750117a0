"""What docs/fake-provider.md shows of the provider within a test runs as it stands."""

import ast
import inspect

from tests.fakes.papers import block


async def test_the_python_of_the_paper_runs():
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(block("docs/fake-provider.md", "python"), "docs/fake-provider.md", "exec", flags)
    names: dict[str, object] = {}

    running = eval(code, names)  # noqa: S307 -- our own
    assert inspect.isawaitable(running)
    await running

    assert names["provider"] is not None
