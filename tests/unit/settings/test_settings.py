"""Settings: precedence, units, refusals, masking, and one table for everything."""

from pathlib import Path
from typing import Any

import pytest

from jitway.errors import SettingsError
from jitway.settings import TABLE, Settings, env_example, load, markdown_table, masked_url

ROOT = Path(__file__).parents[3]
HOME = {"HOME": "/home/ada"}


def loaded(directory: Path, **environ: str) -> Settings:
    return load(HOME | environ, directory)


def test_defaults_need_nothing_but_a_home(tmp_path: Path) -> None:
    settings = loaded(tmp_path)
    assert (settings.host, settings.port) == ("127.0.0.1", 3000)
    assert settings.database_url is None
    assert settings.data_dir == Path("/home/ada/.local/share/jitway")
    assert (settings.pool_min, settings.pool_max) == (5, 20)
    assert settings.hold_ttl_s == 604_800
    assert settings.body_bytes_max == 65_536
    assert settings.log_format is None
    assert settings.sources == {}


def test_the_environment_wins_over_the_file_and_both_over_defaults(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\nJITWAY_POOL_MIN=2\n")
    settings = loaded(tmp_path, PORT="5000")
    assert (settings.port, settings.pool_min, settings.pool_max) == (5000, 2, 20)
    assert settings.sources == {"PORT": "environment", "JITWAY_POOL_MIN": ".env line 2"}


def test_an_empty_variable_means_not_set_and_still_wins(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("DATABASE_URL=postgresql://a:b@c/d\n")
    assert loaded(tmp_path, DATABASE_URL="").database_url is None


def test_the_command_line_wins(tmp_path: Path) -> None:
    settings = load(HOME | {"PORT": "4000"}, tmp_path, port=5000)
    assert settings.port == 5000
    assert settings.sources["PORT"] == "command line"


def test_the_file_may_be_another_or_none(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=4000\n")
    (tmp_path / "other").write_text("PORT=4001\n")
    assert loaded(tmp_path, JITWAY_ENV_FILE="other").port == 4001
    assert loaded(tmp_path, JITWAY_ENV_FILE="/dev/null").port == 3000


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("MONGODB_DB=plain", "plain"),
        ("export MONGODB_DB=exported", "exported"),
        ("  MONGODB_DB = spaced  ", "spaced"),
        ("MONGODB_DB='quoted'", "quoted"),
        ('MONGODB_DB="quoted" # with a comment', "quoted"),
        ("MONGODB_DB=value # a comment", "value"),
        ("MONGODB_DB=a#b", "a#b"),
        ("# MONGODB_DB=commented", "jitway"),
        ("MONGODB_DB=", "jitway"),
        ("SOMEBODY_ELSES=1", "jitway"),
    ],
)
def test_lines_of_the_file(tmp_path: Path, line: str, value: str) -> None:
    (tmp_path / ".env").write_text(line + "\n")
    assert loaded(tmp_path).mongodb_db == value


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PORT 4000\n", r"\.env line 1 is not NAME=value"),
        (b"PORT=1\nMONGODB_DB='open\n", r"\.env line 2 has a quotation mark"),
        (b"PORT=\xff\n", "not UTF-8"),
        (b"#" * 70_000, "larger than"),
        (b"JITWAY_ENV_FILE=x\n", "has no effect"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "attribute", "value"),
    [
        ("JITWAY_DRAIN_S", "2", "drain_s", 2),
        ("JITWAY_DRAIN_S", "500ms", "drain_s", 0.5),
        ("JITWAY_DRAIN_S", "0.25", "drain_s", 0.25),
        ("JITWAY_DECISION_BUDGET_MS", "2s", "decision_budget_ms", 2000),
        ("JITWAY_DECISION_BUDGET_MS", "750", "decision_budget_ms", 750),
        ("JITWAY_HOLD_TTL_S", "7d", "hold_ttl_s", 604_800),
        ("JITWAY_HOLD_TTL_S", "2 h", "hold_ttl_s", 7_200),
        ("JITWAY_BODY_BYTES_MAX", "64KiB", "body_bytes_max", 65_536),
        ("JITWAY_BODY_BYTES_MAX", "100kB", "body_bytes_max", 100_000),
        ("JITWAY_BODY_BYTES_MAX", "1MiB", "body_bytes_max", 1_048_576),
        ("JITWAY_LOG_LEVEL", "WARNING", "log_level", "warning"),
        ("JITWAY_UNSAFE_DURABILITY", "yes", "unsafe_durability", True),
        ("JITWAY_UNSAFE_DURABILITY", "off", "unsafe_durability", False),
        ("JITWAY_OTEL_SAMPLE", "0", "otel_sample", 0.0),
        ("JITWAY_OTEL_SAMPLE", ".25", "otel_sample", 0.25),
        ("JITWAY_OTEL_SAMPLE", "1.0", "otel_sample", 1.0),
    ],
)
def test_units(tmp_path: Path, name: str, text: str, attribute: str, value: Any) -> None:
    assert getattr(loaded(tmp_path, **{name: text}), attribute) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "70000"),
        ("PORT", "-1"),
        ("PORT", "3000.0"),
        ("PORT", "3_000"),
        ("PORT", "\u0663"),
        ("HOST", "two words"),
        ("JITWAY_DRAIN_S", "6s"),
        ("JITWAY_DRAIN_S", "1 week"),
        ("JITWAY_DRAIN_S", "-1"),
        ("JITWAY_DRAIN_S", "nan"),
        ("JITWAY_DRAIN_S", "1e3"),
        ("JITWAY_DECISION_BUDGET_MS", "0.5ms"),
        ("JITWAY_BODY_BYTES_MAX", "1TB"),
        ("JITWAY_BODY_BYTES_MAX", "1023"),
        ("JITWAY_LOG_FORMAT", "xml"),
        ("JITWAY_UNSAFE_DURABILITY", "perhaps"),
        ("JITWAY_OTEL_SAMPLE", "1.01"),
        ("JITWAY_OTEL_SAMPLE", "-0.1"),
        ("JITWAY_OTEL_SAMPLE", "1%"),
        ("JITWAY_OTEL_SAMPLE", "nan"),
        ("JITWAY_OTEL_ENDPOINT", "127.0.0.1:4318"),
        ("DATABASE_URL", "mysql://u:p@h/d"),
        ("DATABASE_URL", "postgresql://u:p @h/d"),
    ],
)
def test_values_out_of_form_or_bounds_are_refused_by_name(
    tmp_path: Path, name: str, text: str
) -> None:
    with pytest.raises(SettingsError, match=name):
        loaded(tmp_path, **{name: text})


