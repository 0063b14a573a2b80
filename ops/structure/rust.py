"""Which source files of a Rust crate import which, read from their text with regular expressions."""

import re
from collections import defaultdict

# Comments, strings and characters; `'a` alone is a lifetime.
NO_CODE = re.compile(
    r"""//[^\n]*|/\*.*?\*/|b?r(\#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?'(?:\\(?:u\{\w+\}|.[^']*)|[^'\\])'""",
    re.DOTALL,
)
# serde names functions in strings.
NAMED_IN_STRING = re.compile(
    r'\b(?:with|default|serialize_with|deserialize_with|skip_serializing_if) = "([\w:]+)"'
)
CFG = re.compile(r"#\[cfg\(([^\]]*)\)\]")
MODULE = re.compile(r"\bmod\s+(\w+)\s*([;{])")
PATH_ATTRIBUTE = re.compile(r'#\[path = "([^"]+)"\]\s*(?:pub(?:\([^)]*\))?\s+)?$')
USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;<]+);")
ITEM = re.compile(
    r"\b(?:fn|struct|enum|union|trait|type|static|const|macro_rules!)\s+"
    r"(?:mut\s+)?(?!(?:fn|unsafe|async|extern)\b)(\w+)"
)
INLINE = re.compile(r"(?<![\w.:'])[A-Za-z_]\w*(?:\s*::\s*[A-Za-z_]\w*)+")
TEST_FILE = re.compile(r"(?:tests|testing|\w+_tests)\.rs")


class Module:
    """A module: what it defines, what it imports, and which names its code has."""

    def __init__(self, file, parent):
        self.file, self.parent = file, parent
        self.children, self.items = {}, set()
        self.uses = []  # (line, name, path, is_re_export, is_of_the_module)
        self.inline = []  # (line, path)
        self.words = {}  # name -> first line

    def walk(self):
        yield self
        for child in self.children.values():
            yield from child.walk()

    def find(self, name, seen=()):
        """What a name means here: a module, the module that defines an item, or None."""
        if (self, name) in seen:
            return None
        seen = (*seen, (self, name))
        if name in self.children:
            return self.children[name]
        if name in self.items:
            return Item(self, name)
        for _, bound, path, _, is_visible in self.uses:
            if bound == name and is_visible and (found := self.resolve(path, seen)):
                return found
        for _, bound, path, _, is_visible in self.uses:
            if bound == "*" and is_visible and isinstance(whole := self.resolve(path, seen), Module):
                if found := whole.find(name, seen):
                    return found
        return None

    def resolve(self, path, seen=()):
        """What a path means in this module; it ends at the first thing that is no module."""
        here, is_first = self, True
        for name in path:
            if name == "crate":
                while here.parent:
                    here = here.parent
            elif name == "super":
                here = here.parent or here
            elif name != "self":
                # A name that cannot be found is one that a macro makes: its module stands for it.
                found = here.find(name, seen) or (None if is_first else Item(here, name))
                if not isinstance(found, Module):
                    return found
                here = found
            is_first = False
        return here


class Item:
    """Something that a module defines."""

    def __init__(self, module, name):
        self.module, self.name = module, name


def blank(text):
    return re.sub(r"[^\n]", " ", text)


