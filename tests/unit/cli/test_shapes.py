"""What --format sees of the daemon's answers: Go's structs."""

from __future__ import annotations

from typing import Any

import pytest

from kist.cli import gotypes, tables
from kist.cli.shapes import struct
from kist.model.template import Template, TemplateError

CONTAINER = {
    "Id": "c0ffee", "Name": "/c", "State": {"Status": "running", "Running": True},
    "HostConfig": {
        "NetworkMode": "bridge", "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}, "NanoCpus": 5,
        "CpuShares": 7, "Dns": ["1.1.1.1"], "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]},
        "Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 2}], "Sysctls": None,
        "Mounts": [{"Type": "tmpfs", "Target": "/m", "TmpfsOptions": {"Mode": 0o750}}],
    },
    "Config": {"Labels": {"a": "b"}, "Healthcheck": {"Test": ["NONE"], "Interval": 90 * 10**9}, "Cmd": None},
    "NetworkSettings": {"Ports": {"80/tcp": []}},
}  # fmt: skip
IMAGE = {"Id": "sha256:1", "RootFS": {"Type": "layers"}, "Metadata": {"LastTagTime": "2026-11-28T17:48:51.75920946Z"},
         "Config": {"User": "", "Cmd": ["sh"]}}  # fmt: skip
NETWORK = {"Id": "1", "Name": "n", "Created": "2026-01-02T03:04:05Z",
           "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.0.0.0/8"}]}}  # fmt: skip
VOLUME = {"Name": "v", "Mountpoint": "/v", "Labels": None}


@pytest.mark.parametrize(
    ("value", "source", "expected"),
    [
        (CONTAINER, "{{.ID}} {{with .HostConfig}}{{.NanoCPUs}} {{.CPUShares}} {{.CPUCount}}{{end}}", "c0ffee 5 7 0"),
        (CONTAINER, "{{.HostConfig.DNS}} {{.HostConfig.DNSSearch}} {{.HostConfig.KernelMemoryTCP}}", "[1.1.1.1] [] 0"),
        (CONTAINER, "{{.HostConfig.Resources.NanoCPUs}} {{.ContainerJSONBase.Name}}", "5 /c"),
        (CONTAINER, "{{.HostConfig.NetworkMode.IsBridge}} {{.HostConfig.NetworkMode.NetworkName}}", "true bridge"),
        (CONTAINER, "{{.HostConfig.NetworkMode.IsUserDefined}} {{.HostConfig.NetworkMode}}", "false bridge"),
        (CONTAINER, "{{.HostConfig.RestartPolicy.IsOnFailure}} {{.HostConfig.RestartPolicy}}", "true {on-failure 3}"),
        (CONTAINER, "{{range $p, $_ := .HostConfig.PortBindings}}{{$p.Port}}{{end}}", "80"),
        (CONTAINER, "{{.HostConfig.Ulimits}} {{json .HostConfig.Sysctls}}", "[nofile=1:2] null"),
        (CONTAINER, "{{.Config.Healthcheck.Interval}} {{json .Config.Healthcheck.Interval}}", "1m30s 90000000000"),
        (CONTAINER, "{{.Id}} {{.HostConfig.Dns}}", "c0ffee [1.1.1.1]"),  # the names of the JSON
        (CONTAINER, '{{index .NetworkSettings.Ports "90/tcp"}} {{index .Config.Labels "x"}}', "<no value> <no value>"),
        (CONTAINER, '{{index .Config.Labels "x"}}|{{index .HostConfig.Sysctls "x"}}', "|"),
        (CONTAINER, "{{lower .HostConfig.NetworkMode}}", "bridge"),  # not in the struct, a string in JSON
        (CONTAINER, "{{.Id}} {{.HostConfig.Sysctls}} {{.Config.Cmd}}", "c0ffee <no value> <no value>"),
        (CONTAINER, "{{range .HostConfig.Mounts}}{{.TmpfsOptions.Mode}}{{end}}", "-rwxr-x---"),
        (CONTAINER, '{{printf "%s" .HostConfig.Ulimits}}', "[nofile=1:2]"),
        (IMAGE, "{{.ID}} {{.VirtualSize}} {{.Container}}|{{.ContainerConfig}}", "sha256:1 0 |<nil>"),
        (IMAGE, "{{.Metadata.LastTagTime}}", "2026-11-28 17:48:51.75920946 +0000 UTC"),
        (IMAGE, "{{json .Metadata.LastTagTime}} {{json .Config}}", '"2026-11-28T17:48:51.75920946Z" {"Cmd":["sh"]}'),
        (NETWORK, "{{.ID}} {{.Peers}} {{.Services}} {{.Created}}", "1 [] map[] 2026-01-02 03:04:05 +0000 UTC"),
        (NETWORK, "{{.Created.Unix}} {{.Created.UnixNano}}", "1767323045 1767323045000000000"),
        (NETWORK, "{{.IPAM.Config}}", "[{10.0.0.0/8   map[]}]"),
        (VOLUME, "{{.Status}} {{.UsageData}} {{.ClusterVolume}}", "map[] <nil> <nil>"),
    ],
)  # fmt: skip
def test_inspect_has_the_names_of_go(value: dict[str, Any], source: str, expected: str) -> None:
    assert tables.inspect([value], source) == (f"{expected}\n", [])


def test_after_one_look_at_the_json_a_missing_key_stays_an_error() -> None:
    text, wrong = tables.inspect([CONTAINER, CONTAINER], "{{.Config.Labels.x}}{{if .Id}}{{end}}")
    assert (text, len(wrong)) == ("\n", 2)


def test_a_volume_is_told_of_its_types_only() -> None:
    assert tables.inspect([VOLUME], "{{.UsageData.Size}}")[1] == [
        'template parsing error: template: :1:12: executing "" at <.UsageData.Size>: '
        "nil pointer evaluating *volume.UsageData.Size"
    ]


def test_version_and_info_have_the_names_of_go() -> None:
    version = struct({"Client": {}, "Server": {"ApiVersion": "1.50"}}, "system.versionInfo")
    source = "{{.Server.APIVersion}} {{.Server.Experimental}} {{.Server.BuildTime}}|{{.Client.APIVersion}}"
    assert Template(source).render(version) == "1.50 false |"
    with pytest.raises(TemplateError, match=r"can't evaluate field ApiVersion in type \*types.Version"):
        Template("{{.Server.ApiVersion}}").render(version)
    info = struct({"CpuCfsQuota": True, "HttpProxy": "p", "Warnings": None}, "system.dockerInfo")
    source = "{{.CPUCfsQuota}} {{.HTTPProxy}} {{.KernelMemory}} {{.Warnings}} {{.GenericResources}} {{.Containerd}}"
    assert Template(source).render(info) == "true p false [] [] <nil>"


def test_every_type_is_known() -> None:
    for name in gotypes.STRUCTS:
        assert struct({}, name).kind == name
