"""What is planned for mounts that need more than one step."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import pytest
from tests.unit.runtime.test_plan import HOST, HYBRID, record, request

from kist.kernel import ns
from kist.model.container import MountPoint
from kist.model.idmap import IDMap
from kist.model.mount import Mount
from kist.monitor import operations as do
from kist.runtime import foreign, oci, plan
from kist.runtime.spec import Joined, build_spec


def steps(*mounts: MountPoint, images: dict[str, Mount] | None = None) -> list[Any]:
    spec = build_spec(record(None, None, *mounts), HOST, Joined(), {}, "/root", images=images)
    return do.decode([[*one] for one in do.encode(plan.init_operations(request(spec), HYBRID))])


def bind(**fields: Any) -> MountPoint:
    return MountPoint(**{"type": "bind", "source": "/s", "destination": "/t", "propagation": "rprivate", **fields})


def place(found: list[Any], kind: type, target: str = "") -> int:
    return next(
        n for n, one in enumerate(found) if isinstance(one, kind) and getattr(one, "target", "") in ("", target)
    )


@pytest.mark.parametrize(("propagation", "kept"), [("shared", 1), ("rshared", 1), ("rslave", 0), ("private", 0)])
def test_a_shared_bind_is_taken_before_the_host_is_cut_off(propagation: str, kept: int) -> None:
    found = steps(bind(propagation=propagation, recursive=False))
    taken = [one for one in found if isinstance(one, do.KeepShared)]
    assert [tuple(one) for one in taken] == [("/s", "/t", False)] * kept
    if kept:
        assert place(found, do.KeepShared, "/t") < place(found, do.IsolateMounts)
        (root,) = (one for one in found if isinstance(one, do.RootPropagation))
        assert root.flags == plan.PROPAGATION["shared"], "not what is mounted in it"


def test_a_runtime_keeps_nothing_shared_below_a_root_that_is_not() -> None:
    mount = oci.Mount("/t", "bind", "/s", ("rbind", "rshared"))
    spec = build_spec(record(), HOST, Joined(), {}, "/root")
    other = oci.Spec(root=spec.root, process=spec.process, linux=spec.linux, mounts=(*spec.mounts, mount))
    assert not [one for one in plan.init_operations(request(other), HYBRID) if isinstance(one, do.KeepShared)]


def test_the_user_is_known_before_what_is_kept_for_them_is_mounted() -> None:
    found = steps(bind(destination="/etc"), bind(destination="/t/deep", id_map=IDMap(keep=(1000, 100))))
    mounted = place(found, do.BindInside, "/t/deep")
    assert isinstance(found[mounted - 1], do.ResolveUser)
    assert found[mounted].ids == [[[1000], [100]]]
    assert place(found, do.BindInside, "/etc") < mounted - 1, "by the files that the container has"


def test_ranges_are_told_as_the_runtime_specification_has_them() -> None:
    ids = IDMap(((0, 5, 1), (7, 8, 9)), ((1, 2, 3),))
    spec = build_spec(record(None, None, bind(id_map=ids)), HOST, Joined(), {}, "/root")
    mount = next(one for one in spec.mounts if one.destination == "/t")
    assert "ridmap" in mount.options
    written = next(one for one in oci.to_json(spec)["mounts"] if one["destination"] == "/t")
    assert written["uidMappings"] == [
        {"containerID": 0, "hostID": 5, "size": 1},
        {"containerID": 7, "hostID": 8, "size": 9},
    ]
    found = steps(bind(id_map=ids))
    assert found[place(found, do.BindInside, "/t")].ids == [[[0, 5, 1], [7, 8, 9]], [[1, 2, 3]]]


def test_images_are_mounted_as_their_driver_says() -> None:
    point = MountPoint(type="image", destination="/t", image="sha256:1", rw=False, subpath="a/b")
    layers = Mount("overlay", "overlay", ("lowerdir=/l1:/l2", "ro"))
    found = steps(point, images={"/t": layers})
    step = found[place(found, do.MountOverlay, "/t")]
    assert (step.options, step.inside) == (["lowerdir=/l1:/l2"], "a/b")
    found = steps(point, images={"/t": Mount("bind", "/fs", ("rbind", "ro"))})
    step = found[place(found, do.BindInside, "/t")]
    assert (step.source, step.inside, step.attributes) == ("/fs", "a/b", 1)


@pytest.mark.parametrize(
    ("point", "told"),
    [
        (bind(id_map=IDMap(keep=(1, 1))), "mount /t: mapped ids"),
        (MountPoint(type="image", destination="/t", image="sha256:1"), "mount /t: an image"),
        (bind(propagation="rshared"), "mount /t: propagation rshared"),
    ],
)
def test_what_another_runtime_cannot_be_told(point: MountPoint, told: str) -> None:
    assert foreign.problem([point], "") == told


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "it takes a user namespace, see /proc/sys/user/max_user_namespaces"),
        (errno.EINVAL, "this kernel, or the file system of the source or of a mount below it, cannot"),
    ],
)
def test_why_ids_cannot_be_mapped(monkeypatch: pytest.MonkeyPatch, number: int, hint: str) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(ns, "user_namespace", refuse)
    context = do.Context(HYBRID, "kist/x")
    step = do.BindInside("/s", "/t", True, 0, False, 0, ids=[[[0, 1, 1]], [[0, 1, 1]]])
    with pytest.raises(OSError, match=re.escape(os.strerror(number))):
        step._map_ids(context, -1, 0)
    assert context.problem.startswith('error mounting "/s" to rootfs at "/t" with mapped ids: ')
    assert context.problem.endswith(hint)
