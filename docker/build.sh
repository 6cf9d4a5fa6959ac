#!/usr/bin/env bash
# Build the image and run it once for real: what `./dev image` does.
#
# It uses Docker if an engine answers, else buildah and podman, which root gets installed on Debian and Ubuntu. The base
# is pulled; where no registry can be reached, one is made from the packages of this Debian or Ubuntu.
# shellcheck disable=SC2016 # what stands between single quotes is expanded in the container
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
    cat >&2 <<'END'
usage: ./dev image [--base IMAGE] [--tag IMAGE] [--engine docker|podman] [--no-run] [--remove]
  --base IMAGE     build on this image; `debian`: on one made from packages of this system, without a registry
  --tag IMAGE      name of the image (default pyvospace:latest)
  --engine ENGINE  do not choose, use this one
  --no-run         build it only
  --remove         delete what was built, at the end
END
    exit 2
}

say() { echo "image: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

tag=pyvospace:latest base='' made_base='' engine='' run=yes remove=no
all=("$@")
while [ $# -gt 0 ]; do
    case $1 in
        --base) base=${2:?} && shift ;;
        --tag) tag=${2:?} && shift ;;
        --engine) engine=${2:?} && shift ;;
        --no-run) run=no ;;
        --remove) remove=yes ;;
        *) usage ;;
    esac
    shift
done

install() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || return 1
    say "installing $*"
    { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"; } >&2
}

choose_engine() {
    if [ -z "$engine" ]; then
        if docker info >/dev/null 2>&1; then engine=docker; else engine=podman; fi
    fi
    [ "$engine" = podman ] || return 0
    if ! { command -v podman && command -v buildah && command -v crun; } >/dev/null; then
        install podman buildah crun || fail "no Docker engine answers; podman, buildah and crun would do instead"
    fi
}

# Some machines, often containers themselves, have cgroups of version 1, and root cannot raise limits there. Nothing of
# that hinders a build or this trial: podman runs without cgroups, in a mount namespace that does not show them.
prepare_podman() {
    [ "$engine" = podman ] || return 0
    [ "$(id -u)" = 0 ] && [ "$(stat -fc %T /sys/fs/cgroup)" != cgroup2fs ] || return 0
    export BUILDAH_ISOLATION=chroot
    export CONTAINERS_CONF=$PWD/docker/containers.conf
    if [ -z "${PYVOSPACE_IMAGE_UNSHARED:-}" ]; then
        PYVOSPACE_IMAGE_UNSHARED=1 exec unshare --mount bash -euc '
            mount --make-rprivate /
            umount --lazy /sys/fs/cgroup
            mount -t tmpfs tmpfs /sys/fs/cgroup
            exec "$@"' _ "$PWD/docker/build.sh" --engine podman "${all[@]}"
    fi
}

choose_base() {
    local default
    default=$(sed -n 's/^ARG BASE=//p' docker/Dockerfile)
    case $base in
        debian) ;;
        '')
            if $engine image inspect "$default" >/dev/null 2>&1 || timeout 300 "$engine" pull --quiet "$default" >&2; then
                base=$default
                return
            fi
            say "$default is out of reach"
            ;;
        *) return ;;
    esac
    # shellcheck disable=SC1091
    base=pyvospace-base:$(. /etc/os-release && echo "$VERSION_CODENAME")
    $engine image inspect "$base" >/dev/null 2>&1 || make_base
}

make_base() {
    command -v mmdebstrap >/dev/null || install mmdebstrap || fail "mmdebstrap would make a base without a registry"
    say "making $base from packages; this takes some minutes"
    made_base=yes
    local excluded
    excluded=(/usr/share/{doc,info,locale,man}/'*')
    # With usr-is-merged nothing wants usrmerge, which is written in Perl and brings all of it.
    mmdebstrap --quiet --variant=essential --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
        --include=ca-certificates,python3,python3-venv,usr-is-merged \
        "${excluded[@]/#/--dpkgopt=path-exclude=}" "${base#*:}" - | $engine import - "$base" >/dev/null
}

