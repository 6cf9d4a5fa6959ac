"""OpenStack Swift: one process of each kind, with its S3 API in the proxy's pipeline."""

from __future__ import annotations

import os
import pwd
import urllib.request
from functools import partial

from tests.support.engines.keeper import Keeper, answers
from tests.support.engines.stores import Engine
from tests.support.pair import free_ports

_SWIFT = """
[swift-hash]
swift_hash_path_suffix = s
swift_hash_path_prefix = p
[storage-policy:0]
name = gold
default = yes
"""
_SERVER = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
workers = 0
recon_cache_path = {folder}/cache
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = {user}
swift_dir = {folder}
workers = 0
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck cache listing_formats bulk s3api tempauth copy container-quotas slo dlo \
versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
# On a machine that has much to do the others are slow, not gone.
conn_timeout = 10
node_timeout = 60
error_suppression_limit = 1000000
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:s3api]
use = egg:swift#s3api
location = us-east-1
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin .reseller_admin
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_object_versioning = true
"""
_PLAIN_FILTERS = "catch_errors gatekeeper healthcheck listing_formats bulk copy slo dlo symlink"


def start(keeper: Keeper) -> Engine:
    """Start all of them, as an account without rights if this one has them."""
    folder = keeper.folder
    user = "swift" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    names = ("account", "container", "object")
    port, memcached, *ports = free_ports(5)
    (folder / "swift.conf").write_text(_SWIFT)
    for kind, of_kind in zip(names, ports, strict=True):
        ring = f"{kind}.builder"
        keeper.run("swift-ring-builder", ring, "create", "4", "1", "0")
        keeper.run("swift-ring-builder", ring, "add", f"r1z1-127.0.0.1:{of_kind}/d1", "1")
        keeper.run("swift-ring-builder", ring, "rebalance")
        (folder / f"{kind}.conf").write_text(_SERVER.format(port=of_kind, user=user, folder=folder, kind=kind))
    filters = "".join(f"[filter:{name}]\nuse = egg:swift#{name}\n" for name in _PLAIN_FILTERS.split())
    proxy = _PROXY.format(port=port, user=user, folder=folder, memcached=memcached)
    (folder / "proxy.conf").write_text(proxy + filters)
    for name in ("devices/d1", "cache"):
        (folder / name).mkdir(parents=True)
    if os.geteuid() == 0:
        keeper.run("chown", "-R", user, str(folder))
    keeper.start("memcached", "-u", user, "-l", "127.0.0.1", "-p", str(memcached), "-m", "64")
    for kind in (*names, "proxy"):
        keeper.start(f"swift-{kind}-server", str(folder / f"{kind}.conf"))
    for one in (port, *ports):
        keeper.wait(partial(answers, f"http://127.0.0.1:{one}/healthcheck"))
    return Engine(f"http://127.0.0.1:{port}", "test:tester", "testing", str(folder))


def limit(engine: Engine, container: str, size: int | None) -> None:
    """Let a container hold no more than `size` bytes; None: no limit."""
    known = {"X-Auth-User": engine.access_key, "X-Auth-Key": engine.secret_key}
    with urllib.request.urlopen(urllib.request.Request(f"{engine.endpoint}/auth/v1.0", headers=known)) as answer:
        token, url = answer.headers["X-Auth-Token"], answer.headers["X-Storage-Url"]
    headers = {"X-Auth-Token": token, "X-Container-Meta-Quota-Bytes": "" if size is None else str(size)}
    urllib.request.urlopen(urllib.request.Request(f"{url}/{container}", headers=headers, method="POST")).close()
