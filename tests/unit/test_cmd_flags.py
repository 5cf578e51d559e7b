"""Flags mean what they mean to pflag."""

from __future__ import annotations

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from nanocontainer.cmd import flags

TABLE: flags.Table = (
    ("rm", "", "bool", False, "x"),
    ("interactive", "i", "bool", False, "x"),
    ("tty", "t", "bool", False, "x"),
    ("detach", "d", "bool", False, "x"),
    ("proxy", "", "bool", True, "x"),
    "Heading",
    ("name", "", "string", "", "x"),
    ("workdir", "w", "string", "/", "x"),
    ("env", "e", "list", None, "x"),
    ("publish", "p", "list", None, "x"),
    ("count", "c", "int", 0, "x"),
    ("cpus", "", "float", 0.0, "x"),
    ("memory", "m", "bytes", 0, "x"),
    ("interval", "", "duration", 0.0, "x"),
    ("explain", "", "optional", "text", "x"),
    ("environment", "", "=env", None, ""),
    ("restart", "", "later", None, ""),
    ("hostname", "h", "string", "", "x"),
)


def parse(*words: str, interspersed: bool = True) -> flags.Given:
    return flags.parse(TABLE, list(words), interspersed=interspersed)


@pytest.mark.parametrize(
    ("words", "values", "args"),
    [
        ([], {"rm": False, "proxy": True, "env": [], "explain": "", "workdir": "/"}, []),
        (["--rm"], {"rm": True}, []),
        (["--rm=false", "--rm=1", "--rm=F"], {"rm": False}, []),
        (["--proxy=0"], {"proxy": False}, []),
        (["--rm", "true"], {"rm": True}, ["true"]),  # a bool does not take the next word
        (["--name", "x", "--name=y"], {"name": "y"}, []),
        (["--name", "--rm"], {"name": "--rm", "rm": False}, []),  # as pflag: the next word, whatever it is
        (["--name="], {"name": ""}, []),
        (["--name=a=b"], {"name": "a=b"}, []),
        (["-itd"], {"interactive": True, "tty": True, "detach": True}, []),
        (["-it=false"], {"interactive": True, "tty": False}, []),
        (["-ite", "A=b"], {"interactive": True, "env": ["A=b"]}, []),
        (["-iteA=b"], {"tty": True, "env": ["A=b"]}, []),
        (["-e=A=b"], {"env": ["A=b"]}, []),
        (["-p8080:80", "-p", "90"], {"publish": ["8080:80", "90"]}, []),
        (["-e", "A=1,2", "--env", "B", "--environment=C"], {"env": ["A=1,2", "B", "C"]}, []),
        (["-c-5"], {"count": -5}, []),
        (["-c", "0x10"], {"count": 16}, []),
        (["--cpus", "1.5", "-m", "64m"], {"cpus": 1.5, "memory": 64 << 20}, []),
        (["--interval", "1m30s"], {"interval": 90.0}, []),
        (["--explain"], {"explain": "text"}, []),
        (["--explain=json", "x"], {"explain": "json"}, ["x"]),
        (["-h", "box"], {"hostname": "box"}, []),
        (["a", "--rm", "b", "-"], {"rm": True}, ["a", "b", "-"]),
        (["a", "--", "--rm", "-x"], {"rm": False}, ["a", "--rm", "-x"]),
        (["--"], {}, []),
    ],
)
def test_values(words: list[str], values: dict[str, object], args: list[str]) -> None:
    given = parse(*words)
    assert {name: given[name] for name in values} == values
    assert given.args == args


def test_stops_at_the_first_argument() -> None:
    given = parse("--rm", "image", "--rm=false", "-z", "--", "x", interspersed=False)
    assert given["rm"] is True
    assert given.args == ["image", "--rm=false", "-z", "--", "x"]
    assert parse("--", "image", "-x", interspersed=False).args == ["image", "-x"]