def closing(text, start):
    """The place after the item or block that begins at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] in "([{") - (text[place] in ")]}")
        if depth < 0 or (depth == 0 and text[place] in ";}"):
            return place + 1
    return len(text)


def code(text):
    """The text with comments, strings and tests blanked; every line and column stays where it is."""
    text = NAMED_IN_STRING.sub(lambda found: found[0].replace('"', " "), text)
    text = NO_CODE.sub(lambda found: blank(found[0]), text)
    while found := next((cfg for cfg in CFG.finditer(text) if is_test(cfg[1])), None):
        end = found.end()
        while attribute := re.compile(r"\s*#(?=\[)").match(text, end):
            end = attribute.end() + closing_bracket(text[attribute.end():])
        end = closing(text, end)
        text = text[:found.start()] + blank(text[found.start():end]) + text[end:]
    return text


def is_test(condition):
    return re.search(r"\btest\b", re.sub(r"not\(\s*test\s*\)", "", condition))


def closing_bracket(text):
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            return place + 1
    return len(text)


def leaves(tree, prefix=()):
    """(name, path) of each leaf of a use-tree."""
    head, brace, rest = tree.strip().partition("{")
    head, _, alias = head.partition(" as ")
    path = (*prefix, *filter(None, re.split(r"\s*::\s*", head.strip())))
    if not brace:
        if path[-1:] == ("*",):
            yield "*", path[:-1]
            return
        if path[-1:] == ("self",) and len(path) > 1:
            path = path[:-1]
        if path:
            yield alias.strip() or path[-1], path
        return
    depth, part = 0, ""
    for character in rest[:rest.rindex("}")] + ",":
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            yield from leaves(part, path)
            part = ""
        else:
            part += character


def load(file, parent=None, folder=None):
    """The module in a file, with its children."""
    raw = file.read_text()
    folder = folder or (file.parent if file.name == "mod.rs" else file.parent / file.stem)
    return parse(Module(file, parent), raw, code(raw), folder)


def parse(module, raw, text, folder):
    def line(place):
        return text.count("\n", 0, place) + 1

    place = 0
    while found := MODULE.search(text, place):
        name, place = found[1], found.end()
        if found[2] == "{":
            end = closing(text, found.end() - 1)
            inner = blank(text[:place]) + text[place:end - 1]
            module.children[name] = parse(Module(module.file, module), raw, inner, folder / name)
            text = text[:found.start()] + blank(text[found.start():end]) + text[end:]
            continue
        path = PATH_ATTRIBUTE.search(raw[:found.start()])
        files = [module.file.parent / path[1]] if path else [folder / f"{name}.rs", folder / name / "mod.rs"]
        file = next((file.resolve() for file in files if file.exists()), None)
        if file and not TEST_FILE.fullmatch(file.name):
            module.children[name] = load(file, module)

    used = list(USE.finditer(text))
    for found in used:
        text = text[:found.start()] + blank(found[0]) + text[found.end():]
    depth, depths = 0, []
    for character in text:
        depth += (character == "{") - (character == "}")
        depths.append(depth)
    for found in used:
        for name, path in leaves(found[2]):
            module.uses.append((line(found.start(2)), name, path, bool(found[1]), depths[found.start()] == 0))
    module.items = {found[1] for found in ITEM.finditer(text) if depths[found.start()] == 0}
    for found in INLINE.finditer(text):
        module.inline.append((line(found.start()), tuple(re.split(r"\s*::\s*", found[0]))))
    # A function counts where it is called, so that a variable of its name does not.
    for found in re.finditer(r"(?<![\w.:'])([A-Z]\w*|[a-z_]\w*(?=\s*(?:\(|!|::)))\b(?!\s*:[^:])", text):
        module.words.setdefault(found[1], line(found.start()))
    return module


def imports(root_file):
    """{(file, file): [(line, name)…]} of one crate."""
    edges = defaultdict(list)

    def add(module, line, found):
        if isinstance(found, Item) and found.module.file != module.file:
            edges[module.file, found.module.file].append((line, found.name))

    root_file = root_file.resolve()
    for module in load(root_file, folder=root_file.parent).walk():
        for line, name, path, is_re_export, _ in module.uses:
            found = module.resolve(path)
            if name == "*":
                names = [word for word in module.words if isinstance(found, Module)]
                for word in names:
                    add(module, module.words[word], found.find(word))
            elif not is_re_export:
                add(module, line, found)
            elif name in module.words:
                add(module, module.words[name], found)
        local = {name: path for _, name, path, _, is_visible in module.uses if not is_visible}
        for line, path in module.inline:
            if path[0] in local:
                path = (*local[path[0]], *path[1:])
            if path[0] in ("crate", "self", "super") or isinstance(module.find(path[0]), Module):
                add(module, line, module.resolve(path))
    return edges
