"""Installs the tools that featureviz is compared with into a separate folder.

    python -m benchmarks.setup_peers FOLDER             # all tools, 400 MB
    python -m benchmarks.setup_peers FOLDER lucent      # some tools; Lucent alone takes 17 MB
    PYTHONPATH=FOLDER:. python -m benchmarks.harness.worker

The tools use the project's own torch. ``pip install --no-deps`` is used because their declared dependencies would
install an old kornia or another torch. The list below holds the packages that importing the tools needs, at fixed
versions. FOLDER must be new or empty, because pip overwrites files.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

NOTEBOOK = ("decorator==5.3.1", "ipython==9.18.1", "pygments==2.21.0", "traitlets==5.16.1")
PLOTS = (
    "matplotlib==3.11.2", "contourpy==1.3.3", "cycler==0.12.1", "fonttools==4.68.0", "kiwisolver==1.5.1",
    "packaging==26.3", "pyparsing==3.3.3", "python-dateutil==4.0.0",
)  # fmt: skip

PEERS = {
    # Apache-2.0, github.com/greentfrapp/lucent
    "lucent": ("torch-lucent==0.1.8", *NOTEBOOK),
    # Apache-2.0, github.com/sushmanthreddy/dreamlens
    "dreamlens": ("dreamlens==0.1.1",),
    # MIT, github.com/Mayukhdeb/torch-dreams
    "torch_dreams": ("torch-dreams==4.0.0", "opencv-python-headless==5.0.0.93"),
    # MIT, parts Apache-2.0 from Lucent, github.com/chrishamblin7/faccent
    "faccent": (
        "faccent==1.0.3", "einops==0.8.2", "ipywidgets==8.1.9", "comm==0.2.3", "scipy==1.17.1", *NOTEBOOK, *PLOTS,
    ),
    # MIT, github.com/serre-lab/Horama
    "horama": ("horama==0.3.0", "einops==0.8.2", *PLOTS),
}  # fmt: skip


def list_packages(peers: list[str]) -> list[str]:
    """The packages of ``peers``, in order, each once."""
    return list(dict.fromkeys(p for peer in peers for p in PEERS[peer]))


def install(folder: Path, peers: list[str]) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty; expected a new or empty folder: give another one, or delete it first")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    subprocess.run([*pip, *list_packages(peers)], check=True)
    if (folder / "tests").is_dir():
        shutil.rmtree(folder / "tests")  # part of Horama's wheel; it would hide the project's tests


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.setup_peers")
    parser.add_argument("folder", type=Path, help="a new or empty folder")
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(PEERS)}; default: all")
    arguments = parser.parse_args()
    unknown = set(arguments.peers) - PEERS.keys()
    if unknown:
        parser.error(f"unknown peers {', '.join(sorted(unknown))}; expected some of {', '.join(PEERS)}")
    install(arguments.folder, arguments.peers or list(PEERS))
    print(f"Installed. Run with PYTHONPATH={arguments.folder}:.")


if __name__ == "__main__":
    main()