def test_knows_what_was_given() -> None:
    given = parse("-t=false", "--env=x")
    assert "tty" in given and "env" in given and "rm" not in given
    assert list(given.named) == ["tty", "env"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--foo"], "unknown flag: --foo"),
        (["--foo=bar"], "unknown flag: --foo"),
        (["-x"], "unknown shorthand flag: 'x' in -x"),
        (["-ixt"], "unknown shorthand flag: 'x' in -ixt"),
        (["--name"], "flag needs an argument: --name"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["-ie"], "flag needs an argument: 'e' in -ie"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (["--rm=maybe"], 'invalid argument "maybe" for "--rm" flag: must be true or false'),
        (["-c", "many"], 'invalid argument "many" for "-c, --count" flag: must be a whole number'),
        (["-m", "lots"], 'invalid argument "lots" for "-m, --memory" flag: must be a size such as 64m (b, k, m, g)'),
        (["--cpus=-1"], 'invalid argument "-1" for "--cpus" flag: must be a number such as 1.5'),
        (["--interval=5"], 'invalid argument "5" for "--interval" flag: must be a duration such as 1m30s'),
        (["--restart"], "--restart is not supported yet"),
        (["--restart=always"], "--restart is not supported yet"),
    ],
)
def test_errors(words: list[str], message: str) -> None:
    with pytest.raises(flags.BadFlag) as error:
        parse(*words)
    assert str(error.value) == message


def test_near_flags_are_named() -> None:
    with pytest.raises(flags.BadFlag) as error:
        parse("--hostnme", "x")
    assert error.value.hint == "did you mean --hostname?"


@pytest.mark.parametrize("word", ["-hostname=x", "-env", "-rm", "-memory", "-name=x", "-interval", "-tty"])
def test_one_dash_is_not_two(word: str) -> None:
    with pytest.raises(flags.BadFlag) as error:
        parse(word, "x")
    assert error.value.hint == f"did you mean -{word}?"


def test_help() -> None:
    for words in (["--help"], ["-i", "--help"], ["x", "--help"]):
        with pytest.raises(flags.HelpWanted):
            parse(*words)
    with pytest.raises(flags.HelpWanted):
        flags.parse((), ["-h"])
    assert parse("x", "--help", interspersed=False).args == ["x", "--help"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("1b", 1), ("1k", 1024), ("1K", 1024), ("1kb", 1024), ("1KiB", 1024), ("64m", 64 << 20),
        ("2g", 2 << 30), ("1.5g", 3 << 29), ("1t", 1 << 40), ("10 MB", 10 << 20), ("-1", -1), (".5k", 512),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert flags.read_bytes(text) == size


@pytest.mark.parametrize(
    "text", ["", "b", "k", "-2", "1x", "1kk", "1.2.3", "1e3", "m64", "0x10", "\u0661", "1k b", " 1"]
)
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        flags.read_bytes(text)


@hypothesis_given(st.integers(0, 1 << 50), st.sampled_from(["", "k", "m", "g"]), st.sampled_from(["", "b", "B", "ib"]))
def test_sizes_agree_with_their_units(number: int, unit: str, tail: str) -> None:
    assert flags.read_bytes(f"{number}{unit}{tail}") == number << {"": 0, "k": 10, "m": 20, "g": 30}[unit]


@hypothesis_given(st.lists(st.text(max_size=8), max_size=8), st.booleans())
def test_any_words_are_parsed_or_refused(words: list[str], interspersed: bool) -> None:
    try:
        given = flags.parse(TABLE, words, interspersed=interspersed)
    except (flags.BadFlag, flags.HelpWanted):
        return
    assert all(word in words for word in given.args)


@hypothesis_given(st.text())
def test_readers_raise_nothing_but_value_error(text: str) -> None:
    for read in flags.READERS.values():
        try:
            read(text)
        except ValueError:
            pass


@hypothesis_given(st.text(min_size=1), st.text(min_size=1))
def test_forms_of_a_value_are_the_same(value: str, other: str) -> None:
    assert parse("--name", value)["name"] == parse(f"--name={value}")["name"] == value
    assert parse("-w", value)["workdir"] == parse(f"-w={value}")["workdir"] == value
    assert parse("-e", value, f"--env={other}")["env"] == [value, other]
