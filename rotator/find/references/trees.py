"""References in YAML of every kind and in notebooks: every other value of the tree stays the same."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

from rotator.find import registry
from rotator.find.readers.markup import cell_text, cells, parse_json, parse_yaml
from rotator.find.references import programs
from rotator.find.references.nowhere import refused
from rotator.find.references.place import OTHER_DEFAULT, PART, Edit, Impossible, Place, chosen
from rotator.find.references.texts import SPRING, in_script
from rotator.find.tree import Mapping, Scalar, scalar_at

if TYPE_CHECKING:
    import collections.abc

    from rotator.find.tree import Node

# What expands a variable in a file of this path, and how one is written there.
_BY_PATH: Final[collections.abc.Mapping[str, re.Pattern[str]]] = {
    "${{ secrets.NAME }}": re.compile(r"(?:^|/)\.github/workflows/"),
    "${NAME}": re.compile(
        rf"\.gitlab-ci|(?:^|/)(?:[\w.\-]*-)?compose[\w.\-]*\.ya?ml$|{SPRING.pattern}"
    ),
    "<%= ENV['NAME'] %>": re.compile(r"(?:^|/)(?:database|mongoid|cable|redis|sidekiq)\.ya?ml$"),
    "${env:NAME}": re.compile(r"(?:^|/)serverless[\w.\-]*\.ya?ml$"),
    "%env(NAME)%": re.compile(r"(?:^|/)config/(?:packages|services)\b"),
    "{{ env_var('NAME') }}": re.compile(r"(?:^|/)profiles\.ya?ml$"),
    "$(NAME)": re.compile(r"(?:^|/)azure-pipelines[\w.\-]*\.ya?ml$"),
    "{{ lookup('env', 'NAME') }}": re.compile(
        r"(?:^|/)(?:group_vars|host_vars|playbooks?|roles)(?:/|\.)|(?:^|/)(?:playbook|site)[\w.\-]*\.ya?ml$"
    ),
}
# The same by the content, where a name may be any.
_BY_TEXT: Final[collections.abc.Mapping[str, re.Pattern[str]]] = {
    "${NAME}": re.compile(r"^services:", re.MULTILINE),
    "{{ lookup('env', 'NAME') }}": re.compile(r"^- hosts:", re.MULTILINE),
}
# The forge provides these itself.
_FORGES: Final = re.compile(r"\.github/workflows/|\.gitlab-ci|azure-pipelines")
_KUBERNETES: Final = re.compile(r"^(?:apiVersion|kind):|^\s*(?:- )?containers:", re.MULTILINE)
_KIND: Final = re.compile(r"^kind:[ \t]*['\"]?(?P<kind>Secret|ConfigMap)\b", re.MULTILINE)
_OBJECT: Final = re.compile(
    r"^metadata:[ \t]*\n(?:[ \t]+[^\n]*\n)*?[ \t]+name:[ \t]*['\"]?(?P<name>[a-z0-9.\-]+)",
    re.MULTILINE,
)
_VALUES: Final = re.compile(r"(?:^|/)values[\w.\-]*\.ya?ml$")
_TEMPLATES: Final = (("<%", "%>"), ("{{", "}}"))
_ENTRY: Final = re.compile(r"(?P<key>value):[ \t]+$")
_SCRIPTS: Final = frozenset({"script", "before_script", "after_script"})
_STEP: Final = "run"
_CHART: Final = (
    "a chart's values have no variables: use its option for an existing Secret object, often `existingSecret`, and let"
    " the agent write that: {sink}"
)
_OBJECT_SINK: Final = "a Kubernetes object has no variables: remove it from the file, and let the agent write it: {sink}"
_CONTAINER: Final = (
    "Kubernetes expands $({name}) in commands and other variables: take {name} from a Secret object by secretKeyRef,"
    " use it here, and let the agent write that object: {sink}"
)
_ACTION: Final = (
    "GitHub inserts a secret into a script as it is: give the step `env: {{{name}: ${{{{ secrets.{name} }}}}}}`, and"
    " use ${name} in the script"
)


def yaml_file(place: Place) -> list[Edit]:
    """Replace it by what the reader of this YAML expands."""
    # Only Helm and Jinja write templates that are no YAML.
    is_template = parse_yaml(place.text, masks=False) is None
    roots = parse_yaml(place.text, masks=is_template)
    scalar, keys = scalar_at(roots or [], *place.span)
    if roots is None or scalar is None:
        raise Impossible("this YAML is not valid, so it is not changed")
    before = scalar.value.partition(place.text[slice(*place.span)])[0]
    if place.is_other_default or any(before.count(a) > before.count(b) for a, b in _TEMPLATES):
        raise Impossible(OTHER_DEFAULT)
    form = chosen(_BY_PATH, place.path)
    if form is None and _KUBERNETES.search(place.text):
        return [_kubernetes(place, scalar, keys)]
    form = form or chosen(_BY_TEXT, place.text)
    if form is None:
        if _VALUES.search(place.path):
            raise Impossible(_CHART.format(sink=_object(place, scalar, keys[-1])))
        refused(place)
    form = re.sub(r"[{}]", r"\g<0>\g<0>", form).replace("NAME", "{}")
    of_forge = _FORGES.search(place.path) is not None
    if of_forge and _SCRIPTS & {*keys}:
        edit = in_script(place, "${{{}:?}}", scalar.start, scalar.end)
    else:
        if keys[-1] == _STEP and not place.in_url:
            raise Impossible(_ACTION.format(name=place.variable))
        edit = place.replaced(form)
    template = "" if of_forge else edit.template
    for start, end, new in _spellings(place, scalar, edit):
        other = parse_yaml(place.text[:start] + new + place.text[end:], masks=is_template)
        if other is not None and _differ_in_it(place, roots, other, edit):
            return [
                Edit(start=start, end=end, new=new, reference=edit.reference, template=template)
            ]
    raise Impossible(PART)


def _spellings(
    place: Place, scalar: Scalar, edit: Edit
) -> collections.abc.Iterator[tuple[int, int, str]]:
    """Yield ways to write the value with the reference: at its place, or with other quotation marks."""
    yield edit.start, edit.end, edit.new
    parts = {place.text[edit.start : edit.end], place.value, quote(place.value, safe="")}
    for part in parts:
        if scalar.value.count(part) == 1:
            new = json.dumps(scalar.value.replace(part, edit.new), ensure_ascii=False)
            yield scalar.start, scalar.end, new


def _differ_in_it(place: Place, before: list[Node], after: list[Node], edit: Edit) -> bool:
    """Return whether two trees are the same but for the password, which is the reference in the second."""
    old, new = _values(before), _values(after)
    changed = [(one, other) for one, other in zip(old, new, strict=False) if one != other]
    if len(old) != len(new) or len(changed) != 1:
        return False
    one, other = changed[0]
    before_it, sign, after_it = other.partition(edit.new)
    inner = one[len(before_it) : len(one) - len(after_it)]
    is_same = one.startswith(before_it) and one.endswith(after_it)
    plain = place.default_of[0] + place.value + "}" if place.default_of else place.value
    return bool(sign) and is_same and plain in (inner, unquote(inner))


def _values(roots: list[Node]) -> list[str]:
    """Return the keys and the values of trees in their order, with their shape."""
    found: list[str] = []
    stack: list[Node] = [*reversed(roots)]
    while stack:
        node = stack.pop()
        if isinstance(node, Scalar):
            found.append(f"={node.value}")
            continue
        found.append(f"{type(node).__name__} {len(node.items)}")
        is_mapping = isinstance(node, Mapping)
        parts = [part for pair in node.items for part in pair] if is_mapping else node.items
        stack += reversed(parts)
    return found


def _kubernetes(place: Place, scalar: Scalar, keys: list[str]) -> Edit:
    """Replace `value: VALUE` of a container's variable by a reference to a Secret object."""
    line = place.text.rfind("\n", 0, scalar.start) + 1
    entry = _ENTRY.search(place.text, line, scalar.start)
    if _KIND.search(_document(place)):
        raise Impossible(_OBJECT_SINK.format(sink=_object(place, scalar, keys[-1])))
    name = _name_of(place.secret)
    sink = _keys(name, "password")
    if entry is None or scalar.value != place.value:
        raise Impossible(_CONTAINER.format(name=place.variable, sink=sink))
    column = " " * (entry.start() - line)
    new = (
        f"valueFrom:\n{column}  secretKeyRef:\n{column}    name: {name}\n{column}    key: password"
    )
    reference = f"secretKeyRef {name}/password"
    return Edit(start=entry.start(), end=scalar.end, new=new, reference=reference, sink=sink)


