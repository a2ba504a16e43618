#!/usr/bin/env python3
"""Fetches the explorer page's JavaScript libraries and its map from npm, by pinned hashes, into VENDOR.

Usage: python .ci/fetch_page_libraries.py [--check | --axe FOLDER]     needs npm; --check compares what is there and
writes nothing; --axe fetches what the page's test of accessibility runs instead, which is not shipped

The files are committed and shipped with the package, as they are in the npm packages, with their licences: nobody who
installs or opens the page fetches anything. To raise a version: change it here with the `dist.integrity` that
`npm view PACKAGE@VERSION dist.integrity` prints, run this, look at the page, commit.
"""

import base64
import hashlib
import pathlib
import subprocess
import sys
import tarfile
import tempfile

VENDOR = pathlib.Path(__file__).parent.parent / "cuma_jax" / "serving" / "page" / "vendor"
# package@version: (sha512 of the tarball, files in it and what they are called here)
PACKAGES = {
    "d3@7.9.2": (
        "ZKb/mONPVKzaO5UlcWcwN8bS4ezvQaYu+bsou+XgNABdGC800kwH651ADTbbTxMPHW13UlvbQafdmJQDk1w7Mg==",
        {"dist/d3.min.js": "d3.min.js", "LICENSE": "d3.LICENSE"},
    ),
    "@observablehq/plot@0.6.17": (
        "/qaXP/7mc4MUS0s4cPPFASDRjtsWp85/TbfsciqDgU1HwYixbSbbytNuInD8AcTYC3xaxACgVX06agdfQy9W+g==",
        {"dist/plot.umd.min.js": "plot.umd.min.js", "LICENSE": "plot.LICENSE"},
    ),
    "topojson-client@3.1.0": (
        "605uxS6bcYxGXw9qi62XyrV6Q3xwbndjachmNxu8HWTtVPxZfEJN9fd/SZS1Q54Sn2y0TMyMxFj/cJINqGHrKw==",
        {"dist/topojson-client.min.js": "topojson-client.min.js", "LICENSE": "topojson-client.LICENSE"},
    ),
    "world-atlas@2.0.2": (
        "IXfV0qwlKXpckz1FhwXVwKRjiIhOnWttOskm5CtxMsjgE/MXAYRHWJqgXOpM8IkcPBoXnyTU5lFHcYa5ChG0LQ==",
        {"countries-50m.json": "countries-50m.json", "LICENSE": "world-atlas.LICENSE"},
    ),
}


AXE = (
    "axe-core@4.14.1",
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==",
    {"axe.min.js": "axe.min.js"},
)


def fetch(package: str, pinned: str, files: dict[str, str]) -> dict[str, bytes]:
    """The contents of some files of a package, by what they are called here."""
    with tempfile.TemporaryDirectory() as scratch:
        packed = ["npm", "pack", "--silent", "--pack-destination", scratch, package]
        name = subprocess.run(packed, check=True, capture_output=True, text=True).stdout.strip().splitlines()[-1]
        tarball = pathlib.Path(scratch, name)
        found = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if found != pinned:
            sys.exit(f"error: {package} has the hash {found}, not the pinned {pinned}")
        with tarfile.open(tarball) as tar:
            members = {target: tar.extractfile(f"package/{inside}") for inside, target in files.items()}
            return {target: member.read() for target, member in members.items() if member is not None}


def main(argv: list[str]) -> int:
    """Fetches, checks and writes (or compares)."""
    if argv[:1] == ["--axe"]:
        for target, content in fetch(*AXE).items():
            pathlib.Path(argv[1], target).write_bytes(content)
        return 0
    differ = []
    for package, (pinned, files) in PACKAGES.items():
        for target, content in fetch(package, pinned, files).items():
            path = VENDOR / target
            if "--check" in argv:
                differ += [target] if not path.exists() or path.read_bytes() != content else []
            else:
                VENDOR.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
    if differ:
        sys.exit(f"error: not as in the npm packages: {', '.join(differ)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
