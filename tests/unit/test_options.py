"""Where options come from, which source wins, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from decoupled.server.configuration import choose
from decoupled.server.options import OPTIONS, Option, Options, is_protected


def toml(directory: Path, text: str) -> Path:
    file = directory / "decoupled.toml"
    file.write_text(text)
    return file


def test_without_any_source_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert choose({}) == Options()


def test_each_source_goes_before_the_next(tmp_path: Path) -> None:
    file = toml(tmp_path, "port = 1001\n[serve]\nport = 1002\n[environments.prod]\nport = 1003\n")
    variables = {"DECOUPLED_PORT": "1004"}
    assert choose({}, file).port == 1002
    assert choose({}, file, "prod").port == 1003
    assert choose({"port": None}, file, "prod", variables).port == 1004
    assert choose({"port": 1005}, file, "prod", variables).port == 1005


TOKENS = {"auth": "keys, jwt", "jwt_issuer": "https://issuer.example", "jwt_audience": "shop, till"}
TLS = {"tls_cert": "/there", "tls_key": "/there"}
GIVEN = {  # what cannot be any text
    **TOKENS,
    "operators": "key:ana, jwt:https://issuer.example#ben",
    "cors_origins": "https://shop.example, http://127.0.0.1:3000",
    "record_ttl": "90d, orders=365d",
    "body_ttl": "7d, orders.rejected=12h",
}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_can_be_a_variable(option: Option, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {int: "3", float: "33.5", bool: "true", str: "::1", Path: "/there", tuple: "a.b, ./c.py"}
    values = {"3": 3, "33.5": 33.5, "true": True, "/there": Path("/there")}
    text = GIVEN.get(option.field) or (option.choices[-1] if option.choices else texts[option.type])
    needed = next((them for them in (TOKENS, TLS) if option.field in them), {})
    variables = {f"DECOUPLED_{name.upper()}": given for name, given in needed.items()}
    options = choose({}, variables={**variables, option.variable: text})
    expected = tuple(text.split(", ")) if option.type is tuple else values.get(text, text)
    assert getattr(options, option.field) == expected


ISSUER = "jwt_issuer = 'https://issuer.example'\n"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("auth = 'jwt'", "tokens need all of auth jwt, jwt_issuer and jwt_audience"),
        (f"auth = 'jwt'\n{ISSUER}", "tokens need all of"),
        (f"auth = 'jwt'\n{ISSUER}jwt_audience = ''", "tokens need all of"),
        (f"auth = 'keys'\n{ISSUER}jwt_audience = 'shop'", "tokens need all of"),
        (f"{ISSUER}jwt_audience = 'shop'", "tokens need all of"),
        ("operators = ['ana']", "operators has 'ana'; a caller is key:NAME or jwt:ISSUER#SUBJECT"),
    ],
)
def test_what_tokens_and_operators_need_is_told(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=complaint):
        choose({}, toml(tmp_path, text))


@pytest.mark.parametrize(
    ("url", "protected"),
    [
        ("https://issuer.example", True),
        ("https://issuer.example:8443/realms/shop/", True),
        ("http://127.0.0.1:8080/realms/shop", True),
        ("http://[::1]:8080", True),
        ("http://localhost", True),
        ("http://issuer.example", False),
        ("http://127.0.0.1.example", False),
        ("http://localhost@issuer.example", False),
        ("https://ana@issuer.example", False),
        ("https://issuer.example/#x", False),
        ("https://issuer.example:port", False),
        ("https://", False),
        ("https:issuer.example", False),
        ("https://[::1", False),
        ("https://issuer.example/ x", False),
        ("https://issuer.example/\r\nx: y", False),
        ("ftp://issuer.example", False),
        ("issuer.example", False),
        ("", False),
    ],
)
def test_an_issuer_is_asked_where_nobody_on_the_way_can_answer_for_it(url: str, protected: bool) -> None:
    assert is_protected(url) is protected
    variables = {"DECOUPLED_AUTH": "jwt", "DECOUPLED_JWT_ISSUER": url, "DECOUPLED_JWT_AUDIENCE": "shop"}
    if protected:
        assert choose({}, variables=variables).jwt_issuer == url
    else:
        with pytest.raises(ValueError, match="jwt_issuer is"):
            choose({}, variables=variables)


def test_paths_of_the_file_are_relative_to_it(tmp_path: Path) -> None:
    options = choose({}, toml(tmp_path, 'workloads = ["./a,b.py"]'))
    assert (options.root, options.data) == (tmp_path, tmp_path / ".data")
    assert options.workloads == ("./a,b.py",)
    assert choose({"data": Path("here")}, tmp_path / "decoupled.toml").data == Path("here")
    assert choose({}, toml(tmp_path, 'replica = "../there"')).replica == str(tmp_path / "../there")
    assert choose({}, toml(tmp_path, 'replica = "s3://bucket/shop"')).replica == "s3://bucket/shop"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("concurrency = 'two'", "decoupled.toml: concurrency is 'two'; a whole number is needed"),
        ("concurrency = 65", "decoupled.toml: concurrency is 65; it can be 1 to 64"),
        ("concurrencey = 2", "decoupled.toml: there is no option 'concurrencey'; is it 'concurrency'?"),
        ("workloads = 3", "decoupled.toml: workloads is 3; a list of names is needed"),
        ("auth = 'some'", "auth is 'some'; it can be none, keys, jwt"),
        ("auth = ['keys', 'some']", "auth is 'keys, some'; it can be none, keys, jwt"),
        ("auth = []", "auth is ''; it can be none, keys, jwt"),
        ("auth = 'none, keys'", "auth is none, keys: either nobody is asked, or callers prove who they are"),
        ("insecure = 'yes'", "insecure is 'yes'; true or false is needed"),
        ("log_level = 'LOUD'", "log_level is 'LOUD'; it can be DEBUG, INFO, WARNING, ERROR"),
        ("[serve]\nrate = true", "decoupled.toml: [serve] rate is True; a number is needed"),
        ("[environments.test]\nport = 0", "decoupled.toml: [environments.test] port is 0; it can be 1 to 65,535"),
        ("environments = 3", "decoupled.toml: environments is 3; a table is needed"),
        ("port = ", "decoupled.toml: Invalid value"),
    ],
)
def test_a_wrong_file_is_told_by_name(text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError) as refused:
        choose({}, toml(tmp_path, text))
    assert complaint in str(refused.value)


def test_a_wrong_variable_is_told_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="DECOUPLED_PORT is 'http'; a whole number is needed"):
        choose({}, variables={"DECOUPLED_PORT": "http"})


def test_an_unknown_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no \[environments.prod\]; there is test"):
        choose({}, toml(tmp_path, "[environments.test]"), "prod")


@pytest.mark.parametrize(
    "origin",
    [
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "https://shop.example:443",
        "http://x:80",
        "null",
    ],
)
def test_an_origin_that_no_browser_would_name_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match=f"cors_origins has {origin!r}; "):
        Options(cors_origins=("https://shop.example", origin))


def test_a_certificate_and_its_key_come_together() -> None:
    with pytest.raises(ValueError, match="a certificate needs its key"):
        Options(tls_cert=Path("/there"))
    with pytest.raises(ValueError, match="a certificate needs its key"):
        Options(tls_key=Path("/there"))
    assert Options(tls_cert=Path("/there"), tls_key=Path("/there")).url == "https://127.0.0.1:8080"


@pytest.mark.parametrize(("cores", "fronts"), [(1, 0), (2, 1), (3, 1), (16, 8), (128, 8)])
def test_fronts_have_half_of_the_cores_unless_somebody_says_how_many(
    monkeypatch: pytest.MonkeyPatch, cores: int, fronts: int
) -> None:
    monkeypatch.setattr("decoupled.server.options._cores", lambda: cores)
    assert Options().front_processes == fronts
    assert Options(fronts=3).front_processes == 3
    assert Options(fronts=0).front_processes == 0
