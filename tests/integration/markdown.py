"""Markdown as the documents here use it: headings, links, inline code and fenced blocks, each with its line."""
import dataclasses
import re
import unicodedata

FENCE = re.compile(r"^```(\w*)\s*$")
MARK = re.compile(r"^<!-- (not run|file|prints)(?:: (.+))? -->$")


@dataclasses.dataclass
class Block:
    """A fenced block. `mark` is what the comment right above it says: not run (and why), file (its name), prints."""
    line: int
    language: str
    text: str
    mark: str | None = None
    note: str | None = None


@dataclasses.dataclass
class Document:
    blocks: list
    prose: list  # (line, text) of what is not in a block, comments left out
    unread_marks: list  # lines of marks with no block below them


def read(text):
    document, block, mark = Document([], [], []), None, None
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if block is not None:
            if line.strip() == "```":
                document.blocks.append(block)
                block = None
            else:
                block.text += line + "\n"
        elif fence:
            kind, note = mark[1:] if mark else (None, None)
            block, mark = Block(number, fence[1], "", kind, note), None
        else:
            if mark and line.strip():
                document.unread_marks.append(mark[0])
            found = MARK.match(line)
            mark = (number, *found.groups()) if found else mark if not line.strip() else None
            document.prose.append((number, re.sub(r"<!--.*?-->", "", line)))
    assert block is None, f"the block of line {block.line} has no end"
    return document


def anchors(document):
    """The names that a link's #… may have: GitHub's, made of the headings."""
    made = {}
    for _, line in document.prose:
        heading = re.match(r"#{1,6} +(.*?) *#*$", line)
        if heading:
            text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = "".join(c for c in text if c in "-_ " or unicodedata.category(c)[0] in "LN").replace(" ", "-")
            made[slug] = made.get(slug, -1) + 1
    return {slug if n == 0 else f"{slug}-{n}" for slug, last in made.items() for n in range(last + 1)}


def links(document):
    """(line, target) of links and pictures."""
    for number, line in document.prose:
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", line)):
            yield number, target
        for target in re.findall(r"\[`[^`]*`\]\(([^)\s]+)\)", line):
            yield number, target


def code(document):
    """(line, text) of inline code."""
    for number, line in document.prose:
        for text in re.findall(r"`([^`]+)`", line):
            yield number, text
