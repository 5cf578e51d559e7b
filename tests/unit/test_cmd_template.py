"""--format, against what docker's own command line prints (28.2, `docker context ls --format`)."""

from __future__ import annotations

import pytest
from hypothesis import given as hypothesis_given
from hypothesis import strategies as st

from nanocontainer.cmd.flags import BadTemplate
from nanocontainer.cmd.table import Method
from nanocontainer.cmd.template import FreeMap, Template, listing

ROW = {
    "Name": "default",
    "Description": "Current DOCKER_HOST based configuration",
    "Current": True,
    "Lazy": lambda: "called",
    "Label": Method(lambda name: {"a.b": "c"}.get(name, "")),
}
DATA = {
    "State": {"Status": "running", "Pid": 42, "ExitCode": 0, "Paused": False},
    "Name": "/web",
    "Mounts": [{"Source": "/a", "Destination": "/x"}, {"Source": "/b", "Destination": "/y"}],
    "Env": ["A=1", "B=2"],
    "Config": {"Labels": FreeMap({"x": "y", "io.a": "b"}), "Cmd": None},
    "Ports": FreeMap({"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": None}),
    "Float": 1.5,
}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # by docker itself
        ("{{.Name}}", "default"),
        ("{{upper .Name}}", "DEFAULT"),
        ('{{.Name | printf "%-10s|"}}', "default   |"),
        ("{{len .Name}}", "7"),
        ('{{if eq .Name "default"}}yes{{else}}no{{end}}', "yes"),
        ('{{range split .Name "f"}}[{{.}}]{{end}}', "[de][ault]"),
        ('{{range $i,$x := split .Name "f"}}{{$i}}={{$x}} {{else}}none{{end}}', "0=de 1=ault "),
        ("{{with $x := .Name}}{{$x}}{{end}}", "default"),
        ("{{truncate .Name 3}}|{{pad .Name 2 3}}|{{title .Name}}", "def|  default   |Default"),
        ('{{index (split .Name "f") 1}}', "ault"),
        ("{{println .Name 1 true}}x", "default 1 true\nx"),
        ('{{print 1 2 "a" 3}}', "1 2a3"),
        ('{{not .Current}} {{and 1 0}} {{or 0 "x"}} {{lt 1 2}}', "false 0 x true"),
        ('{{$x := "a"}}{{if true}}{{$x = "b"}}{{end}}{{$x}}', "b"),
        ("{{- .Name -}}  x", "defaultx"),
        ("a  {{- .Name}}", "adefault"),
        ("{{/* c */}}x", "x"),
        (r'{{"a\tb"}}{{`raw`}}', "a\tbraw"),
        ('{{join (split .Name "f") "-"}}', "de-ault"),
        ("{{slice .Name 1 3}}", "ef"),
        ('{{printf "%d %q %v %5.2f|" 3 "a" true 1.5}}', '3 "a" true  1.50|'),
        ("{{if false}}a{{else if true}}b{{end}}", "b"),
        ("{{index .Name 0}}", "100"),
        ("{{'a'}}", "97"),
        ("{{1.5}} {{-3}} {{1e3}}", "1.5 -3 1000"),
        ('{{lower "ABC" | upper}}', "ABC"),
        ('{{(index (split .Name "f") 0) | len}}', "2"),
        ('{{eq "a" "b" "a"}}', "true"),
        ("{{$.Name}}", "default"),
        ('{{html "<a>"}}', "&lt;a&gt;"),
        ("{{ne 1 2}}{{ge 2 2}}{{le 3 2}}{{gt 3 2}}", "truetruefalsetrue"),
        ('{{json "<a>"}}', '"<a>"'),
        ('{{split .Name ""}}', "[d e f a u l t]"),
        ('{{range $x := split "a b" " "}}{{if eq $x "a"}}{{continue}}{{end}}{{$x}}{{end}}', "b"),
        ('{{printf "%s" 1}}', "%!s(int=1)"),
        ("{{1 | print 2}}", "2 1"),
        # ours
        ("{{.Lazy}}", "called"),
        ('{{.Label "a.b"}}{{.Label "no"}}', "c"),
        ('{{"a.b" | .Label}}', "c"),
        ("plain", "plain"),
        ("", ""),
        ("{{range 3}}{{.}}{{break}}{{end}}", "0"),
        ("}} { {{`{{`}} }", "}} { {{ }"),
        ("{{if .Name}}{{if not .Current}}a{{end}}b{{end}}c", "bc"),
        ("{{and .Current (eq .Name `x`) (nope)}}", None),
        ("{{or .Current .Nope}}", "true"),  # not evaluated
    ],
)
def test_rows(text: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(BadTemplate):
            Template(text).render(ROW)
    else:
        assert Template(text).render(ROW) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("{{.State.Status}}:{{.State.Pid}}", "running:42"),
        ("{{.State.Paused}} {{.Config.Cmd}} {{.Float}}", "false <no value> 1.5"),
        ("{{json .State}}", '{"Status":"running","Pid":42,"ExitCode":0,"Paused":false}'),
        ("{{json .Config.Cmd}}", "null"),
        ("{{range .Mounts}}{{.Source}}->{{.Destination}};{{end}}", "/a->/x;/b->/y;"),
        ("{{(index .Mounts 1).Source}}", "/b"),
        ("{{index .Mounts 1 `Source`}}", "/b"),
        ("{{.Env}}", "[A=1 B=2]"),
        ("{{.Config.Labels}}", "map[io.a:b x:y]"),
        ("{{.Config.Labels.x}}{{.Config.Labels.z}}", "y<no value>"),
        ('{{index .Config.Labels "io.a"}}{{index .Config.Labels "z"}}', "b"),
        ('{{range $p, $b := .Ports}}{{$p}}={{len $b}}{{"\\n"}}{{end}}', None),  # len of nil
        ("{{range $p, $b := .Ports}}{{$p}}{{range $b}} {{.HostPort}}{{end}};{{end}}", "443/tcp;80/tcp 8080;"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{with .Config.Cmd}}{{.}}{{else}}none{{end}}", "none"),
        ("{{if and (gt .State.Pid 0) (eq .State.ExitCode 0)}}ok{{end}}", "ok"),
        ("{{$s := .State}}{{range .Env}}{{$s.Pid}} {{end}}", "42 42 "),
        ("{{slice .Name 1}}", "web"),
        ("{{.State}}", "map[ExitCode:0 Paused:false Pid:42 Status:running]"),
    ],
)
def test_inspection(text: str, shown: str | None) -> None:
    if shown is None:
        with pytest.raises(BadTemplate):
            Template(text).render(DATA)
    else:
        assert Template(text).render(DATA) == shown


