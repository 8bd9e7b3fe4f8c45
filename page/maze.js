// The tab of Maze2D: a ball, a goal, and the model that drives the one to the other.
//
// As in rollout.py, a window of the last T timesteps slides along. At each step the model is shown
// a part of it, and asked for the action now. Read model.js and particle.js first.

"use strict";

const STEPS = 400;  // at most, of 0.01 s; episodes of the data have 200
const MODES = {  // what is shown of a step so long ago: its position, its action
  "positions": ago => [true, false],
  "positions and actions": ago => [true, ago > 0],
  "only where it is": ago => [ago === 0, false],
};
const ride = {
  start: [1, 1], goal: [6, 5],  // in metres
  path: [],  // [{ position, velocity, action }] of each step so far; that of now has no action yet
  t: 0,  // the step looked at
  mode: "",  // one of MODES, if it is one
  see: {},  // {position, action: [T] booleans}: what is shown of now, of the step before, ...
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
  const [position, action] = [shown("position"), shown("action")];
  const see = { position, goal: position, action, return_to_go: steps.map(() => false) };
  const values = { position: steps.map(step => step.position), goal: steps.map(() => ride.goal),
    action: steps.map(step => step.action) };
  return { i: t - first, steps, see, answer: driver.answer(values, see) };
}

// ---- what one can do ----------------------------------------------------------------------------

function restart() {
  Object.assign(ride, { path: [{ position: ride.start, velocity: [0, 0] }], t: 0 });
  find("report").textContent = "";
  find("answer").ariaLive = "polite";
  updateMaze();
  return ++ride.run;
}

async function drive() {
  const run = restart();
  find("answer").ariaLive = "off";  // a screen reader is spared each step, and told the result
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

// Another start or goal, unless there is a wall: it says which. The ball keeps clear of walls; a
// goal is where the data have theirs, at (i, j).
function put(what, position) {
  const cell = position.map(x => Math.round(x - MIDDLE)), free = walls[cell[0]]?.[cell[1]] === 0;
  const inside = (x, i) => clamp(x, cell[i] + MIDDLE - 0.4, cell[i] + MIDDLE + 0.4);
  if (free) {
    ride[what] = what === "goal" ? cell : position.map(inside);
    restart();
  } else find("report").textContent = `There is a wall: the ${what} stays where it is.`;
  return free;
}

function setMode(mode) {
  const both = range(driver.config.context).map(MODES[mode]);
  ride.see = { position: both.map(shown => shown[0]), action: both.map(shown => shown[1]) };
  ride.mode = mode;
  updateMaze();
}

// ---- what is to be seen -------------------------------------------------------------------------

const point = ([x, y]) => `${x.toFixed(4)} ${y.toFixed(4)}`;
const ball = ([x, y], r, kind) => `<circle class="agent ${kind}" cx="${x}" cy="${y}" r="${r}"/>`;

function updateMaze() {
  const { i, steps, see, answer } = windowAt(ride.t), { position } = ride.path[ride.t];
  const push = answer.action[i], to = position.map((x, axis) => x + 0.6 * clamp(push[axis], -1, 1));
  const guessed = range(i + 1).filter(k => !see.position[k]);
  find("trail").setAttribute("points", ride.path.map(step => point(step.position)).join(" "));
  find("ball").innerHTML = `<path class="push" d="M${point(position)}L${point(to)}"/>`
    + ball(position, RADIUS, "")
    + guessed.map(k => ball(answer.position[k], RADIUS, "guess")).join("");
  for (const handle of document.querySelectorAll(".handle")) {
    const place = ride[handle.dataset.what];
    handle.setAttribute("transform", `translate(${place})`);
    handle.ariaValueNow = place[0];
    handle.ariaValueText = `${inNumbers(place, 1)} metres`;
  }
  find("moment").max = ride.path.length - 1;
  find("moment").value = ride.t;
  find("clock").textContent = `${(ride.t / 100).toFixed(2)} s`;
  find("answer").textContent = `It pushes (${inNumbers(push, 2)}), `
    + `${distance(position).toFixed(2)} m from the goal.`
    + (guessed.length > i ? " It is shown no position, and so no goal either." : "");
  for (const entry of find("window").querySelectorAll("button")) {
    const { what, ago } = entry.dataset, at = i - ago, seen = ride.see[what][ago];
    const said = at < 0 ? "none" : inNumbers(seen ? steps[at][what] : answer[what][at], 2);
    entry.ariaPressed = seen;
    entry.ariaLabel = `${what} at ${-ago || "now"}: ${seen ? "" : "hidden, perhaps "}${said}`;
    entry.textContent = said;
  }
  for (const button of find("modes").children) {
    button.ariaPressed = button.dataset.mode === ride.mode;
  }
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
  const entries = what => ago.map(n => `<button type="button" class="entry ${what}"
    data-what="${what}" data-ago="${n}"></button>`).join("");
  find("window").style.gridTemplateColumns = `4rem repeat(${ago.length}, minmax(0, 1fr))`;
  find("window").innerHTML = `<span></span>${times.map(time => `<span>${time}</span>`).join("")}
    <span>position</span>${entries("position")}<span>action</span>${entries("action")}`;
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
  let held = null, free = true;  // what is being dragged, and whether it is in no wall
  field.onpointerdown = event => {
    field.setPointerCapture(event.pointerId);
    held = what(event) ?? "start";
    free = Boolean(what(event)) || put(held, place(event));
  };
  field.onpointermove = event => held && (free = put(held, place(event)));
  field.onpointerup = field.onpointercancel = () => {
    if (held && free) drive();
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
  const free = walls.flatMap((line, i) => line.flatMap((wall, j) => wall ? [] : [[i, j]]));
  if (walls[ride.goal[0]]?.[ride.goal[1]] !== 0) ride.goal = free.at(-1);  // of another maze
  makeField();
  makeWindow();
  listenToMaze();
  ride.path = [{ position: ride.start, velocity: [0, 0] }];
  setMode("positions");
}
