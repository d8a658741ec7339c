"""What the documents say is so: links lead somewhere, commands are ones that the program takes, keys, routes and metrics exist, and every
block of commands that is not marked "not run" is run, as a reader would, from top to bottom."""
import difflib
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys

import pytest
import requests

import bundles
import daemon as daemons
import markdown

ROOT = pathlib.Path(__file__).parents[2]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
DOCUMENTS = {name: markdown.read((ROOT / name).read_text()) for name in TRACKED if name.endswith(".md")}
GUIDES = [name for name in DOCUMENTS if name == "README.md" or re.fullmatch(r"docs/[\w-]+\.md", name)]
LANGUAGES = {"sh", "ini", "json", "lua", "python", "text", "mermaid"}
MARKS = {"sh": {None, "not run"}, "text": {None, "prints", "file"}}
PROGRAM = bundles.PROGRAM.resolve()


def run(*command):
    done = subprocess.run([str(PROGRAM), *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def helps():
    """What --help says of each command."""
    commands = re.findall(r"^  ([a-z]+) ", run("--help"), re.M)
    return {command: run(command, "--help") for command in commands}


@pytest.fixture(scope="module")
def defaults():
    """All configuration keys with their defaults, by section."""
    return json.loads(run("serve", "--example-config"))


def keys_of(defaults):
    return {f"{section}.{name}" for section, members in defaults.items() for name in members}


# --- links ---

@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    broken = []
    for line, target in markdown.links(DOCUMENTS[name]):
        if re.match(r"(https|http|mailto):", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        relative = os.path.relpath(file, ROOT)
        if not file.exists():
            broken.append(f"{name}:{line}: there is no {target}")
        elif anchor and anchor not in markdown.anchors(DOCUMENTS[relative]):
            broken.append(f"{name}:{line}: {relative} has no heading #{anchor}")
    assert broken == []


def test_every_guide_can_be_reached_from_the_readme():
    linked = {os.path.normpath(target.partition("#")[0]) for _, target in markdown.links(DOCUMENTS["README.md"])}
    assert {name for name in GUIDES if name != "README.md"} - linked == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_paths_of_this_repository_exist(name):
    """`folder/file` in a text is a file here, if the folder is one of ours."""
    folders = {file.partition("/")[0] for file in TRACKED if "/" in file}
    missing = []
    for line, text in markdown.code(DOCUMENTS[name]):
        if not re.fullmatch(r"[a-z]+/[\w./-]+", text) or text.partition("/")[0] not in folders:
            continue
        if not (ROOT / text).exists() and not (ROOT / name).parent.joinpath(text).exists() and not list(ROOT.glob(text + "*")):
            missing.append(f"{name}:{line}: there is no {text}")
    assert missing == []


# --- what is named in the text ---

def commands_in(text):
    """The words of each `medfusion …` in a piece of shell."""
    text = re.sub(r"\\\n", " ", text)
    for line in re.split(r"\n|&&|\|\|?|;|\$\(", text):
        try:
            words = shlex.split(line, comments=True)
        except ValueError:  # the rest of a quotation over several lines
            words = line.split()
        while words and re.fullmatch(r"[A-Z_]+=.*|exec|if|until|while|!", words[0]):
            words = words[1:]
        if words and words[0] == "sudo":
            words = words[3:] if words[1:2] == ["-u"] else words[1:]
        if words and words[0].rpartition("/")[2] == "medfusion":
            yield [word.rstrip(")") for word in words[1:]]


def mistakes_of(words, helps, keys):
    """What the program would not take of a command."""
    if not words or words[0].startswith("-"):
        return [] if words in ([], ["--help"]) else [f"medfusion {words[0]}"]
    command, rest = words[0], words[1:]
    if command not in helps:
        return [f"there is no command {command}"]
    wrong = []
    for word in rest:
        if word == "--":
            break
        option = word.partition("=")[0]
        if not re.fullmatch(r"--?[a-z][\w.-]*", option) or option == "--help":
            continue
        known = option[2:] in keys if "." in option else re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", helps[command])
        if not known:
            wrong.append(f"medfusion {command} has no {option}")
    verbs = {verb for verbs in re.findall(rf"medfusion {command} ([a-z|]+)(?= )", helps[command]) for verb in verbs.split("|")}
    if verbs and rest and not rest[0].startswith("-") and rest[0] not in verbs:
        wrong.append(f"medfusion {command} has no {rest[0]}")
    return wrong


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_are_ones_that_the_program_takes(name, helps, defaults):
    keys, wrong = keys_of(defaults), []
    pieces = [(block.line, block.text) for block in DOCUMENTS[name].blocks if block.language == "sh"]
    pieces += [(line, text) for line, text in markdown.code(DOCUMENTS[name]) if re.match(r"medfusion [a-z]", text)]
    for line, text in pieces:
        for words in commands_in(text):
            wrong += [f"{name}:{line}: {mistake}" for mistake in mistakes_of(words, helps, keys)]
    assert wrong == []


def test_this_check_finds_mistakes(helps, defaults):
    keys = keys_of(defaults)
    assert [mistakes_of(words, helps, keys) for text in ("medfusion predict --modell x a.dcm", "medfusion serve --http.port 1", "medfusion kee add",
            "medfusion model polish x", "A=$(medfusion key add f --nam x)", "sudo -u medfusion medfusion audit verif d") for words in commands_in(text)] == [
        ["medfusion predict has no --modell"], ["medfusion serve has no --http.port"], ["there is no command kee"],
        ["medfusion model has no polish"], ["medfusion key has no --nam"], ["medfusion audit has no verif"]]
    text = "# A `b` c!\n[x](#a-b-c) [y](no.md)\n\n<!-- not run: why -->\n```sh\nfalse\n```\n\n<!-- prints -->\nno block\n"
    document = markdown.read(text)
    assert markdown.anchors(document) == {"a-b-c"}
    assert list(markdown.links(document)) == [(2, "#a-b-c"), (2, "no.md")]
    assert [(b.line, b.mark, b.note, b.text) for b in document.blocks] == [(5, "not run", "why", "false\n")]
    assert document.unread_marks == [9]


def known_words(defaults):
    """Keys, scopes of API keys and events of the log: what `word.word` may be."""
    scopes = set(re.findall(r"\b[a-z]+\.(?:read|write)\b", run("key", "--help")))
    source = "\n".join(path.read_text() for path in (ROOT / "server").glob("*.c"))
    return keys_of(defaults) | scopes | set(re.findall(r'"([a-z]+\.[a-z_]+)"', source))


@pytest.mark.parametrize("name", [*GUIDES, "SECURITY.md", "dicom/CONFORMANCE.md"])
def test_keys_exist(name, defaults):
    known, wrong = known_words(defaults), []
    for line, text in markdown.code(DOCUMENTS[name]):
        for word in re.findall(r"(?<![\w./-])([a-z]+\.[a-z_]+(?:\.?\*)?)(?![\w./(-])", text):
            section = word.partition(".")[0]
            if section in defaults and word not in known and not (word.endswith("*") and any(key.startswith(word.rstrip("*")) for key in known)) and \
                    not re.search(r"\.(c|h|js|md|json|db|yaml)$", word):
                wrong.append(f"{name}:{line}: there is no {word}")
    for line, text in [*markdown.code(DOCUMENTS[name]), *((b.line, b.text) for b in DOCUMENTS[name].blocks if b.language in ("sh", "json"))]:
        for variable in re.findall(r"\bMEDFUSION_[A-Z_]+\b", text):
            section, _, key = variable.removeprefix("MEDFUSION_").lower().partition("_")
            if key not in defaults.get(section, {}) and variable not in (ROOT / "CMakeLists.txt").read_text() and variable != "MEDFUSION_SECTION_KEY":
                wrong.append(f"{name}:{line}: there is no {variable}")
    assert wrong == []


@pytest.mark.parametrize("name", GUIDES)
def test_configurations_are_ones_that_the_program_takes(name, defaults):
    wrong = []
    for block in DOCUMENTS[name].blocks:
        document = json.loads(block.text) if block.language == "json" else {}
        if not document or not set(document) <= set(defaults):
            continue
        for section, members in document.items():
            for key, value in members.items():
                if key not in defaults[section]:
                    wrong.append(f"{name}:{block.line}: there is no {section}.{key}")
                elif type(value) is not type(defaults[section][key]):
                    wrong.append(f"{name}:{block.line}: {section}.{key} is no {type(value).__name__}")
    assert wrong == []


ROUTE = r"(?<![\w.}])(/(?:v1|v2|fhir|dicom-web|cds-services|oauth2|ui|schemas|metrics|openapi\.json)(?![\w-])[^\s\"'`?#,;)]*)"
BASES = {"/dicom-web", "/fhir"}  # what clients are configured with


def fits(path, pattern):
    a, b = path.strip("/").split("/"), pattern.strip("/").split("/")
    return len(a) == len(b) and all(y == x or y.startswith("{") for x, y in zip(a, b))


@pytest.mark.parametrize("name", GUIDES)
def test_routes_exist(name):
    patterns = list(json.loads((ROOT / "server/openapi.json").read_text())["paths"])
    wrong = []
    pieces = [*markdown.code(DOCUMENTS[name]), *((b.line, b.text) for b in DOCUMENTS[name].blocks)]
    for line, text in pieces:
        for path in re.findall(ROUTE, re.sub(r"https?://[\w.:-]+", " ", text)):
            path, shortened, _ = re.sub(r"[\[…].*", "\n", path).partition("\n")
            known = any(pattern.startswith(path.rstrip("/")) if shortened else fits(path, pattern) for pattern in patterns)
            if not known and path not in BASES:
                wrong.append(f"{name}:{line}: there is no {path}")
    assert wrong == []


@pytest.mark.parametrize("name", GUIDES)
def test_metrics_exist(name, daemon):
    exported = set(re.findall(r"^# TYPE (\S+)", requests.get(daemon.url + "/metrics", timeout=10).text, re.M))
    text = (ROOT / name).read_text()
    named = {re.sub(r"_(sum|count|bucket)$", "", word) for word in re.findall(r"\bmedfusion_(?:job|http|worker|quality|build|front)\w+", text)}
    prefixes = {word for word in named if word.endswith("_") and any(e.startswith(word) for e in exported)}  # "medfusion_worker_…"
    assert named - exported - prefixes == set()


def test_the_reference_is_what_the_program_says_of_itself():
    """Every key and every metric that there is, and no other: docs/reference.py writes it."""
    sys.path.insert(0, str(ROOT / "docs"))
    import reference

    now, written = reference.document(), (ROOT / "docs/reference.md").read_text()
    assert now == written, "run docs/reference.py: " + "\n".join(difflib.unified_diff(written.splitlines(), now.splitlines(), lineterm="", n=0))
    in_sources = set(re.findall(r"\bmedfusion_[a-z_]*[a-z](?=[\s{\"])", "\n".join(path.read_text() for path in (ROOT / "server").glob("*.c"))))
    named = set(re.findall(r"^\| `(medfusion_\w+)`", written, re.M))
    assert {re.sub(r"_(sum|count|bucket)$", "", name) for name in in_sources} - named == set()  # none that this daemon kept to itself


def test_the_page_has_the_words_that_its_guide_uses():
    """What docs/radiologist.md sets in bold type is a text of the page."""
    page = "\n".join(path.read_text() for path in (ROOT / "server/ui").iterdir() if path.suffix in (".js", ".html"))
    labels = {label for _, line in DOCUMENTS["docs/radiologist.md"].prose for label in re.findall(r"\*\*([^*]+)\*\*", line)}
    assert len(labels) > 10
    assert {label for label in labels if label not in page} == set()


# --- what is run ---

@pytest.mark.parametrize("name", GUIDES)
def test_blocks_are_marked_well(name):
    assert DOCUMENTS[name].unread_marks == []
    for block in DOCUMENTS[name].blocks:
        where = f"{name}:{block.line}"
        assert block.language in LANGUAGES, f"{where}: name the language of this block"
        assert block.mark in MARKS.get(block.language, {None, "file"}), f"{where}: not a mark for this language"
        assert (block.note is None) == (block.mark in (None, "prints")), f"{where}: say why it is not run, or the file's name"


def free_port():
    """A port that nobody listens on, from below those that the system gives to clients."""
    for port in range(21000, 29000, 7):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise RuntimeError("no port is free")


def script_of(document):
    """One script of all blocks: a reader's shell, from top to bottom. Files are written where the document shows them."""
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for block in document.blocks:
        lines.append(f"printf '\\n@@ {block.line}\\n'; printf '@@ {block.line}\\n' >&2")
        if block.mark == "file":
            lines.append(f"cat >{block.note} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.language == "sh" and block.mark is None:
            lines.append(block.text)
    return "\n".join(lines)


def check_output(name, document, output):
    """Blocks marked "prints" hold lines of what the commands above them printed."""
    said = {int(number): text for number, text in re.findall(r"^@@ (\d+)\n(.*?)(?=^@@ |\Z)", output, re.M | re.S)}
    last = 0
    for block in document.blocks:
        if block.mark == "prints":
            missing = [line for line in block.text.splitlines() if line.strip() and line not in said[last]]
            assert missing == [], f"{name}:{block.line}: this was not printed; it was:\n{said[last]}"
        elif block.language == "sh":
            last = block.line


@pytest.mark.parametrize("name", [name for name in GUIDES if any(b.language == "sh" for b in DOCUMENTS[name].blocks)])
def test_commands_do_what_the_document_says(name, tmp_path):
    """In a folder that looks like the repository's, with the program in PATH. Where the document starts no daemon, one runs already."""
    document, port = DOCUMENTS[name], free_port()
    here = tmp_path / "here"
    here.mkdir()
    for folder in ("tests", "models", "deploy", "library"):
        (here / folder).symlink_to(ROOT / folder)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/medfusion").symlink_to(PROGRAM)
    script = script_of(document).replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("localhost:8080", f"localhost:{port}")
    before = None
    if "medfusion serve" not in script:
        before = daemons.Daemon(tmp_path / "daemon", ROOT / "models/thorax-nih", **{"http.listen": f"127.0.0.1:{port}", "fetch.sources": f"pacs=http://127.0.0.1:{port}/dicom-web"}).start()
    environment = {"PATH": f"{tmp_path / 'bin'}:{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = subprocess.run([shutil.which("bash")], input=script, capture_output=True, text=True, timeout=1200, cwd=here, env=environment)
    if before:
        before.stop()
    if done.returncode != 0:
        at = re.findall(r"^@@ (\d+)$", done.stderr, re.M)[-1]
        said = done.stderr.rpartition(f"@@ {at}\n")[2] + done.stdout.rpartition(f"@@ {at}\n")[2]
        pytest.fail(f"{name}:{at}: the block of this line failed (exit status {done.returncode}):\n{said[-3000:]}", pytrace=False)
    check_output(name, document, done.stdout)
