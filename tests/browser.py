"""A real browser for the tests of the page: Chromium without a window, driven through a pipe.

It speaks the DevTools protocol: JSON messages, each ended by a zero byte. Nothing but the standard
library is needed.
"""

import base64
import json
import os
import shutil
import subprocess
import time

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-extensions --hide-scrollbars "
    "--disable-dev-shm-usage --disable-background-networking --disable-component-update "
    "--remote-debugging-pipe --allow-file-access-from-files"
).split()
PATIENCE = 60  # seconds to wait for an answer


class Browser:
    """with Browser(folder) as browser: browser.open(path); browser.run("1 + 1")"""

    def __init__(self, folder):
        self.number, self.unread, self.errors = 0, b"", []
        theirs_in, self.to = os.pipe()
        self.back, theirs_out = os.pipe()
        # the browser reads from file 3 and writes to file 4
        line = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        words = [PROGRAM, *FLAGS, f"--user-data-dir={folder}"]
        self.process = subprocess.Popen(
            ["bash", "-c", line, "browser", *words],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.session = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attach = {"targetId": target, "flatten": True}
        self.session = self.call("Target.attachToTarget", **attach)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Network.enable")
        self.call("Performance.enable", timeDomain="threadTicks")
        self.requests = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.to)  # it ends when nobody can speak to it any more
        os.close(self.back)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def message(self):
        """The next message, a dictionary."""
        os.set_blocking(self.back, False)
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.unread:
            try:
                some = os.read(self.back, 2**20)
                if not some:
                    raise EOFError("the browser has ended")
                self.unread += some
            except BlockingIOError:
                assert time.monotonic() < end, "the browser does not answer"
                time.sleep(0.001)
        text, _, self.unread = self.unread.partition(b"\0")
        return json.loads(text)

    def call(self, method, **params):
        """What the browser answers to a command. Meanwhile its events are noted."""
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if self.session:
            request["sessionId"] = self.session
        text = json.dumps(request).encode() + b"\0"
        while text:
            text = text[os.write(self.to, text[:60000]) :]
        while True:
            message = self.message()
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message.get('error')}"
                return message["result"]
            self.note(message)

    def note(self, message):
        if message.get("method") == "Runtime.exceptionThrown":
            details = message["params"]["exceptionDetails"]
            self.errors.append(details.get("exception", details).get("description", str(details)))
        if message.get("method") == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])

    def open(self, path):
        """Load a file, and wait until its scripts have run."""
        self.call("Page.navigate", url=f"file://{path}")
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, code):
        """The value of JavaScript in the page, a promise's too."""
        options = {"returnByValue": True, "awaitPromise": True, "userGesture": True}
        answer = self.call("Runtime.evaluate", expression=code, **options)
        details = answer.get("exceptionDetails")
        assert not details, details and details.get("exception", details).get("description")
        return answer["result"].get("value")

    def wait(self, condition):
        """Wait until JavaScript is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def click(self, selector, x=0.5, y=0.5):
        """Press and release the mouse on an element, by default on its middle."""
        box = self.run(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const b = e.getBoundingClientRect();"
            f" return [b.x, b.y, b.width, b.height]; }})(document.querySelector({selector!r}))"
        )
        place = {"x": box[0] + x * box[2], "y": box[1] + y * box[3]}
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            options = {"button": "none" if kind == "mouseMoved" else "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **place, **options)

    def key(self, name, text=None):
        """Press and release a key, such as Tab, ArrowRight or Space."""
        codes = {"Tab": 9, "Space": 32, "Enter": 13}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        key = {"key": " " if name == "Space" else name, "code": name}
        key["windowsVirtualKeyCode"] = codes[name]
        typed = {"text": " "} if name == "Space" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **key, **typed)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def drag(self, selector, *places):
        """Press the mouse on the middle of an element, move it through places, and let it go."""
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        first = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        kinds = ["mousePressed", *["mouseMoved"] * len(places), "mouseReleased"]
        for kind, (x, y) in zip(kinds, [first, *places, places[-1]]):
            held = {"buttons": 1} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def busy(self):
        """The milliseconds that the page's thread has worked since it was loaded.

        On a machine that is busy itself it lasts longer.
        """
        found = self.call("Performance.getMetrics")["metrics"]
        return 1000 * next(x["value"] for x in found if x["name"] == "TaskDuration")

    def look(self, width, height, dark=False, scale=1, calm=False):
        """Take another size, theme, or wish for less motion."""
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def picture(self, path, whole=True):
        """Save what is to be seen, or the whole page, as a PNG."""
        options = {"captureBeyondViewport": whole}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = size | {"scale": 1}
        data = self.call("Page.captureScreenshot", format="png", **options)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
