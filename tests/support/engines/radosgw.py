"""Ceph: a monitor, a manager, one OSD that keeps everything in memory, and radosgw, which speaks S3."""

from __future__ import annotations

import subprocess
from uuid import uuid4

from tests.support.engines.keeper import Keeper, answers
from tests.support.engines.stores import Engine
from tests.support.pair import free_ports

_CONFIGURATION = """
[global]
fsid = {fsid}
mon_host = {monitors}
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
ms_bind_port_min = {first}
ms_bind_port_max = {last}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
osd_objectstore = memstore
memstore_device_bytes = 6442450944
mon_data = {folder}/mon
osd_data = {folder}/osd
mgr_data = {folder}/mgr
rgw_data = {folder}/rgw
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/$name.log
pid_file = {folder}/run/$name.pid
[client.rgw.a]
rgw_frontends = beast endpoint=127.0.0.1:{port} tcp_nodelay=1
# All quotas are looked at anew for each request: tests change them.
rgw_bucket_quota_ttl = 0
# What was deleted is gone soon.
rgw_gc_obj_min_wait = 5
rgw_gc_processor_period = 5
"""


def start(keeper: Keeper) -> Engine:
    """Start all of them, without keys between them."""
    folder = keeper.folder
    for name in ("mon", "osd", "mgr", "rgw", "run"):
        (folder / name).mkdir()
    port, monitor, legacy, *others = free_ports(24)
    monitors = f"[v2:127.0.0.1:{monitor},v1:127.0.0.1:{legacy}]"
    fsid, osd, path = str(uuid4()), str(uuid4()), folder / "ceph.conf"
    path.write_text(
        _CONFIGURATION.format(fsid=fsid, monitors=monitors, first=others[0], last=others[-1], folder=folder, port=port)
    )
    conf = ("-c", str(path))
    keeper.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", monitors, "monmap")
    keeper.run("ceph-mon", *conf, "--mkfs", "-i", "a", "--monmap", "monmap")
    keeper.start("ceph-mon", *conf, "-i", "a", "-f")
    keeper.run("ceph", *conf, "osd", "new", osd, "0")
    # With another id than the monitor was told the OSD would never come up.
    keeper.run("ceph-osd", *conf, "-i", "0", "--mkfs", "--osd-uuid", osd)
    keeper.run("ceph", *conf, "osd", "crush", "add", "osd.0", "1.0", "root=default", "host=localhost")
    keeper.start("ceph-osd", *conf, "-i", "0", "-f")
    keeper.start("ceph-mgr", *conf, "-i", "x", "-f")
    keeper.wait(lambda: "1 up" in keeper.run("ceph", *conf, "osd", "stat"))
    # It wants to talk to the monitor in secret, for which there are no keys.
    keeper.start("radosgw", *conf, "-n", "client.rgw.a", "--ms_mon_client_mode=crc", "-f")
    keeper.wait(lambda: answers(f"http://127.0.0.1:{port}"))
    keys = ("--access-key=ACCESSKEY1", "--secret=SECRETKEY1")
    keeper.run("radosgw-admin", *conf, "user", "create", "--uid=tests", "--display-name=tests", *keys)
    return Engine(f"http://127.0.0.1:{port}", "ACCESSKEY1", "SECRETKEY1", str(folder))


def limit(engine: Engine, bucket: str, size: int | None) -> None:
    """Let a bucket hold no more than `size` bytes; None: no limit."""
    command = [
        "radosgw-admin",
        "-c",
        f"{engine.folder}/ceph.conf",
        "quota",
        "--quota-scope=bucket",
        f"--bucket={bucket}",
    ]
    if size is not None:
        subprocess.run([*command, "set", f"--max-size={size}"], check=True, capture_output=True)
    subprocess.run([*command, "disable" if size is None else "enable"], check=True, capture_output=True)
