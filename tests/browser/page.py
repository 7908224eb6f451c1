"""A report's page in headless Chromium: what the tests ask of it."""
import base64
import json
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service


class Page:
    """One browser. Every open() forgets what was logged before."""

    def __init__(self, browser, driver, downloads, scripts=True):
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                     "--disable-dev-shm-usage", "--force-device-scale-factor=1"):
            options.add_argument(flag)
        if not scripts:
            options.add_experimental_option(
                "prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service(driver), options=options)
        self.scripts = scripts
        self.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=downloads)
        self.look()

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def look(self, width=1440, height=900, scheme="light", motion="no-preference", media=""):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height,
                 deviceScaleFactor=1, mobile=False)
        self.cdp("Emulation.setEmulatedMedia", media=media, features=[
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "prefers-reduced-motion", "value": motion}])

    def open(self, path, state=""):
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get("file://" + path + ("#" + state if state else ""))
        if self.scripts:
            self.wait("document.documentElement.dataset.ready === 'yes'")

    def js(self, code, *arguments):
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not self.js("return " + condition):
            if time.monotonic() > end:
                raise AssertionError("never came true: " + condition + " " + str(self.errors()))
            time.sleep(0.05)

    def settle(self):
        """Two frames: a change was told and drawn."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 60)));")

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0]).textContent", selector)

    def hash(self):
        return self.js("return location.hash.slice(1)")

    def keys(self, selector, *names):
        """Focus an element and press keys, as a keyboard would."""
        self.js("document.querySelector(arguments[0]).focus()", selector)
        for name in names:
            for kind in ("keyDown", "keyUp"):
                self.cdp("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                         windowsVirtualKeyCode={"Enter": 13, "Escape": 27, "Tab": 9}.get(name, 0),
                         **({"text": name} if len(name) == 1 and kind == "keyDown" else {}))
            self.settle()

    def mouse(self, kind, x, y, **more):
        self.cdp("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x, y):
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)
        self.settle()

    def press(self, selector, index=0):
        """Click an element by script: what it does, not where it stands."""
        self.js("document.querySelectorAll(arguments[0])[arguments[1]].click()", selector, index)
        self.settle()

    def errors(self):
        return [e["message"] for e in self.driver.get_log("browser")]

    def requests(self):
        """Every address that was asked for since open(), but for the page itself, data: and blob:."""
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"].split("#")[0])
        return [u for u in asked if not u.startswith(("data:", "blob:"))]

    def shot(self, path):
        size = self.cdp("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.cdp("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        with open(path, "wb") as f:
            f.write(base64.b64decode(shot["data"]))

    def pdf(self):
        made = self.cdp("Page.printToPDF", paperWidth=8.27, paperHeight=11.69,
                        preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(made["data"])

    def close(self):
        self.driver.quit()