def test_an_unknown_name_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="did you mean JITWAY_POOL_MAX"):
        loaded(tmp_path, JITWAY_POLL_MAX="3")
    with pytest.raises(SettingsError, match="jitway settings"):
        loaded(tmp_path, JITWAY_QQQQQQQQ="3")


def test_switches_of_tests_are_refused_outside_of_them(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="only for jitway's own tests"):
        loaded(tmp_path, JITWAY_TEST_FAILPOINTS="commit:kill")
    assert loaded(tmp_path, JITWAY_TEST_FAILPOINTS="x", JITWAY_TEST_MODE="1").test_mode


def test_names_of_the_scripts_pass(tmp_path: Path) -> None:
    assert loaded(tmp_path, JITWAY_REQUIRE_SERVICES="1").port == 3000


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"JITWAY_DECISION_BUDGET_MS": "500"}, "JITWAY_BATCH_STATEMENT_TIMEOUT_MS"),
        ({"JITWAY_POOL_MIN": "21"}, "JITWAY_POOL_MAX"),
        ({"JITWAY_WAITING_MAX": "100"}, "JITWAY_BATCH_SIZE_MAX"),
        ({"JITWAY_HOLD_TTL_S": "1"}, "JITWAY_DECISION_BUDGET_MS"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, environ: dict[str, str], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        loaded(tmp_path, **environ)


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://u:p@h/d\n")
    settings = loaded(tmp_path, DATABASE_URL_FILE=str(secret))
    assert settings.database_url == "postgresql://u:p@h/d"
    assert settings.sources["DATABASE_URL"] == "DATABASE_URL_FILE (environment)"
    with pytest.raises(SettingsError, match="both set"):
        loaded(tmp_path, DATABASE_URL_FILE=str(secret), DATABASE_URL="postgresql://h/d")
    with pytest.raises(SettingsError, match="unreadable"):
        loaded(tmp_path, DATABASE_URL_FILE=str(tmp_path / "missing"))


def test_no_home_matters_only_to_the_embedded_server(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="JITWAY_DATA_DIR or DATABASE_URL"):
        load({}, tmp_path)
    assert load({"DATABASE_URL": "postgresql://h/d"}, tmp_path).database_url
    assert load({"JITWAY_DATA_DIR": "/x"}, tmp_path).data_dir == Path("/x")
    assert load({"XDG_DATA_HOME": "/y"}, tmp_path).data_dir == Path("/y/jitway")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://u:se/cr@et@h/d", "postgresql://u:***@h/d"),
        ("redis://:secret@h", "redis://:***@h"),
        ("postgresql://h/d?password=secret&x=1", "postgresql://h/d?password=***&x=1"),
        ("mongodb://u:secret@a:1,b:2/?ssl=true", "mongodb://u:***@a:1,b:2/?ssl=true"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("secret", "***"),
    ],
)
def test_addresses_are_masked(url: str, shown: str) -> None:
    assert masked_url(url) == shown


