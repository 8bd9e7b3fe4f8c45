// The tab of Maze2D: a ball, a goal, and the model that drives the one to the other.
//
// As in rollout.py, a window of the last T timesteps slides along. At each step the model is shown
// a part of it, and asked for the action now. Read model.js and particle.js first.

"use strict";

const STEPS = 400;  // at most, of 0.01 s; episodes of the data have 200
const MODES = {  // what is shown of a step so long ago: its place, its action
  "places": ago => [true, false],
  "places and actions": ago => [true, ago > 0],
  "only where it is": ago => [ago === 0, false],
};
const ride = {
  start: [1, 1], goal: [6, 5],  // in metres
  path: [],  // [{ position, velocity, action }] of each step so far; that of now has no action yet
  t: 0,  // the step looked at
  mode: "",  // one of MODES, if it is one
  see: {},  // {place, action: [T] booleans}: what is shown of now, of the step before, ...
  run: 0,  // counts up when something begins: a ride that is under way then stops
};
let driver, walls;  // the model; [x][y] of 0 and 1

const distance = position => Math.hypot(...position.map((x, i) => x - ride.goal[i]));
const inNumbers = (x, digits) => [...x].map(v => minus(v, digits)).join(", ");

// The window at step t, of which i is the number of t in it. In the first steps of an episode it
// holds what is yet to come as well.
function windowAt(t) {
  const T = driver.config.context, first = Math.max(0, t - T + 1);
  const steps = range(T).map(i => ride.path[first + i] ?? {});
  const shown = what => range(T).map(i => first + i <= t && ride.see[what][t - first - i]);
  const [place, action, nothing] = [shown("place"), shown("action"), steps.map(() => false)];
  const values = { position: steps.map(step => step.position), goal: steps.map(() => ride.goal),
    action: steps.map(step => step.action) };
  const see = { position: place, goal: place, action, return_to_go: nothing };
  return { i: t - first, steps, see, answer: driver.answer(values, see) };
}

// ---- what one can do ----------------------------------------------------------------------------

function restart() {
  Object.assign(ride, { path: [{ position: ride.start, velocity: [0, 0] }], t: 0 });
  find("report").textContent = "";
  updateMaze();
  return ++ride.run;
}

async function drive() {
  const run = restart();
  for (let t = 0; t < STEPS && !arrived(ride.path[t]); t++) {
    const { i, answer } = windowAt(t), now = ride.path[t];
    now.action = [...answer.action[i]].map(x => clamp(x, -1, 1));
    ride.path.push(step(now, now.action, walls));
    ride.t = t + 1;
    if (t % 2 === 0) continue;
    updateMaze();
    await pause(8);
    if (run !== ride.run) return;
  }
  updateMaze();
  const [from, to] = [ride.start, ride.path.at(-1).position].map(x => distance(x).toFixed(2));
  const seconds = ((ride.path.length - 1) / 100).toFixed(2);
  find("report").textContent = `It came from ${from} m to ${to} m from the goal in ${seconds} s.`;
}

const arrived = ({ position, velocity }) => distance(position) + Math.hypot(...velocity) < 0.1;

// Another start or goal, unless there is a wall. The ball keeps clear of walls; a goal is where the
// data have theirs, at (i, j).
function put(what, position) {
  const cell = position.map(x => Math.round(x - MIDDLE));
  if (walls[cell[0]]?.[cell[1]] !== 0) return;
  const inside = (x, i) => clamp(x, cell[i] + MIDDLE - 0.4, cell[i] + MIDDLE + 0.4);
  ride[what] = what === "goal" ? cell : position.map(inside);
  restart();
}

function setMode(mode) {
  const both = range(driver.config.context).map(MODES[mode]);
  ride.see = { place: both.map(([place]) => place), action: both.map(([, action]) => action) };
  ride.mode = mode;
  updateMaze();
}

// ---- what is to be seen -------------------------------------------------------------------------

const point = ([x, y]) => `${x.toFixed(4)} ${y.toFixed(4)}`;
const trail = () => ride.path.map(step => point(step.position)).join(" ");
const ball = ([x, y], r, kind) => `<circle class="agent ${kind}" cx="${x}" cy="${y}" r="${r}"/>`;

function arrow(from, action, length, kind = "") {
  const to = from.map((x, i) => x + length * clamp(action[i], -1, 1));
  return `<path class="push ${kind}" d="M${point(from)}L${point(to)}"/>`;
}

function updateMaze() {
  const begin = performance.now(), { i, steps, see, answer } = windowAt(ride.t);
  const ms = Math.round(performance.now() - begin), { position } = ride.path[ride.t];
  find("trail").setAttribute("points", trail());
  find("ball").innerHTML = arrow(position, answer.action[i], 0.6) + ball(position, RADIUS, "");
  for (const handle of document.querySelectorAll(".handle")) {
    const place = ride[handle.dataset.what];
    handle.setAttribute("transform", `translate(${place})`);
    handle.ariaValueNow = place[0];
    handle.ariaValueText = `${inNumbers(place, 1)} metres`;
  }
  find("moment").max = ride.path.length - 1;
  find("moment").value = ride.t;
  find("clock").textContent = `${(ride.t / 100).toFixed(2)} s`;
  find("answer").textContent = `It pushes (${inNumbers(answer.action[i], 2)}), `
    + `${distance(position).toFixed(2)} m from the goal. Answered in ${ms} ms.`;
  for (const entry of find("window").querySelectorAll("button")) {
    const { what, ago } = entry.dataset, at = i - ago;
    entry.ariaPressed = ride.see[what][ago];
    entry.textContent = at < 0 ? "·" : !ride.see[what][ago] ? "?"
      : inNumbers(steps[at][what === "place" ? "position" : "action"], 2);
  }
  for (const button of find("modes").children) {
    button.ariaPressed = button.dataset.mode === ride.mode;
  }
  updateNear(steps, see, answer);
}

