"""Flags win over environment, over file, over defaults; and every error names its place."""

from pathlib import Path

import msgspec
import pytest

from runtime.config import Config, default_data_dir, load_config
from runtime.provider.secret_files import ConfigError


def toml(folder: Path, text: str) -> Path:
    path = folder / "refreshd.toml"
    path.write_text(text)
    return path


def test_nothing_at_all_is_a_configuration():
    assert load_config(None, environment={}) == Config()
    assert load_config(None, environment={"PATH": "/bin", "HOME": "/"}) == Config()


def test_the_defaults_are_those_of_the_design():
    config = load_config(None, environment={})

    assert config.nats.url is None
    assert config.nats.replicas == 1
    assert config.state.partitions is None
    assert config.service.prefix == "refreshd.v1"
    assert config.service.limits.credential_bytes_max == 64 * 1024
    assert config.actors.mailbox_commands_max == 1024


def test_every_default_survives_being_written_down(tmp_path: Path):
    def lines(settings: dict[str, object], section: str) -> list[str]:
        plain = {k: v for k, v in settings.items() if not isinstance(v, dict) and v is not None}
        text = [
            f"[{section}]",
            *(f"{k} = {msgspec.json.encode(v).decode()}" for k, v in plain.items()),
        ]
        for name, inner in settings.items():
            if isinstance(inner, dict):
                text += lines(inner, f"{section}.{name}")
        return text

    defaults = msgspec.to_builtins(Config())
    text = "\n".join(line for name in defaults for line in lines(defaults[name], name))

    assert load_config(toml(tmp_path, text), environment={}) == Config()


def test_the_flag_wins_over_the_environment_over_the_file(tmp_path: Path):
    file = toml(tmp_path, '[nats]\nurl = "nats://file"\nreplicas = 3')
    environment = {"REFRESHD_NATS_URL": "nats://environment"}

    assert load_config(file, environment={}).nats.url == "nats://file"
    assert load_config(file, environment=environment).nats.url == "nats://environment"
    by_flag = load_config(file, environment=environment, nats_url="nats://flag")
    assert by_flag.nats.url == "nats://flag"
    assert by_flag.nats.replicas == 3


def test_the_file_can_be_named_by_the_environment(tmp_path: Path):
    named = toml(tmp_path, "[state]\npartitions = 5")

    assert load_config(None, environment={"REFRESHD_CONFIG": str(named)}).state.partitions == 5


def test_the_file_of_the_flag_wins_over_that_of_the_environment(tmp_path: Path):
    given = toml(tmp_path, "[state]\npartitions = 5")

    config = load_config(given, environment={"REFRESHD_CONFIG": "/nowhere"})

    assert config.state.partitions == 5


def test_the_process_environment_is_read_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("REFRESHD_STATE_PARTITIONS", "6")

    assert load_config(None).state.partitions == 6
    assert load_config(None, environment={}).state.partitions is None


def test_paths_are_read_from_file_and_environment(tmp_path: Path):
    file = toml(
        tmp_path,
        '[nats]\nserver_bin = "/opt/nats-server"\ncreds_file = "/c"\n[keys]\nfile = "/keys.json"',
    )
    environment = {"REFRESHD_KEYS_FILE": "/other.json", "REFRESHD_NATS_NKEY_SEED_FILE": "/seed"}

    config = load_config(file, environment=environment)

    assert config.nats.server_bin == Path("/opt/nats-server")
    assert config.nats.creds_file == Path("/c")
    assert config.nats.nkey_seed_file == Path("/seed")
    assert config.keys.file == Path("/other.json")


def test_limits_nest_in_file_and_environment(tmp_path: Path):
    file = toml(
        tmp_path,
        "[nats.link]\nping_interval_s = 7\n[service.limits]\nlists_max = 3\ncommands_max = 4",
    )
    environment = {
        "REFRESHD_NATS_LINK_PROBE_INTERVAL_S": "0.5",
        "REFRESHD_SERVICE_LIMITS_LISTS_MAX": "9",
        "REFRESHD_STATE_LIMITS_READ_TIMEOUT_S": "2",
        "REFRESHD_STATE_LIMITS_BATCH_MESSAGES_MAX": "999",
        "REFRESHD_ACTORS_MAILBOX_COMMANDS_MAX": "11",
    }

    config = load_config(file, environment=environment)

    assert (config.nats.link.ping_interval_s, config.nats.link.probe_interval_s) == (7, 0.5)
    assert (config.service.limits.lists_max, config.service.limits.commands_max) == (9, 4)
    assert config.state.limits.read_timeout_s == 2.0
    assert config.state.limits.batch_messages_max == 999
    assert config.actors.mailbox_commands_max == 11


