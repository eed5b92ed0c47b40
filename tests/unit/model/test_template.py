"""Go templates."""

from __future__ import annotations

import pytest

from kist.model.template import Template, TemplateError

VALUE = {
    "Name": "/a", "Id": "0123456789", "List": ["x", "y"], "Map": {"b": 1, "a": "z"}, "Empty": [], "Null": None,
    "Yes": True, "Number": 5, "Nested": {"Deep": {"er": "here"}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.Name}}", "/a"),
        ("{{ .Nested.Deep.er }}!", "here!"),
        ("{{json .List}}", '["x","y"]'),
        ("{{json .Map}}", '{"b":1,"a":"z"}'),
        ("{{.Map}}", "map[a:z b:1]"),
        ("{{.List}}", "[x y]"),
        ("{{.Missing}}", "<no value>"),
        ("{{.Yes}}", "true"),
        ("{{if .Empty}}a{{else}}b{{end}}", "b"),
        ("{{if .Null}}a{{else if .Yes}}b{{else}}c{{end}}", "b"),
        ("{{range .List}}<{{.}}>{{end}}", "<x><y>"),
        ("{{range $i, $e := .List}}{{$i}}={{$e}} {{end}}", "0=x 1=y "),
        ("{{range $k, $v := .Map}}{{$k}}:{{$v}};{{end}}", "a:z;b:1;"),
        ("{{range .Empty}}a{{else}}none{{end}}", "none"),
        ('{{index .Map "a"}}{{index .List 1}}', "zy"),
        ("{{len .List}}", "2"),
        ('{{join .List ", "}}', "x, y"),
        ("{{upper .Name}}{{.Name | lower}}", "/A/a"),
        ('{{printf "%s-%d %q" .Name .Number .Id}}', '/a-5 "0123456789"'),
        ("{{truncate .Id 4}}", "0123"),
        ('{{truncate "héllo" 3}}{{truncate "héllo" 9}}', "héhéllo"),
        ('{{truncate "héllo" 2}}', "h\udcc3"),  # bytes, as in Go
        ("{{with .Nested}}{{.Deep.er}}{{end}}", "here"),
        ("{{$x := .Number}}{{$x}}", "5"),
        ("a {{- .Name -}} b", "a/ab"),
        ("{{if and .Yes (eq .Number 5)}}ok{{end}}", "ok"),
        ("{{if or .Empty (not .Null)}}ok{{end}}", "ok"),
        ("{{println .Name}}", "/a\n"),
        ("{{/* nothing */}}x", "x"),
        ("{{json (index .List 0)}}", '"x"'),
        ("{{range .List}}{{$.Number}}{{end}}", "55"),
        ("{{$x := .Number}}{{$x }}{{$ | len}}{{range $k, $v := .Map}}{{$k}}{{$v | print}}{{end}}", "59azb1"),
        ("{{ne .Number 4}}{{lt .Number 9}}", "truetrue"),
    ],
)
def test_rendering(source: str, expected: str) -> None:
    assert Template(source).render(VALUE) == expected


@pytest.mark.parametrize("source", ["{{.Name", "{{if .Yes}}", "{{nosuch .Name}}", "{{end}}", "{{}}", "{{(.Name}}"])
def test_broken_templates_are_refused(source: str) -> None:
    with pytest.raises(TemplateError):
        Template(source)
