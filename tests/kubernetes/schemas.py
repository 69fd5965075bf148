"""Reads manifests from stdin as YAML, prints a JSON list of what is wrong with them.

Runs in the environment of scripts/kubernetes-env, and needs nothing of ours. What is Kubernetes'
own is held against its published JSON schemas, strictly: an unknown member is an error. Kubeflow
and KServe publish no such file on a package index; but the classes of their SDKs are generated from
the same definitions, and say the name and type of every member. They are read and not imported.

BYOC_CRDS may name a folder with the CustomResourceDefinitions that both projects publish (kserve:
config/crd/full/, training-operator: manifests/base/crds/); then these are asked too.
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import kubernetes_validate
import yaml
from referencing import Registry, Resource

VERSION = kubernetes_validate.latest_version()
ROOTS = {
    "kubeflow.org/v1 PyTorchJob": ("kubeflow", "KubeflowOrgV1PyTorchJob"),
    "serving.kserve.io/v1beta1 InferenceService": ("kserve", "V1beta1InferenceService"),
}
PACKAGES = {"kubeflow": "kubeflow/training/models", "kserve": "kserve/models"}
PLAIN = {"str": str, "int": int, "bool": bool, "float": (int, float), "object": object}
NOT_NONE = re.compile(r"Invalid value for `(\w+)`, must not be `None`")


def main():
    problems = []
    for manifest in yaml.safe_load_all(sys.stdin):
        root = ROOTS.get(f"{manifest['apiVersion']} {manifest['kind']}")
        if root:
            problems += Package(root[0]).check(root[1], manifest, manifest["kind"])
            problems += published(manifest)
            continue
        try:
            kubernetes_validate.validate(manifest, VERSION, strict=True)
        except jsonschema.ValidationError as error:
            problems.append(f"{manifest['kind']} {'.'.join(map(str, error.path))}: {error.message}")
    print(json.dumps(problems))


class Package:
    """`classes`: the source of the file that has it, by the name of each class."""

    def __init__(self, name):
        folder = Path(find_spec(name).submodule_search_locations[0]).parent / PACKAGES[name]
        self.classes = {
            found: text
            for text in (file.read_text() for file in folder.glob("*.py"))
            for found in re.findall(r"^class (\w+)\(object\)", text, re.MULTILINE)
        }

    def _class(self, name):
        """Members: their types by their names in JSON; and those that must be there."""
        text = self.classes[name]
        (body,) = [
            node for node in ast.parse(text).body
            if isinstance(node, ast.ClassDef) and node.name == name
        ]  # fmt: skip
        constants = {
            node.targets[0].id: ast.literal_eval(node.value)
            for node in body.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        }
        names = constants["attribute_map"]
        types = {names[key]: kind for key, kind in constants["openapi_types"].items()}
        return types, {names[key] for key in NOT_NONE.findall(text) if key in names}

    def check(self, kind, value, path):
        if inner := re.fullmatch(r"list\[(.*)\]", kind):
            if not isinstance(value, list):
                return [f"{path}: {value!r} is no list"]
            each = enumerate(value)
        elif inner := re.fullmatch(r"dict\(str, (.*)\)", kind):
            if not isinstance(value, dict):
                return [f"{path}: {value!r} is no object"]
            each = value.items()
        else:
            return self._check_one(kind, value, path)
        found = [self.check(inner[1], item, f"{path}.{key}") for key, item in each]
        return [problem for problems in found for problem in problems]

    def _check_one(self, kind, value, path):
        if kind in PLAIN:
            right = isinstance(value, PLAIN[kind]) and (kind == "bool") == isinstance(value, bool)
            return [] if right or kind == "object" else [f"{path}: {value!r} is no {kind}"]
        if kind not in self.classes:
            return kubernetes(kind, value, path)
        types, required = self._class(kind)
        if not isinstance(value, dict):
            return [f"{path}: {value!r} is no {kind}"]
        problems = [f"{path}: there is no member {name}" for name in value.keys() - types.keys()]
        problems += [f"{path}: {name} is missing" for name in required - value.keys()]
        for name in value.keys() & types.keys():
            problems += self.check(types[name], value[name], f"{path}.{name}")
        return problems


def published(manifest):
    """What the definition of its kind says, if BYOC_CRDS has it."""
    problems = []
    for file in Path(os.environ.get("BYOC_CRDS", os.devnull)).glob("*.yaml"):
        definition = yaml.safe_load(file.read_text())
        if definition["spec"]["names"]["kind"] != manifest["kind"]:
            continue
        version = manifest["apiVersion"].partition("/")[2]
        (schema,) = [
            strict(each["schema"]["openAPIV3Schema"])
            for each in definition["spec"]["versions"]
            if each["name"] == version
        ]
        schema["properties"]["metadata"] = {"type": "object"}
        problems += [
            f"{manifest['kind']} {'.'.join(map(str, error.path))}: {error.message}"
            for error in jsonschema.Draft7Validator(schema).iter_errors(manifest)
        ]
    return problems


def strict(schema):
    """Kubernetes' schema as a JSON schema, with an unknown member as an error."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if found.pop("x-kubernetes-int-or-string", False):
        found.pop("type", None)
        found.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if "properties" in found and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def kubernetes(kind, value, path):
    """A part that is Kubernetes' own, such as V1Container."""
    definitions, registry = core()
    tail = kind.removeprefix("V1")
    names = [name for name in definitions if re.search(rf"\.v1\.{tail}$", name)]
    if not names:
        return [f"{path}: no schema of {kind}"]
    reference = {"$ref": f"/api/_definitions.json#/$defs/{names[0]}"}
    validator = jsonschema.Draft202012Validator(reference, registry=registry)
    return [
        f"{path}.{'.'.join(map(str, error.path))}: {error.message}"
        for error in validator.iter_errors(value)
    ]


@cache
def core():
    folder = Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema"
    file = folder / f"v{VERSION}-local-strict" / "_definitions.json"
    document = json.loads(file.read_text())
    resource = Resource.from_contents(document)
    registry = Registry().with_resource("/api/_definitions.json", resource)
    return document["$defs"], registry


main()
