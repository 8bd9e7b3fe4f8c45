// What the tabs share: the data, the tabs themselves, and some small tools. doorkey.js and maze.js
// work alike: there is one state; whatever happens changes it, and draws everything anew.

"use strict";

const find = id => document.getElementById(id);
const DATA = JSON.parse(find("data").textContent);

const signed = n => (n > 0 ? "+" : n < 0 ? "−" : "") + Math.abs(n);
const minus = (n, digits) => n.toFixed(digits).replace("-", "−");

// Random numbers in [0, 1) that a seed repeats (mulberry32).
function generator(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let x = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    x = (x + Math.imul(x ^ (x >>> 7), 61 | x)) ^ x;
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

function pause(ms) {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  return new Promise(done => setTimeout(done, still ? 0 : ms));
}

function openTab(tab) {
  for (const one of find("tabs").children) {
    one.ariaSelected = one === tab;
    one.tabIndex = one === tab ? 0 : -1;
    find(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
  if (tab.id === "to-maze") startMaze();
}

find("tabs").onclick = event => event.target.id !== "tabs" && openTab(event.target);
find("tabs").onkeydown = ({ key, target }) => {
  if (key !== "ArrowRight" && key !== "ArrowLeft") return;
  const other = target.nextElementSibling ?? target.previousElementSibling;
  openTab(other);
  other.focus();
};
find("tabs").hidden = !DATA.maze;
addEventListener("load", () =>
  openTab(find(DATA.maze && location.hash === "#maze" ? "to-maze" : "to-doorkey")));
