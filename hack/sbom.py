"""A CycloneDX 1.5 document of what `cargo metadata` (standard input) says of our two programs.

Argument: Cargo.lock, for the digests of the crates. Nothing of the time or the machine is in it.
"""

import json
import sys
import tomllib
import uuid

PROGRAMS = ["podwright", "podwright-sandboxd"]


def component(package, checksums, kind):
    """One crate, or one of our programs."""
    name, version = package["name"], package["version"]
    found = {
        "type": kind,
        "bom-ref": reference(package),
        "name": name,
        "version": version,
        "purl": f"pkg:cargo/{name}@{version}",
    }
    checksum = checksums.get((name, version))
    if checksum:
        found["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if package.get("license"):
        # Older crates write a slash for OR.
        found["licenses"] = [{"expression": " OR ".join(part.strip() for part in package["license"].split("/"))}]
    return found


def reference(package):
    """How the document names a crate."""
    return f"{package['name']}@{package['version']}"


def linked(node):
    """What ends up in a program: neither what only builds it nor what only tests it."""
    for dependency in node["deps"]:
        if any(kind["kind"] is None for kind in dependency["dep_kinds"]):
            yield dependency["pkg"]


def main():
    """Writes the document to standard output."""
    metadata = json.load(sys.stdin)
    with open(sys.argv[1], "rb") as file:
        lock = file.read()
    checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.loads(lock.decode())["package"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    roots = [id_ for id_ in metadata["workspace_members"] if packages[id_]["name"] in PROGRAMS]
    met, waiting = set(), list(roots)
    while waiting:
        id_ = waiting.pop()
        if id_ not in met:
            met.add(id_)
            waiting.extend(linked(nodes[id_]))
    order = sorted(met, key=lambda id_: (packages[id_]["name"], packages[id_]["version"]))
    libraries = [component(packages[id_], checksums, "library") for id_ in order if id_ not in roots]
    programs = [component(packages[id_], checksums, "application") for id_ in sorted(roots, key=lambda id_: packages[id_]["name"])]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, lock.decode())}",
        "version": 1,
        "metadata": {"component": programs[0]},
        "components": programs[1:] + libraries,
        "dependencies": [
            {
                "ref": reference(packages[id_]),
                "dependsOn": sorted({reference(packages[other]) for other in linked(nodes[id_])}),
            }
            for id_ in order
        ],
    }
    json.dump(document, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
