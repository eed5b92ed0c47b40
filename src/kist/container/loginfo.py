"""What log drivers are told of a container: its tag by a template, labels and variables that were asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping

from kist.model.container import ContainerRecord
from kist.model.errors import KistError
from kist.model.pattern import Pattern
from kist.model.template import Struct, Template
from kist.shipper.driver import Info


class _Info(Struct):
    """What a tag's template is carried out on: a field that it does not have is an error."""

    kind = "*logger.Info"


def info_of(record: ContainerRecord, options: dict[str, str], default_tag: str) -> Info:
    """Raises ValueError when tag or an expression cannot be read."""
    return Info(
        id=record.id,
        name=record.name,
        image_id=str(record.image_id),
        image=record.image,
        command=" ".join([record.path, *record.args]),
        created=record.created,
        tag=tag_of(record, options.get("tag") or default_tag),
        options=options,
        extra=extra_attributes(record, options),
        hostname=os.uname().nodename,
    )


def tag_of(record: ContainerRecord, template: str) -> str:
    """The fields and methods of Docker's loginfo. Raises ValueError."""
    full_id = str(record.image_id)
    fields = {
        "ID": record.id[:12],
        "FullID": record.id,
        "Name": record.name,
        "Command": " ".join([record.path, *record.args]),
        "ImageID": full_id.rpartition(":")[2][:12],
        "ImageFullID": full_id,
        "ImageName": record.image,
        "Hostname": os.uname().nodename,
        "DaemonName": "docker",
        "ContainerID": record.id,
        "ContainerName": f"/{record.name}",
        "ContainerEntrypoint": record.path,
        "ContainerArgs": list(record.args),
        "ContainerImageID": full_id,
        "ContainerImageName": record.image,
        "ContainerCreated": record.created,
        "ContainerEnv": record.config.env or [],
        "ContainerLabels": record.config.labels or {},
    }
    if template in _PLAIN:
        return str(fields[_PLAIN[template]])
    try:
        return Template(template, name="log-tag", prefix="").render(_Info(fields))
    except KistError as error:
        raise ValueError(error.message) from error


_PLAIN = {
    f"{{{{.{name}}}}}": name
    for name in ("ID", "FullID", "Name", "Command", "ImageID", "ImageFullID", "ImageName", "Hostname")
}


def extra_attributes(record: ContainerRecord, options: dict[str, str]) -> dict[str, str]:
    """Of `labels`, `labels-regex`, `env` and `env-regex`. Raises ValueError."""
    labels = record.config.labels or {}
    environment = dict(one.split("=", 1) for one in record.config.env or () if "=" in one)
    return _chosen(labels, options, "labels") | _chosen(environment, options, "env")


def _chosen(values: Mapping[str, str], options: dict[str, str], key: str) -> dict[str, str]:
    found = {name: values[name] for name in options.get(key, "").split(",") if name in values}
    expression = options.get(f"{key}-regex", "")
    if expression:
        try:
            pattern = Pattern(expression)
        except ValueError as error:
            raise ValueError(f"error parsing regexp: {error}: `{expression}`") from error
        found |= {name: value for name, value in values.items() if pattern.search(name)}
    return found
