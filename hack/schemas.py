"""hack/schemas.py SWAGGER CRDS DIRECTORY: JSON schemas for kubeconform, one a kind, without a download.

They come from the OpenAPI document of the Kubernetes that the local cluster runs and from our own definitions.
Unknown fields are refused, as the API server's strict validation does.
"""

import json
import pathlib
import sys

import yaml

REFERENCE = "#/definitions/"


def main(swagger, definitions, directory):
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    builtin = json.loads(pathlib.Path(swagger).read_text())["definitions"]
    for schema in builtin.values():
        close(schema)
    for name, schema in builtin.items():
        for kind in schema.get("x-kubernetes-group-version-kind", []):
            write(directory, kind["group"], kind["version"], kind["kind"], resolve(name, builtin))
    for file in sorted(pathlib.Path(definitions).glob("*.yaml")):
        spec = yaml.safe_load(file.read_text())["spec"]
        for version in spec["versions"]:
            schema = version["schema"]["openAPIV3Schema"]
            close(schema)
            schema["properties"].update(
                {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
            )
            write(directory, spec["group"], version["name"], spec["names"]["kind"], schema)


def close(schema):
    """Refuses unknown fields, and lets a number stand where a quantity or a port may."""
    if isinstance(schema, list):
        for part in schema:
            close(part)
    if not isinstance(schema, dict):
        return
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        schema.pop("type", None)
        schema.pop("format", None)
        schema.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        schema.setdefault("additionalProperties", False)
    for part in list(schema.values()):
        close(part)


def resolve(name, builtin):
    """The definition together with those that it refers to."""
    needed, waiting = {}, [name]
    while waiting:
        current = waiting.pop()
        if current in needed:
            continue
        needed[current] = builtin[current]
        waiting.extend(references(builtin[current]))
    return {"$ref": REFERENCE + name, "definitions": needed}


def references(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].removeprefix(REFERENCE)
        for part in schema.values():
            yield from references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from references(part)


def write(directory, group, version, kind, schema):
    # kubeconform takes the version of the core group, which has no name, for its name.
    (directory / f"{group or version}_{version}_{kind.lower()}.json").write_text(json.dumps(schema))


if __name__ == "__main__":
    main(*sys.argv[1:])