def test_where_answers_may_go_is_a_list_and_in_the_environment_has_commas(tmp_path: Path):
    file = toml(tmp_path, '[service]\nreply_prefixes = ["_INBOX_ours."]')
    environment = {"REFRESHD_SERVICE_REPLY_PREFIXES": "_INBOX.,answers."}

    assert load_config(file, environment={}).service.reply_prefixes == ("_INBOX_ours.",)
    assert load_config(file, environment=environment).service.reply_prefixes == (
        "_INBOX.",
        "answers.",
    )


@pytest.mark.parametrize("prefixes", ["", "$", "$KV.", "_INBOX.,", ">", "a.*", "a b", "."])
def test_a_prefix_that_would_let_answers_go_anywhere_is_refused(prefixes: str):
    with pytest.raises(ConfigError, match="REFRESHD_SERVICE_REPLY_PREFIXES"):
        load_config(None, environment={"REFRESHD_SERVICE_REPLY_PREFIXES": prefixes})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[nats]\ncredz = 1", "unknown field `credz` - at `$.nats`"),
        ("[natz]\nurl = 1", "unknown field `natz`"),
        ("[nats.link]\nping = 1", "unknown field `ping` - at `$.nats.link`"),
        ("[service.limits]\nx = 1", "unknown field `x` - at `$.service.limits`"),
        ("[nats]\nurl = 7", "at `$.nats.url`"),
        ("[nats]\nserver_bin = 7", "at `$.nats.server_bin`"),
        ("[nats]\nreplicas = 6", "at `$.nats.replicas`"),
        ('[nats]\nreplicas = "3"', "at `$.nats.replicas`"),
        ("[nats]\nport = 0", "at `$.nats.port`"),
        ("[state]\npartitions = 65", "at `$.state.partitions`"),
        ("[service]\ndrain_grace_s = 0", "at `$.service.drain_grace_s`"),
        ("[cluster]\nmember_timeout_s = 1", "at `$.cluster.member_timeout_s`"),
        ('[log]\nlevel = "loud"', "at `$.log.level`"),
        ("nats = 1", "at `$.nats`"),
    ],
)
def test_a_fault_in_the_file_is_told_with_file_and_path(tmp_path: Path, text: str, told: str):
    file = toml(tmp_path, text)

    with pytest.raises(ConfigError) as error:
        load_config(file, environment={})

    assert str(error.value).startswith(f"{file}: ")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("REFRESHD_NATZ_URL", "x", "no such section"),
        ("REFRESHD_X", "x", "no such section"),
        ("REFRESHD_", "x", "no such section"),
        ("REFRESHD_NATS", "x", "no such key"),
        ("REFRESHD_NATS_CREDZ", "x", "no such key"),
        ("REFRESHD_NATS_LINK", "x", None),
        ("REFRESHD_NATS_LINK_PING", "1", "no such key"),
        ("REFRESHD_KEYS_LIMITS_X", "1", "no such key"),
        ("REFRESHD_NATS_REPLICAS", "three", None),
        ("REFRESHD_NATS_REPLICAS", "9", None),
        ("REFRESHD_NATS_REPLICAS", "", None),
        ("REFRESHD_STATE_PARTITIONS", "1.5", None),
        ("REFRESHD_LOG_LEVEL", "loud", None),
    ],
)
def test_a_fault_in_the_environment_is_told_with_the_variable(
    name: str, value: str, told: str | None
):
    with pytest.raises(ConfigError) as error:
        load_config(None, environment={name: value})

    assert str(error.value).startswith(f"environment variable {name}: ")
    assert told is None or told in str(error.value)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a.*",
        "a.>",
        "$SRV",
        "$KV.x",
        "ä",
        "a\n",
        "a.\tb",
        "a" * 101,
    ],
)
def test_a_prefix_that_is_no_plain_subject_is_refused(prefix: str):
    with pytest.raises(ConfigError, match=r"service\.prefix"):
        load_config(None, environment={"REFRESHD_SERVICE_PREFIX": prefix})


@pytest.mark.parametrize("prefix", ["refreshd.v1", "a", "A-b_3.c", "a" * 100])
def test_a_plain_prefix_is_taken(prefix: str):
    config = load_config(None, environment={"REFRESHD_SERVICE_PREFIX": prefix})

    assert config.service.prefix == prefix


def test_a_batch_beyond_what_a_server_takes_is_refused():
    with pytest.raises(ConfigError, match="REFRESHD_STATE_LIMITS_BATCH_MESSAGES_MAX"):
        load_config(None, environment={"REFRESHD_STATE_LIMITS_BATCH_MESSAGES_MAX": "1000"})


