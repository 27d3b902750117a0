"""What is wrong with lines is told before they are imported, and mended by importing them again."""

from pathlib import Path

from runtime.fake_provider.server import running_fake_provider
from tests.fakes.daemon_process import daemon_process, plain_caller
from tests.fakes.import_files import grant, imported, line, text_of
from tests.fakes.refreshd_command import refreshd
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


async def test_a_dry_run_tells_of_each_provider_and_warns_as_the_import_does(tmp_path: Path):
    lines = [
        line(provider_slug="fake"),
        line(provider_slug="fake", credentials=grant(secret=BARE)),
        line(provider_slug="feke"),
        line(provider_slug="fake", nope=1),
    ]
    async with running_fake_provider() as provider:
        config = ("--config", str(write_config(tmp_path, provider)))

    (tmp_path / "client-secret").unlink()
    known = await imported(tmp_path, None, text_of(*lines), "--dry-run", *config)
    unknown = await imported(tmp_path, None, text_of(*lines), "--dry-run")
    table = await refreshd("import", str(tmp_path / "lines.ndjson"), "--dry-run", *config)

    assert known.told["provider_slugs"] == {
        "fake": {"lines": 2, "has_profile": True},
        "feke": {"lines": 1, "has_profile": False},
    }
    assert "the secret has no refresh_token" in known.stderr
    assert "user sign in once more (line 2)" in known.stderr
    assert "no profile is configured for provider feke" in known.stderr
    assert "will not be refreshed (line 3)" in known.stderr
    assert "fake 2, feke 1 (no profile)" in table.stdout
    assert unknown.told["provider_slugs"]["feke"] == {"lines": 1, "has_profile": None}
    assert "(line 2)" in unknown.stderr
    assert "no profile" not in unknown.stderr
    assert "no provider is configured here" in unknown.stderr


async def test_a_file_of_more_providers_than_are_listed_says_so(tmp_path: Path):
    lines = [line(provider_slug=f"p-{number}") for number in range(103)]

    run = await imported(tmp_path, None, text_of(*lines), "--dry-run")

    assert len(run.told["provider_slugs"]) == 100
    assert run.told["lines_of_other_slugs"] == 3
