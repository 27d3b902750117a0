"""A line that is mended and imported again mends the connection that it made."""

from pathlib import Path

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.import_files import grant, imported, line, text_of
from tests.fakes.token_daemon import write_config

BARE = {"access_token": "at-bare"}


async def test_a_refresh_token_that_was_forgotten_is_taken_from_the_mended_line(tmp_path: Path):
    bare = [line(provider_slug="fake", credentials=grant(secret=BARE)) for _ in range(2)]
    mended = [bare[0] | {"credentials": grant()}, bare[1]]
    async with running_fake_provider() as provider:
        config = ("--config", str(write_config(tmp_path, provider)))
        async with (
            daemon_process(tmp_path / "data", *config) as daemon,
            plain_caller(**daemon.context) as caller,
        ):

            async def needs_action() -> list[str]:
                answer = await caller.ask("connections.list", {"needs_action": True})
                return [one["user_id"] for one in answer.body["ok"]["connections"]]

            first = await imported(tmp_path, daemon.data_dir, text_of(*bare), *config)
            in_need = await needs_action()
            again = await imported(tmp_path, daemon.data_dir, text_of(*mended), *config)
            late = await imported(tmp_path, daemon.data_dir, text_of(*bare), *config)

            assert "the secret has no refresh_token" in first.stderr
            assert "(2 lines: 1, 2)" in first.stderr
            assert sorted(in_need) == sorted(one["user_id"] for one in bare)
            assert (again.code, again.told["updated"], again.told["imported"]) == (0, 1, 1)
            assert (late.code, late.told["updated"]) == (0, 0)
            assert await needs_action() == [bare[1]["user_id"]]