def _document(place: Place) -> str:
    """Return the YAML document around the password: a file may have many objects."""
    text, at = place.text, place.span[0]
    start = max(text.rfind("\n---", 0, at), 0)
    end = text.find("\n---", at)
    return text[start : end if end >= 0 else len(text)]


def _object(place: Place, scalar: Scalar, key: str) -> str:
    """Return the sink that writes a Secret object with this key."""
    document = _document(place)
    kind, found = _KIND.search(document), _OBJECT.search(document)
    is_named = kind is not None and kind["kind"] == "Secret" and found is not None
    name = found["name"] if found is not None and is_named else _name_of(place.secret)
    key = re.sub(r"[^A-Za-z0-9_.\-]", "-", key) or "password"
    if scalar.value in (place.value, b64encode(place.value.encode()).decode()):
        return _keys(name, key)
    file = "{format: template, options: {template: '...'}}"
    return f"{{kubernetes: {{secret: {name}, files: {{{key}: {file}}}}}}}"


def _keys(name: str, key: str) -> str:
    return f"{{kubernetes: {{secret: {name}, keys: {{{key}: '{{password}}'}}}}}}"


def _name_of(secret: str) -> str:
    return re.sub(r"[^a-z0-9.\-]", "-", secret.lower()).strip("-.")