def test_nothing_that_is_shown_tells_a_secret(tmp_path: Path) -> None:
    urls = {
        "DATABASE_URL": "postgresql://u:canary@h/d",
        "REDIS_URL": "redis://:canary@h",
        "RABBITMQ_URL": "amqp://u:canary@h",
        "MONGODB_URI": "mongodb://u:canary@h",
    }
    settings = loaded(tmp_path, **urls)
    assert "canary" in str(settings.database_url)
    assert "canary" not in repr(settings)
    assert "canary" not in repr(settings.shown())
    with pytest.raises(SettingsError) as refused:
        loaded(tmp_path, DATABASE_URL="mysql://u:canary@h/d")
    assert "canary" not in str(refused.value)


def test_the_table_renders_the_example_and_the_docs() -> None:
    """`jitway settings --env > .env.example` and `--markdown` bring them up to date."""
    assert (ROOT / ".env.example").read_text() == env_example()
    table = markdown_table()
    assert (ROOT / "docs" / "configuration.md").read_text().endswith(table)
    for row in TABLE:
        assert f"`{row.name}`" in table
        assert row.meaning.endswith("."), row.name


def test_the_example_as_it_stands_sets_the_guides_five_variables(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(env_example())
    settings = loaded(tmp_path)
    assert set(settings.sources) == {row.name for row in TABLE if row.example}
    assert list(settings.sources) == [
        "DATABASE_URL",
        "MONGODB_URI",
        "MONGODB_DB",
        "REDIS_URL",
        "RABBITMQ_URL",
    ]
    assert settings.database_url == "postgresql://jitway:jitway@127.0.0.1:5432/jitway"


def test_uncommenting_the_rest_of_the_example_changes_nothing(tmp_path: Path) -> None:
    lines = [line.removeprefix("# ") for line in env_example().splitlines()]
    (tmp_path / "all").write_text("\n".join(line for line in lines if line.split("=")[0].isupper()))
    every = loaded(tmp_path, JITWAY_ENV_FILE="all")
    for row, value, source in loaded(tmp_path).shown()[:-1]:
        assert source == "default"
        written = {name.name: text for name, text, _ in every.shown()}[row.name]
        assert row.example or written == value, row.name