build() {
    local bundle build command
    bundle=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    build=(--file docker/Dockerfile --tag "$tag" --build-arg "BASE=$base")
    build+=(--build-arg "VERSION=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' pyvospace/__init__.py)")
    build+=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
    if [ -r "$bundle" ]; then build+=(--secret "id=ca,src=$bundle"); fi
    if [ -r "${PIP_CONFIG_FILE:-}" ]; then build+=(--secret "id=pip,src=$PIP_CONFIG_FILE"); fi
    # OCI's own format has no place for health checks.
    command=(buildah bud --format docker --pull-never)
    if [ $remove = no ]; then command+=(--layers); fi # what the next build need not do again
    if [ "$engine" = docker ]; then command=(env DOCKER_BUILDKIT=1 docker build); fi
    local began=$SECONDS
    "${command[@]}" "${build[@]}" . >&2
    say "$tag: $(($($engine image inspect --format '{{.Size}}' "$tag") / 1000000)) MB," \
        "built in $((SECONDS - began)) s on $base"
}

inside() { $engine exec "$container" "$@"; }

wait_until_healthy() {
    local left=120
    until inside sh -c 'test -e "$PYVOSPACE_DATA/access.env"' 2>/dev/null && inside "${health[@]}" >/dev/null; do
        [ "$($engine inspect --format '{{.State.Running}}' "$container")" = true ] || fail "it has ended"
        [ $((left -= 1)) -gt 0 ] || fail "it does not get healthy"
        sleep 1
    done
}

stop() {
    $engine stop -t 90 "$container" >/dev/null
    local code
    code=$($engine inspect --format '{{.State.ExitCode}}' "$container")
    [ "$code" = 0 ] || fail "SIGTERM ended it with exit code $code"
}

# Run a whole space in one container, and use it from inside.
try() {
    container=pyvospace-trial-$$
    health=(python3 -I -S /usr/local/lib/pyvospace/health.py)
    local port=$((20000 + RANDOM % 20000)) network=none users processes
    # Not every machine can give podman a network of its own, not even an empty one.
    if [ "$engine" = podman ]; then network=host; fi
    trap 'code=$?; [ $code = 0 ] || $engine logs "$container" >&2; $engine rm -f -v "$container" >/dev/null; exit $code' EXIT
    # Its health is asked for below, since not every podman can do so by itself.
    $engine run --detach --name "$container" --network "$network" --no-healthcheck --read-only --tmpfs /tmp \
        --cap-drop ALL --security-opt no-new-privileges "$tag" up --host 127.0.0.1 --port "$port" >/dev/null
    wait_until_healthy
    inside sh -euc '. "$PYVOSPACE_DATA/access.env"
        python3 -c "import sys, urllib.request as r; r.urlopen(sys.argv[1], timeout=10)" "$VOSPACE_URL/capabilities"'
    say "it answers"
    # One that ends while it is looked at has no line.
    users=$(inside sh -c 'sed -n "s/^Uid:\t//p" /proc/[0-9]*/status 2>/dev/null')
    processes=$(wc -l <<<"$users")
    [ "$processes" -ge 4 ] || fail "only $processes processes run in it"
    [ "$(sort -u <<<"$users")" = $'10001\t10001\t10001\t10001' ] || fail "its processes run as $users"
    say "none of its $processes processes is root"
    inside sh -euc '. "$PYVOSPACE_DATA/access.env"
        file=vos://$VOSPACE_AUTHORITY$VOSPACE_HOME/trial.bin
        head -c 3000000 /dev/urandom > /tmp/there
        pyvospace cp /tmp/there "$file"
        pyvospace cp "$file" /tmp/back
        cmp /tmp/there /tmp/back
        sha256sum < /tmp/there > "$PYVOSPACE_DATA/trial.sum"'
    say "its client has put a file there and got it back"
    stop
    say "SIGTERM stops it cleanly"
    $engine start "$container" >/dev/null
    wait_until_healthy
    inside sh -euc '. "$PYVOSPACE_DATA/access.env"
        pyvospace cat "vos://$VOSPACE_AUTHORITY$VOSPACE_HOME/trial.bin" | sha256sum | cmp - "$PYVOSPACE_DATA/trial.sum"'
    stop
    say "after another start the file is still there"
}

choose_engine
prepare_podman
choose_base
build
if [ "$run" = yes ]; then (try); fi
if [ "$remove" = yes ]; then
    $engine image rm "$tag" >/dev/null
    if [ -n "$made_base" ]; then $engine image rm "$base" >/dev/null; fi
fi
