"""Does the report's page do in a browser what it promises? Called by report.sh.

Prints ok / not ok / skip lines and ends "N passed, N failed"; 1 if any failed. Screenshots are
left in --shots, to be looked at.
"""
import argparse
import csv
import json
import os
import re
import shlex
import struct
import subprocess
import sys
import time
import traceback
import xml.etree.ElementTree as xml

sys.dont_write_bytecode = True
from page import Page
from selenium.common.exceptions import WebDriverException

TEXT = "And God said, Let there be light: and there was light. And God saw the light, that it was good."
HOSTILE = ("</script><script>window.pwned=1</script><!-- <b onclick=x> &amp; \u202eevil\u202c \u2028 "
           "\x1b[31mred {{DATA}} ]]> \u2069 =1+1")
PANELS = ["summary", "text", "map", "heads", "lag", "own", "reach", "graph", "trust", "card"]
TABLED = PANELS[1:9]
WIDTHS = [320, 768, 1440, 3840]


class Record:
    """The tensors of a safetensors file, by the standard library."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.bytes = f.read()
        n = struct.unpack("<Q", self.bytes[:8])[0]
        self.head = json.loads(self.bytes[8:8 + n])
        self.start = 8 + n

    def value(self, name, *index):
        t, flat = self.head[name], 0
        for at, size in zip(index, t["shape"]):
            flat = flat * size + at
        kind, size = {"F32": ("<f", 4), "F64": ("<d", 8), "I64": ("<q", 8)}[t["dtype"]]
        return struct.unpack_from(kind, self.bytes, self.start + t["data_offsets"][0] + flat * size)[0]


def check(condition, words):
    if not condition:
        raise AssertionError(words)


def backflow(a, *arguments, cwd=None):
    done = subprocess.run([a.backflow, *arguments], capture_output=True, text=True, cwd=cwd)
    check(done.returncode == 0, f"backflow {arguments}: {done.stderr[:300]}")
    return done


# ---- each test: (page, a) -> None, or an AssertionError

def loads_in_silence(p, a):
    p.open(a.page)
    check(p.errors() == [], f"console: {p.errors()}")
    asked = p.requests()
    check([u for u in asked if u != "file://" + a.page] == [], f"requests: {asked}")
    loaded = p.js("return performance.getEntriesByType('resource').map((e) => e.name)")
    check([u for u in loaded if not u.startswith(("data:", "blob:"))] == [], f"resources: {loaded}")


def policy_forbids_the_network(p, a):
    p.open(a.page)
    refused = p.driver.execute_async_script(
        "const done = arguments[0];"
        "document.addEventListener('securitypolicyviolation', (e) => done(e.effectiveDirective));"
        "fetch('https://example.org/').catch(() => {}); setTimeout(() => done('none'), 3000);")
    check(refused == "connect-src", f"violated: {refused}")
    p.js("const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
         "document.body.append(s)")
    check(p.js("return window.foreign") is None, "a foreign script ran")


def all_panels_stand(p, a):
    p.open(a.page)
    for name in PANELS:
        box = p.js("const b = document.getElementById('p-' + arguments[0]).getBoundingClientRect();"
                   "return [b.width, b.height]", name)
        check(box[0] > 200 and box[1] > 60, f"panel {name} is {box}")
    for name in TABLED:
        p.press(f"#p-{name} .tools button[aria-label^='Table']")
        rows = p.js("return document.querySelectorAll(arguments[0]).length",
                    f"#p-{name} .table tbody tr")
        check(rows > 0, f"the table of {name} is empty")
        p.press(f"#p-{name} .tools button[aria-label^='What']")
        check(p.js("return !document.getElementById('help-' + arguments[0]).hidden", name), "help")
    check(p.errors() == [], "console")


def cell(p, r, j):
    """The middle of a cell of the unzoomed map, in the window."""
    p.js("document.querySelector('#b-map canvas').scrollIntoView({block: 'center'})")
    p.settle()
    return p.js(
        "const c = document.querySelector('#b-map canvas').getBoundingClientRect(), n = arguments[2];"
        "const left = c.width < 520 ? 46 : 78, edge = c.width < 520 ? 20 : 34;"
        "const plot = c.width - left - edge - 10;"
        "return [c.left + left + (arguments[1] + 0.5) * plot / n, c.top + 6 + (arguments[0] + 0.5) * plot / n]",
        r, j, a_n)


def hovering_reads_the_record(p, a):
    p.open(a.page)
    for i, j in ((9, 4), (20, 3), (a_n - 1, 0)):
        p.mouse("mouseMoved", *cell(p, i, j))
        p.settle()
        words = p.text(".readout")
        found = re.search(rf"loss {i},.*\({j}\), {i - j} back: ([−\d.]+(?:×10[⁻⁰-⁹]+)?)", words)
        check(found, f"readout: {words}")
        told = number(found.group(1))
        real = a.record.value("flow.resid_pre.grad_norm", 0, i, j)
        check(abs(told - real) <= 0.011 * real, f"({i},{j}): the page says {told}, the record {real}")


def number(words):
    words = words.replace("−", "-").replace("×10", "e")
    return float(words.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))


def clicking_locks_and_unlocks(p, a):
    p.open(a.page)
    at = cell(p, 12, 5)
    p.click(*at)
    check(p.hash() == "loss=12&source=5", p.hash())
    check("loss 12" in p.text("#lock-words"), p.text("#lock-words"))
    check("loss 12" in p.text("#t-text") and "loss 12" in p.text("#t-graph"), "panels do not follow")
    p.click(*at)
    check(p.hash() == "", "a second click does not unlock: " + p.hash())
    p.click(*cell(p, 4, 20))
    check(p.hash() == "", "the empty half was locked: " + p.hash())


def keys_move_the_lock(p, a):
    p.open(a.page, "loss=10&source=4")
    p.keys("#b-map canvas", "ArrowDown")
    check(p.hash() == "loss=11&source=4", p.hash())
    p.keys("#b-map canvas", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowLeft")
    check(p.hash() == "loss=10&source=5", p.hash())
    check("loss 10" in p.text("#say"), "not said aloud: " + p.text("#say"))
    p.keys("#b-map canvas", "End")
    check(p.hash() == "loss=10&source=10", p.hash())
    p.keys("#b-map canvas", "Home")
    check(p.hash() == "loss=10&source=0", p.hash())
    p.keys("#b-map canvas", "Escape")
    check(p.hash() == "", p.hash())
    p.keys("#b-text .tok", "End")
    check(p.hash() == f"loss={a_n - 1}", p.hash())
    p.keys("#b-text .tok[tabindex='0']", "ArrowLeft")
    check(p.hash() == f"loss={a_n - 2}", p.hash())
    p.keys("#b-heads svg", "End", "ArrowLeft", "ArrowLeft", "Enter")
    check("head=3" in p.hash() and "layer=3" in p.hash(), p.hash())


def one_tab_stop_a_grid(p, a):
    p.open(a.page)
    for selector in ("#b-text .text", "#b-map .mapbox", "#b-heads", "#b-graph > svg"):
        stops = p.js("const e = document.querySelector(arguments[0]);"
                     "return [e, ...e.querySelectorAll('*')].filter((n) => n.tabIndex >= 0"
                     " && !n.closest('.zoom')).length", selector)
        check(stops == 1, f"{selector} has {stops} tab stops")


def pickers_and_links_select(p, a):
    p.open(a.page)
    for name, value, wanted in (("site", "v", "values (v)"), ("layer", "2", "layer 2"),
                                ("head", "1", "head 1"), ("score", "grad_x_act", "signed")):
        p.js("const s = document.getElementById('pick-' + arguments[0]); s.value = arguments[1];"
             "s.dispatchEvent(new Event('change'))", name, value)
        p.wait(f"document.getElementById('t-map').textContent.includes('{wanted}')")
    for scale in ("linear", "rank", "log"):
        p.js("const s = document.getElementById('pick-scale'); s.value = arguments[0];"
             "s.dispatchEvent(new Event('change'))", scale)
        p.settle()
    p.press("#p-summary a[data-head]")
    p.wait("document.getElementById('t-map').textContent.includes('norm of the gradient at values')")
    check(p.errors() == [], "console")


def state_survives_the_address(p, a):
    state = "site=v&layer=2&head=1&scale=rank&loss=17&source=6&keep=0.55"
    p.open(a.page, state)
    check("layer 2, head 1" in p.text("#t-map"), p.text("#t-map"))
    check(p.js("return document.getElementById('keep').value") == "55", "the slider")
    p.keys("#b-map canvas", "ArrowRight")
    changed = p.hash()
    check(sorted(changed.split("&")) == sorted(state.replace("source=6", "source=7").split("&")), changed)
    title, lock = p.text("#t-map"), p.text("#lock-words")
    p.open(a.page, changed)
    check((title, lock) == (p.text("#t-map"), p.text("#lock-words")), "another state after reload")
    p.open(a.page, "site=%3Cb%3E&layer=99&head=-7&scale=x&loss=1e9&source=-3&keep=77&theme=pink&zz=1")
    check("embeddings" in p.text("#t-map") or "layer 3" in p.text("#t-map"), p.text("#t-map"))
    check(p.text("#lock-words") == "nothing locked", p.text("#lock-words"))
    check(p.errors() == [], "console")


def slider_keeps_less(p, a):
    p.open(a.page, "loss=20&keep=0.9")
    count = "return document.querySelectorAll('#b-graph > svg > path').length"
    many = p.js(count)
    p.js("const s = document.getElementById('keep'); s.value = 30; s.dispatchEvent(new Event('input'))")
    p.settle()
    few = p.js(count)
    check(0 < few < many, f"{few} edges at 30 %, {many} at 90 %")
    check("keep=0.3" in p.hash(), p.hash())


def schemes_follow_and_switch(p, a):
    ground = "return getComputedStyle(document.body).backgroundColor"
    p.look(scheme="light")
    p.open(a.page)
    light = p.js(ground)
    p.look(scheme="dark")
    p.settle()
    dark = p.js(ground)
    check(light != dark, "the preference is not followed")
    p.press("#theme")
    check(p.js(ground) == light and "theme=light" in p.hash(), "the switch does not")
    p.look()


def no_width_overflows(p, a):
    os.makedirs(a.shots, exist_ok=True)
    for width in WIDTHS:
        for scheme in ("light", "dark"):
            p.look(width=width, scheme=scheme)
            p.open(a.page, "loss=20&source=3" if width == 768 else "")
            over = p.js("return document.documentElement.scrollWidth")
            check(over <= width, f"{width} px: {over} wide")
            out = p.js(
                "return [...document.querySelectorAll('.panel')].filter((e) => e.scrollWidth > e.clientWidth + 1)"
                ".map((e) => e.id)")
            check(out == [], f"{width} px: {out} overflow")
            p.shot(os.path.join(a.shots, f"{scheme}-{width}.png"))
    p.look()


def texts_of_drawings_do_not_collide(p, a):
    for width in (320, 1440):
        p.look(width=width)
        p.open(a.page, "loss=20")
        hit = p.js("""
            const hits = [];
            for (const svg of document.querySelectorAll('.body > svg')) {
              const all = [...svg.querySelectorAll('text')].filter((t) => !t.getAttribute('transform') && t.textContent)
                .map((t) => [t.textContent, t.getBoundingClientRect()]);
              for (let a = 0; a < all.length; a++) for (let b = a + 1; b < all.length; b++) {
                const [p, q] = [all[a][1], all[b][1]];
                if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 3 && q.top < p.bottom - 3)
                  hits.push(svg.parentElement.id + ': ' + all[a][0] + ' / ' + all[b][0]);
              }
            }
            return hits;""")
        check(hit == [], f"{width} px: {hit[:5]}")
    p.look()


def zoom_shows_more_and_comes_back(p, a):
    p.open(a.page)
    before = p.js("return document.querySelector('#b-map canvas').toDataURL()")
    p.keys("#b-map canvas", "+", "+")
    zoomed = p.js("return document.querySelector('#b-map canvas').toDataURL()")
    check(before != zoomed, "nothing moved")
    p.keys("#b-map canvas", "0")
    check(p.js("return document.querySelector('#b-map canvas').toDataURL()") == before, "not back")


def axe_finds_nothing(p, a):
    with open(a.axe, encoding="utf-8") as f:
        source = f.read()
    for width, scheme, state in ((1440, "light", ""), (1440, "dark", "loss=20&source=3"), (320, "light", "loss=9")):
        p.look(width=width, scheme=scheme)
        p.open(a.page, state)
        for name in TABLED:
            p.press(f"#p-{name} .tools button[aria-label^='Table']")
            p.press(f"#p-{name} .tools button[aria-label^='What']")
        p.cdp("Runtime.evaluate", expression=source)
        found = p.driver.execute_async_script(
            "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']})"
            ".then((r) => done(r.violations.map((v) => v.id + ': ' + v.nodes.map((n) => n.target.join(' ')"
            " + ' ' + n.failureSummary).slice(0, 2).join('; '))));")
        check(found == [], f"{width} px, {scheme}: {found}")
    p.look()


def saves_what_it_shows(p, a):
    p.open(a.page, "loss=20")
    for name in PANELS[1:9]:
        labels = p.js("return [...document.querySelectorAll(arguments[0])].map((b) => b.textContent)",
                      f"#p-{name} .menu button")
        for k, label in enumerate(labels):
            if label not in ("SVG", "PNG", "CSV"):
                continue
            path = os.path.join(a.downloads, f"backflow_{name}.{label.lower()}")
            p.press(f"#p-{name} .menu button", k)
            wait_for(path)
            check_file(path, label)
    check(p.errors() == [], "console")


def wait_for(path):
    end = time.monotonic() + 20
    while not os.path.exists(path) or not os.path.getsize(path):
        check(time.monotonic() < end, "never saved: " + path)
        time.sleep(0.05)
    time.sleep(0.1)


def check_file(path, label):
    with open(path, "rb") as f:
        data = f.read()
    if label == "PNG":
        check(data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 4000, path)
    elif label == "SVG":
        tree = xml.fromstring(data)
        check(len(list(tree.iter())) > 10, path)
        check(b" style=" not in data, path + " has style attributes")
    else:
        rows = list(csv.reader(data.decode("utf-8-sig").splitlines()))
        check(len(rows) > 1 and all(len(r) == len(rows[0]) for r in rows), path)


def commands_run(p, a):
    """What "Copy the command" gives can be pasted beside the report."""
    p.open(a.page, "loss=20&source=3&site=v&layer=2&head=1")
    for name in PANELS[1:9]:
        labels = p.js("return [...document.querySelectorAll(arguments[0])].map((b) => b.textContent)",
                      f"#p-{name} .menu button")
        check("Copy the command" in labels, name)
        p.press(f"#p-{name} .menu button", labels.index("Copy the command"))
        said = p.text("#say")
        check(said.startswith("copied: "), said)
        words = shlex.split(said[len("copied: "):])
        if words[0] != "backflow":
            continue
        folder = os.path.join(a.folder, "run-" + name)
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "run.safetensors")):
            os.link(os.path.join(os.path.dirname(a.page), "run.safetensors"),
                    os.path.join(folder, "run.safetensors"))
        backflow(a, *words[1:], cwd=folder)
        check(len(os.listdir(folder)) > 1, "nothing was drawn by " + " ".join(words))


def prints_on_few_pages(p, a):
    p.open(a.page, "loss=20")
    pdf = p.pdf()
    pages = len(re.findall(rb"/Type\s*/Page\b[^s]", pdf))
    with open(os.path.join(a.shots, "print.pdf"), "wb") as f:
        f.write(pdf)
    check(3 <= pages <= 5, f"{pages} pages")


def hostile_text_changes_nothing(p, a):
    p.open(a.hostile, "loss=3")
    check(p.errors() == [], f"console: {p.errors()}")
    check(p.js("return window.pwned") is None, "the text ran")
    text = p.text("#b-text .text")
    check("<script>" in text.replace(" ", "") or "script" in text, text)
    check("\u202e" not in p.js("return document.documentElement.outerHTML"), "a raw direction mark")
    check(p.js("return document.querySelectorAll('#b-text b, #b-card b, [onclick]').length") == 0, "elements")
    check(p.js("return document.querySelectorAll('.panel').length") == len(PANELS), "panels")


def picture_without_scripts(p, a):
    p.open(a.page)
    seen = p.cdp("DOM.getDocument")["root"]["nodeId"]

    def box(selector):
        node = p.cdp("DOM.querySelector", nodeId=seen, selector=selector)["nodeId"]
        try:
            model = p.cdp("DOM.getBoxModel", nodeId=node)["model"]
        except Exception:
            return 0, 0
        return model["width"], model["height"]
    check(box("#app") == (0, 0) and box(".bar") == (0, 0), "dead controls are shown")
    for selector in ("#picture", "#p-summary", "#s-maps img", "#s-graph img", "#s-lags svg", "#s-trust table"):
        width, height = box(selector)
        check(width > 200 and height > 40, f"{selector} is {width} x {height}")
    os.makedirs(a.shots, exist_ok=True)
    p.shot(os.path.join(a.shots, "noscript.png"))
    check(p.errors() == [], "console")


def index_leads_to_its_pages(p, a):
    p.scripts = False
    p.open(a.index)
    p.scripts = True
    links = p.js("return [...document.querySelectorAll('tbody th a')].map((x) => x.getAttribute('href'))")
    check(links == ["text-01.html", "text-02.html"], links)
    check(p.errors() == [], "console")
    p.open(os.path.join(os.path.dirname(a.index), links[1]))
    check("all texts" in p.text(".facts"), p.text(".facts"))
    check(p.errors() == [], "console")


TESTS = [loads_in_silence, policy_forbids_the_network, all_panels_stand, hovering_reads_the_record,
         clicking_locks_and_unlocks, keys_move_the_lock, one_tab_stop_a_grid, pickers_and_links_select,
         state_survives_the_address, slider_keeps_less, schemes_follow_and_switch, no_width_overflows,
         texts_of_drawings_do_not_collide, zoom_shows_more_and_comes_back, saves_what_it_shows,
         commands_run, prints_on_few_pages, hostile_text_changes_nothing, index_leads_to_its_pages]
a_n = 0


def main():
    global a_n
    parser = argparse.ArgumentParser()
    for name in ("backflow", "folder", "browser", "driver", "axe", "shots"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--only", default="")
    a = parser.parse_args()
    a.shots = os.path.abspath(a.shots)
    a.downloads = os.path.join(a.folder, "saved")
    os.makedirs(a.downloads)
    os.makedirs(a.shots, exist_ok=True)
    for name, texts in (("plain", [TEXT]), ("hostile", [HOSTILE]), ("two", ["In the beginning", "And God said"])):
        backflow(a, "report", "kjv-1m", *[x for t in texts for x in ("--text", t)], "--quiet", "-o",
                 os.path.join(a.folder, name))
    a.page, a.hostile, a.index = (os.path.join(a.folder, n, "index.html") for n in ("plain", "hostile", "two"))
    a.record = Record(os.path.join(a.folder, "plain", "run.safetensors"))
    a_n = a.record.head["tokens"]["shape"][0] - 1
    counts = [0, 0]
    tests = TESTS + ([axe_finds_nothing] if a.axe else [])
    if not a.axe:
        print("skip browser axe_finds_nothing: axe-core could not be had (npm and a network are needed, once)")
    try:
        page = Page(a.browser, a.driver, a.downloads)
    except WebDriverException as e:     # no localhost, no shared memory: a machine that runs no browser
        print(f"skip browser: chromium does not start here: {e.msg}")
        print("0 passed, 0 failed")
        return 0
    run(tests, page, a, counts)
    run([picture_without_scripts], Page(a.browser, a.driver, a.downloads, scripts=False), a, counts)
    print(f"{counts[0]} passed, {counts[1]} failed")
    return 1 if counts[1] else 0


def run(tests, page, a, counts):
    try:
        for test in tests:
            if a.only not in test.__name__:
                continue
            try:
                test(page, a)
                counts[0] += 1
                print("ok browser " + test.__name__, flush=True)
            except Exception as e:  # a test that breaks is a test that fails
                counts[1] += 1
                words = str(e) if isinstance(e, AssertionError) else traceback.format_exc()
                print(f"not ok browser {test.__name__}: {words}"[:1500], flush=True)
                page.look()
    finally:
        page.close()


if __name__ == "__main__":
    sys.exit(main())
