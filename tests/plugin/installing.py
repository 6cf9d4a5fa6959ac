"""What pip does with the setup.cfg of a plugin, as far as entry points are concerned."""

from configparser import ConfigParser
from pathlib import Path


def install(plugin: Path, site: Path) -> None:
    """Make `site` a folder that says that the plugin is installed."""
    config = ConfigParser()
    config.read(plugin / "setup.cfg")
    name, version = config["metadata"]["name"], config["metadata"]["version"]
    metadata = site / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    [(group, entries)] = config["options.entry_points"].items()
    (metadata / "entry_points.txt").write_text(f"[{group}]{entries}\n")