@pytest.mark.parametrize(
    "text",
    [
        "{{.Nope}}", "{{nope}}", "{{.Name", "{{if}}x{{end}}", "{{end}}", "{{else}}", "{{if .Name}}x",
        "{{range .Name}}x{{end}}",
        "{{eq 1 1.0}}", "{{eq .Name 1}}", "{{len}}", "{{len 3}}", "{{eq 1}}", "{{.Name.Foo}}", "{{$nope}}",
        "{{index .Name 99}}",
        "{{.Name | }}", "{{| .Name}}", "{{(.Name}}", "{{.Name)}}", "{{1 2}}", "{{.Name 1}}", "{{:=}}",
        "{{$x := }}", "{{%}}",
        "{{.Label}}", '{{.Label "a" "b"}}', "{{join .Name}}", "{{upper 3}}", '{{"open}}',
        "{{if .Name}}{{else}}{{else}}{{end}}",
        "{{lt 1 `a`}}", "{{$x = 1}}", "{{truncate 1 1}}", "{{nil}}", "{{range $a, $b, $c := .Name}}{{end}}", "{{0x}}",
    ],
)  # fmt: skip
def test_bad_templates(text: str) -> None:
    with pytest.raises(BadTemplate) as error:
        Template(text).render(ROW)
    assert "\n" not in str(error.value)


def test_listing() -> None:
    headers = {"Name": "NAME", "Description": "DESCRIPTION"}
    table = listing(r"table {{.Name}}\t{{.Description}}", [ROW], headers)
    assert table == "NAME      DESCRIPTION\ndefault   Current DOCKER_HOST based configuration\n"
    assert listing(r"{{.Name}}\t{{.Lazy}}", [ROW, ROW], headers) == "default\tcalled\ndefault\tcalled\n"
    assert (
        listing("json", [ROW], headers)
        == '{"Description":"Current DOCKER_HOST based configuration","Name":"default"}\n'
    )
    assert listing("json", [], headers) == ""
    assert listing("{{.Name}}", [], headers) == ""
    assert listing("table {{.Name}}", [], headers) == "NAME\n"
    assert listing('table {{.Label "a.b-c"}}', [ROW], headers) == "b c\n\n"


@hypothesis_given(st.text("{}.|$()\"`'=:-x1 rangeifend,\\%Name", max_size=40))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    try:
        Template(text).render(ROW)
    except BadTemplate as error:
        assert str(error)


@hypothesis_given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_actions_is_itself(text: str) -> None:
    assert Template(text).render(ROW) == text