@pytest.mark.parametrize(
    ("content", "told"), [(None, ": No such file"), (b"\xff\xfe", ":1:1: "), (b"a = ", ":1:5: ")]
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, told: str):
    file = tmp_path / "refreshd.toml"
    if content is not None:
        file.write_bytes(content)

    for load in (
        lambda: load_config(file, environment={}),
        lambda: load_config(None, environment={"REFRESHD_CONFIG": str(file)}),
    ):
        with pytest.raises(ConfigError, match=f"^{file}{told}"):
            load()


def test_a_folder_is_no_configuration(tmp_path: Path):
    with pytest.raises(ConfigError, match=f"^{tmp_path}: Is a directory"):
        load_config(tmp_path, environment={})


def test_secrets_come_from_files(tmp_path: Path):
    (tmp_path / "password").write_text("pass word\n")
    (tmp_path / "token").write_text("t0ken")
    creds, seed = tmp_path / "creds", tmp_path / "seed"
    creds.touch()
    seed.touch()
    text = f"""
        [nats]
        url = "nats://host"
        user = "me"
        password_file = "{tmp_path / "password"}"
        token_file = "{tmp_path / "token"}"
        creds_file = "{creds}"
        nkey_seed_file = "{seed}"
    """

    login = load_config(toml(tmp_path, text), environment={}).login()

    assert (login.url, login.user) == ("nats://host", "me")
    assert (login.password, login.token) == ("pass word", "t0ken")
    assert (login.creds_file, login.nkey_seed_file) == (creds, seed)


@pytest.mark.parametrize("key", ["creds_file", "nkey_seed_file", "key_file"])
def test_a_file_that_lets_into_nats_and_is_missing_is_named_with_its_key(tmp_path: Path, key: str):
    missing = tmp_path / "missing"
    config = load_config(
        toml(tmp_path, f'[nats]\nurl = "nats://h"\n{key} = "{missing}"'), environment={}
    )

    with pytest.raises(ConfigError, match=rf"^nats\.{key}: {missing}: No such file"):
        config.login()


@pytest.mark.parametrize("key", ["password_file", "token_file"])
def test_a_secret_file_that_cannot_be_read_is_named_with_its_key(tmp_path: Path, key: str):
    secret = tmp_path / "secret"
    text = f'[nats]\nurl = "nats://h"\n{key} = "{secret}"'
    config = load_config(toml(tmp_path, text), environment={})

    with pytest.raises(ConfigError, match=rf"^nats\.{key}: {secret}: No such file"):
        config.login()
    secret.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=rf"^nats\.{key}: {secret}: not text"):
        config.login()


def test_no_configuration_shows_a_secret(tmp_path: Path):
    config = load_config(None, environment={"REFRESHD_NATS_URL": "nats://me:s3cret@host"})

    assert "s3cret" not in repr(config.login())


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"REFRESHD_DATA_DIR": "/data", "XDG_STATE_HOME": "/state"}, Path("/data")),
        ({"XDG_STATE_HOME": "/state"}, Path("/state/refreshd")),
        ({"XDG_STATE_HOME": ""}, Path.home() / ".local/state/refreshd"),
        ({}, Path.home() / ".local/state/refreshd"),
    ],
)
def test_the_data_folder_is_where_the_environment_says(environment: dict[str, str], folder: Path):
    assert default_data_dir(environment) == folder


@pytest.mark.parametrize(
    "name",
    ["REFRESHD_PORT", "REFRESHD_PORT_4222_TCP", "REFRESHD_SERVICE_HOST", "REFRESHD_SERVICE_PORT"],
)
def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting(name: str):
    assert load_config(None, environment={name: "tcp://10.0.0.1:80"}) == Config()


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
@pytest.mark.parametrize(
    "name",
    [
        "REFRESHD_ACTORS_BURST_COMMANDS_MAX",
        "REFRESHD_ACTORS_IDLE_S",
        "REFRESHD_SERVICE_LIMITS_LISTS_MAX",
        "REFRESHD_SERVICE_LIMITS_CREDENTIAL_BYTES_MAX",
        "REFRESHD_STATE_LIMITS_WRITE_TIMEOUT_S",
        "REFRESHD_EVENTS_LIMITS_BATCH_EVENTS_MAX",
        "REFRESHD_NATS_LINK_PROBE_INTERVAL_S",
        "REFRESHD_SERVICE_DRAIN_GRACE_S",
    ],
)
def test_a_bound_that_bounds_nothing_is_refused(name: str, value: str):
    with pytest.raises(ConfigError, match=name):
        load_config(None, environment={name: value})