def notebook(place: Place) -> list[Edit]:
    """Replace it in the Python of a cell; lines that do not change are not written again."""
    text = place.text
    root, _ = parse_json(text)
    for _, lines, is_code in cells(root):
        line = next((one for one in lines if one.start <= place.span[0] < one.end), None)
        if line is None:
            continue
        if not is_code or line.value.lstrip()[:1] in ("!", "%"):
            break
        return _of_cell(place, lines, line)
    raise Impossible("it is an output, a text or a command of the notebook: clear it")


def _of_cell(place: Place, lines: list[Scalar], line: Scalar) -> list[Edit]:
    source = cell_text(lines)
    starts = [0, *accumulate(len(one.value) for one in lines)]
    inside = [
        one for one in registry.read("cell.py", source).matches if one.value == place.match.value
    ]
    of_line = [one for one in inside if lines[bisect_right(starts, one.start) - 1] is line]
    if not of_line:
        raise Impossible(PART)
    changed: dict[int, str] = {}
    made = programs.python(Place("cell.py", source, of_line[-1], place.secret, "python"))
    for edit in sorted(made, key=lambda one: one.start, reverse=True):
        number = bisect_right(starts, edit.start) - 1
        at, value = starts[number], changed.get(number, lines[number].value)
        if edit.end - at > len(lines[number].value):
            raise Impossible(PART)
        changed[number] = value[: edit.start - at] + edit.new + value[edit.end - at :]
    is_ascii = place.text.isascii()
    return [
        replace(
            made[0],
            start=lines[number].start,
            end=lines[number].end,
            new=json.dumps(value, ensure_ascii=is_ascii),
        )
        for number, value in changed.items()
    ]