// The window from close up: what is seen and, in outline or pale, what the model says of the rest.
function updateNear(steps, see, answer) {
  const said = name => steps.map((step, i) => see[name][i] ? step[name] : [...answer[name][i]]);
  const places = said("position"), actions = said("action");
  const ends = [0, 1].map(axis => places.map(place => place[axis]).sort((a, b) => a - b))
    .map(sorted => [sorted[0], sorted.at(-1)]);  // the least and the most on each axis
  const half = 0.02 + 0.5 * Math.max(...ends.map(([low, high]) => high - low));
  const [x, y] = ends.map(([low, high]) => (low + high) / 2);
  find("near").setAttribute("viewBox", [x - 2 * half, -y - half, 4 * half, 2 * half]);
  find("near").innerHTML = `<g transform="scale(1,-1)" style="--thin: ${half / 25}px">
    <polyline class="way" points="${trail()}"/>` + places.map((place, i) =>
      arrow(place, actions[i], half / 2, see.action[i] ? "" : "guess")
      + ball(place, half / 14, see.position[i] ? "" : "guess")).join("") + "</g>";
}

// ---- the start ----------------------------------------------------------------------------------

function makeField() {
  const edge = 0.5 - MIDDLE, [width, height] = [walls.length, walls[0].length];
  const square = (x, y) => `<rect class="wall" x="${x}" y="${y}" width="1.01" height="1.01"/>`;
  const cells = walls.flatMap((line, i) =>
    line.map((wall, j) => wall ? square(i - edge, j - edge) : ""));
  const star = range(10).map(n => [0.2 * n * Math.PI, n % 2 ? 0.11 : 0.26])
    .map(([angle, r]) => point([r * Math.sin(angle), r * Math.cos(angle)]));
  const handle = (what, drawn) => `<g class="handle" data-what="${what}" tabindex="0" role="slider"
    aria-label="${what}" aria-valuemin="0" aria-valuemax="${width}">
    <circle class="grip" r=".4"/>${drawn}</g>`;
  find("field").setAttribute("viewBox", [-edge, edge - height, width, height]);
  find("field").innerHTML = `<g transform="scale(1,-1)">
    <rect class="floor" x="${-edge}" y="${-edge}" width="${width}" height="${height}"/>
    ${cells.join("")}<polyline id="trail" class="way"/>
    ${handle("goal", `<path class="key" d="M${star.join("L")}Z"/>`)}
    ${handle("start", ball([0, 0], 0.17, "truth"))}<g id="ball"></g></g>`;
}

function makeWindow() {
  const ago = range(driver.config.context).reverse(), times = ago.map(n => n ? `−${n}` : "now");
  const entry = (what, kind, n, i) => `<button type="button" class="entry ${kind}"
    data-what="${what}" data-ago="${n}" aria-label="${what} at ${times[i]}"></button>`;
  find("window").style.gridTemplateColumns = `3.5rem repeat(${ago.length}, minmax(0, 1fr))`;
  find("window").innerHTML = `<span></span>${times.map(time => `<span>${time}</span>`).join("")}
    <span>place</span>${ago.map((n, i) => entry("place", "agent_pos", n, i)).join("")}
    <span>action</span>${ago.map((n, i) => entry("action", "action", n, i)).join("")}`;
  find("window").lastElementChild.disabled = true;  // the action now is what is asked for
  find("modes").innerHTML = Object.keys(MODES).map(mode =>
    `<button type="button" data-mode="${mode}">${mode}</button>`).join("");
}

function listenToMaze() {
  const field = find("field"), what = event => event.target.closest(".handle")?.dataset.what;
  const place = ({ clientX, clientY }) => {
    const { x, y } = new DOMPoint(clientX, clientY).matrixTransform(field.getScreenCTM().inverse());
    return [x, -y];
  };
  let held = null;  // what is being dragged
  field.onpointerdown = event => {
    field.setPointerCapture(event.pointerId);
    held = what(event) ?? "start";
    if (!what(event)) put(held, place(event));
  };
  field.onpointermove = event => held && put(held, place(event));
  field.onpointerup = event => {
    if (held) drive();
    held = null;
  };
  field.onkeydown = event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (!step[event.key]) return;
    event.preventDefault();
    const size = what(event) === "goal" ? 1 : 0.2;
    put(what(event), ride[what(event)].map((x, i) => x + size * step[event.key][i]));
  };
  find("window").onclick = ({ target: { dataset } }) => {
    if (!dataset.what) return;
    ride.see[dataset.what][dataset.ago] = !ride.see[dataset.what][dataset.ago];
    ride.mode = "";
    updateMaze();
  };
  find("modes").onclick = ({ target }) => target.dataset.mode && setMode(target.dataset.mode);
  find("moment").oninput = event => {
    ride.t = Number(event.target.value);
    updateMaze();
  };
  find("drive").onclick = drive;
}

// Only when its tab is opened: a page is faster with one model to unpack.
function startMaze() {
  if (driver) return;
  driver = new Model(DATA.maze.model, find("driver-weights").textContent);
  walls = DATA.maze.walls;
  makeField();
  makeWindow();
  listenToMaze();
  ride.path = [{ position: ride.start, velocity: [0, 0] }];
  setMode("places");
}
