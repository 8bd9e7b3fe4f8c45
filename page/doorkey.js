// The tab of DoorKey: what is hidden, what both answer, and what one can do.
//
// There is one state. Whatever happens changes it and calls update(), which asks the model and the
// exact posterior, and draws everything anew. Read model.js and posterior.js first.

"use strict";

const model = new Model(DATA.model, find("model-weights").textContent);
const FACTORS = model.factors, NAMES = FACTORS.map(f => f.name), T = model.config.context;
const exact = new Posterior(DATA.world, FACTORS);
const GROUPS = ["STATE", "ACTION", "RETURN"];
const TITLES = { agent_pos: "agent", key_pos: "key", action: "action", return_to_go: "return" };
// What hides together: a model that never met half a state is not shown half of one.
const UNITS = DATA.single ? NAMES.map(name => [name])
  : GROUPS.map(group => FACTORS.filter(f => f.group === group).map(f => f.name));

const state = {
  values: {},  // {factor: [T] classes} of the trajectory, hidden or not
  see: {},  // {factor: [T] booleans}: what is shown to both
  ask: {},  // {factor: [T] booleans}: the hidden entries that are asked for
  drawn: {},  // {factor: [T] classes, or null}: what was filled in
  task: null,  // the task, if it is one of the paper's
  t: 0,  // the timestep of the task, and the one looked at
  end: null,  // where acting led, after the last timestep
  acting: false,  // then the return is a wish, which may turn out impossible
  run: 0,  // counts up when something begins: what still is being drawn then stops
};
let shown = {};  // what both say to the present state: see answers()
let seed = 1;  // of the next random draw

// ---- numbers, and words for them ---------------------------------------------------------------

const each = make => Object.fromEntries(NAMES.map(name => [name, make(name)]));
const row = value => Array(T).fill(value);
const isDrawn = value => value !== null;
const filledIn = () => NAMES.some(name => state.drawn[name].some(isDrawn));

function inShort(name, value) {
  if (name === "action") return "→↓←↑"[value];
  return name === "return_to_go" ? signed(value - exact.offset) : `(${xy(value).join(", ")})`;
}

function inWords(name, value) {
  if (name === "action") return ["right", "down", "left", "up"][value];
  if (name === "return_to_go") return signed(value - exact.offset);
  const [x, y] = xy(value), wall = x === DATA.world.wall && y > 1;
  return `column ${x}, row ${y}${wall ? " (a wall)" : ""}`;
}

// The two most probable classes, such as ["→ 0.51", "↓ 0.26"].
function likeliest(name, p, say) {
  return !p ? ["–"] : [...p.keys()].sort((i, j) => p[j] - p[i]).slice(0, 2)
    .filter(i => p[i] > FAINT).map(i => `${say(name, i)} ${p[i].toFixed(2)}`);
}

function draw(probabilities, random) {
  let left = random() * sum(probabilities);
  const value = probabilities.findIndex(p => (left -= p) < 0);
  return value < 0 ? probabilities.indexOf(Math.max(...probabilities)) : value;
}

// ---- the answers -------------------------------------------------------------------------------

// Both answers to all that is seen or filled in. exact is null where that cannot happen.
function answers() {
  const see = each(name => state.see[name].map((s, t) => s || isDrawn(state.drawn[name][t])));
  const values = each(name => state.values[name].map((value, t) =>
    state.see[name][t] ? value : state.drawn[name][t] ?? value));
  const both = { values, see, model: model.answer(values, see), exact: exact.answer(values, see) };
  both.missed = state.acting && !both.exact;  // what was wished for is out of reach
  both.clash = both.exact || both.missed ? [] : exact.conflict(values, see);
  if (both.missed) both.exact = exact.answer(values, { ...see, return_to_go: row(false) });
  return both;
}

// The nats that the model loses on an entry: KL(exact, model). null if it is not asked for.
function gap(name, t) {
  const p = shown.exact?.[name][t], q = shown.model[name]?.[t];
  if (!p || !q || !state.ask[name][t] || shown.see[name][t] || shown.missed) return null;
  return sum([...p].map((p, i) => p > 0 ? p * Math.log(p / q[i]) : 0));
}

// ---- what one can do: each changes the state, and calls update() -------------------------------

// Something new begins: what was filled in goes, and what is under way stops.
function begin() {
  Object.assign(state, { drawn: each(() => row(null)), acting: false, end: null });
  tell("");
  find("say").ariaLive = "polite";
  return ++state.run;
}

// Words about what was drawn.
function tell(text, bad = false) {
  find("result").textContent = text;
  find("result").className = bad ? "bad" : "";
}

function setTask(task, t = state.t) {
  begin();
  const of = mask => each(name => {
    const group = GROUPS.indexOf(FACTORS.find(f => f.name === name).group);
    return DATA.masks[task][mask][t].map(here => here[group] === "1");
  });
  Object.assign(state, { task, t, see: of("see"), ask: of("predict") });
  update();
}

// A mask of one's own. It asks for all that it hides, if the model can answer that.
function setMask(see) {
  begin();
  const ask = each(name => see[name].map(seen => !seen && DATA.model.predicted.includes(name)));
  Object.assign(state, { task: null, see, ask });
  update();
}

function setRandom() {
  const random = generator(seed++), p = random(), first = random() < 0.5;
  const some = () => row().map(() => random() >= p), states = some(), actions = some();
  const see = { STATE: states, ACTION: actions, RETURN: row().map((_, t) => first && t === 0) };
  setMask(Object.fromEntries(FACTORS.map(f => [f.name, [...see[f.group]]])));
}

function setAll(seen) {
  setMask(each(name => row(seen && name !== "return_to_go")));
}

function show(name, t, seen = !state.see[name][t]) {
  for (const mate of UNITS.find(unit => unit.includes(name))) state.see[mate][t] = seen;
  setMask(state.see);
}

function setValue(name, t, value) {
  state.values[name][t] = value;
  state.t = t;
  show(name, t, true);
}

// The time of the task; of a mask of one's own, or beside a sample, only what is looked at.
function setTime(t) {
  if (state.task && !filledIn()) return setTask(state.task, t);
  state.t = t;
  update();
}

function setExample(number) {
  state.values = structuredClone(DATA.examples[number]);
  begin();
  update();
}

// A joint sample: hidden states and actions one after another, each given those before it.
async function fillIn(who) {
  const run = begin(), random = generator(seed++);
  update();
  find("say").ariaLive = "off";  // a screen reader is spared each step, and told the result
  if (!shown.exact) return tell("What is seen cannot happen: there is nothing to draw.", true);
  const before = exact.likelihood(shown.values, shown.see);
  let log = 0;
  const units = who === "exact" ? NAMES.map(name => [name]) : UNITS;  // its entries fit together
  for (let t = 0; t < T; t++) {
    for (const unit of units.filter(unit => unit[0] !== "return_to_go")) {
      const hidden = unit.filter(name => !state.see[name][t]), answer = shown[who];
      if (!hidden.length) continue;
      for (const name of hidden) {
        const value = state.drawn[name][t] = draw(answer[name][t], random);
        log += Math.log(answer[name][t][value]);
      }
      update();
      await pause(70);
      if (run !== state.run) return;
    }
  }
  const truth = exact.likelihood(shown.values, shown.see) - before;
  if (truth === -Infinity) return tell("The model drew what cannot happen: see above.", true);
  tell(`Its log-probability: ${minus(log, 1)} nats as drawn, ${minus(truth, 1)} exactly.`);
}

// Ask for a return at t = 0. It chooses the actions, and the world answers with the states.
async function act(who, target) {
  setTask("reward_conditioned", 0);
  const { agent_pos: [agent], key_pos: [key] } = state.values;
  let node = exact.nodes.find(n => n.agent === agent && n.key === key && n.prior > 0);
  if (!node) return tell("No episode begins so: agent and key lie left of the wall, apart.", true);
  const run = begin(), random = generator(seed++), start = node.distance;
  find("say").ariaLive = "off";
  state.acting = true;
  state.values.return_to_go[0] = target + exact.offset;
  for (let t = 0; t < T; t++) {
    state.t = t;
    state.drawn.agent_pos[t] = node.agent;
    state.drawn.key_pos[t] = node.key;
    update();
    await pause(250);
    if (run !== state.run) return;
    state.drawn.action[t] = draw(shown[who].action[t], random);
    node = exact.nodes[node.next[state.drawn.action[t]]];
  }
  state.end = node.agent;
  update();
  tell(`Asked for ${signed(target)}, it earned ${signed(start - node.distance)}.`);
}

// ---- what is to be seen ------------------------------------------------------------------------

function update() {
  shown = answers();
  const gaps = NAMES.map(name => row().map((_, t) => gap(name, t)));  // (factors, T)
  document.querySelectorAll(".step").forEach((step, t) => updateStep(step, t, gaps));
  updateControls();
  updateNumbers();
  updatePath();
  updateWords(gaps.flat().filter(isDrawn));
}

// One timestep of the strip: three pictures, an entry for each factor, and the gap.
function updateStep(step, t, gaps) {
  const value = each(name => shown.values[name][t]), known = each(name => shown.see[name][t]);
  const at = answer => answer && each(name => answer[name]?.[t]);
  const part = kind => step.querySelector(`.${kind}`);
  part("trajectory").innerHTML = picture(value, known, null);
  part("model").innerHTML = picture(value, known, at(shown.model));
  part("exact").innerHTML = picture(value, known, at(shown.exact) ?? {});
  const here = gaps.map(row => row[t]).filter(isDrawn);
  part("gap").textContent = here.length ? sum(here).toFixed(3) : "";
  part("when").ariaCurrent = t === state.t ? "step" : null;
  for (const entry of step.querySelectorAll(".entry")) {
    const { name } = entry.dataset, clash = shown.clash.some(([n, s]) => n === name && s === t);
    const says = answer => likeliest(name, answer?.[name]?.[t], inWords).join(" or ");
    entry.ariaPressed = state.see[name][t];
    entry.ariaLabel = `${TITLES[name]} at t = ${t}: `
      + (known[name] ? inWords(name, value[name]) : "hidden");
    entry.ariaDescription = known[name] ? ""
      : `the model says ${says(shown.model)}; exactly ${says(shown.exact)}`;
    entry.classList.toggle("drawn", known[name] && !state.see[name][t]);
    entry.classList.toggle("clash", clash);
    entry.textContent = known[name] ? inShort(name, value[name]) : state.ask[name][t] ? "?" : "·";
  }
}

function updateControls() {
  find("time").value = state.t;
  find("now").textContent = `t = ${state.t}`;
  find("edit-title").textContent = `Change t = ${state.t}`;
  find("numbers-title").textContent = `The numbers at t = ${state.t}`;
  for (const button of find("tasks").children) {
    button.ariaPressed = button.dataset.task === state.task;
  }
  for (const name of NAMES) find(`value-${name}`).value = shown.values[name][state.t];
}

function updateNumbers() {
  const t = state.t, best = (name, answer) => likeliest(name, answer?.[name]?.[t], inShort)
    .map(text => `<span>${text}</span>`).join("");
  find("numbers").tBodies[0].innerHTML = NAMES.map(name => {
    const how = state.see[name][t] ? "seen" : "drawn";
    const cells = shown.see[name][t] ? [`${inShort(name, shown.values[name][t])} ${how}`, "", ""]
      : [best(name, shown.model), best(name, shown.exact), gap(name, t)?.toFixed(3) ?? ""];
    return `<tr><th scope="row">${TITLES[name]}</th><td>${cells.join("</td><td>")}</td></tr>`;
  }).join("");
}

function updatePath() {
  const { agent_pos, key_pos } = shown.values, see = shown.see;
  const filled = state.drawn.agent_pos.some(isDrawn);
  const cells = agent_pos.filter((_, t) => see.agent_pos[t]);
  if (state.end !== null) cells.push(state.end);
  find("path").innerHTML = ROOM + way(state.values.agent_pos, "before")
    + (filled ? way(cells, "") : "")
    + diamond(xy(key_pos[0]), 0.2, see.key_pos[0] ? "" : "truth")
    + disc(xy(filled ? cells.at(-1) : agent_pos[0]), 0.26, cells.length ? "" : "truth");
}

function updateWords(gaps) {
  const clash = shown.clash.map(([name, t]) =>
    `${TITLES[name]} at t = ${t}, ${inWords(name, shown.values[name][t])}`);
  let text = filledIn() ? "What was asked for is filled in."
    : "Nothing is asked for: hide something.";
  if (gaps.length) {
    const asked = gaps.length === 1 ? "One entry is" : `${gaps.length} entries are`;
    const mean = (sum(gaps) / gaps.length).toFixed(3);
    text = `${asked} asked for. The model is ${mean} nats an entry from the exact posterior.`;
  }
  if (shown.missed) text = "That return is out of reach by now. Exact inference overlooks it.";
  if (clash.length === 1) text = `This cannot happen in DoorKey: ${clash[0]}.`;
  if (clash.length > 1) text = `These cannot all be true: ${clash.join("; ")}.`;
  find("say").textContent = text;
  find("say").className = clash.length ? "bad" : "";
}

// ---- the start: make what is drawn into, and listen --------------------------------------------

function makeStrip() {
  const labels = NAMES.map(name => `<span class="small">${TITLES[name]}</span>`).join("");
  const entry = (name, t) => `<button type="button" class="entry ${name}" tabindex="-1"
    data-name="${name}" data-t="${t}" data-title="${TITLES[name]}"></button>`;
  const panel = (kind, height) =>
    `<svg class="panel ${kind}" viewBox=".4 .4 5.2 ${height}" aria-hidden="true"></svg>`;
  const height = DATA.model.predicted.includes("return_to_go") ? 6.2 : 5.2;  // with bars below
  find("strip").innerHTML = `<div class="labels"><span class="small"></span>
    <span class="trajectory">trajectory</span>${labels}<span class="model">model</span>
    <span class="exact">exact</span><span class="small">gap, nats</span></div>`
    + range(T).map(t => `<div class="step" data-t="${t}">
      <button type="button" class="when" tabindex="-1">t = ${t}</button>
      ${panel("trajectory", 5.2)}
      <div class="entries">${NAMES.map(name => entry(name, t)).join("")}</div>
      ${panel("model", height)}${panel("exact", 6.2)}<span class="gap"></span></div>`).join("");
  document.querySelector(".entry").tabIndex = 0;  // one stop for Tab: arrow keys lead on
}

function makeControls() {
  DATA.examples.forEach((_, i) => find("example").add(new Option(`number ${i + 1}`, i)));
  for (let n = -exact.offset; n <= 10; n++) find("target").add(new Option(signed(n), n));
  find("target").value = 6;
  find("fields").innerHTML = NAMES.map(name => `<label class="field">${TITLES[name]}
    <select id="value-${name}"></select></label>`).join("");
  for (const { name, size } of FACTORS) {
    const field = find(`value-${name}`);
    range(size).forEach(i => field.add(new Option(inWords(name, i), i)));
    field.onchange = () => setValue(name, state.t, Number(field.value));
  }
  find("tasks").onclick = ({ target }) => target.dataset.task && setTask(target.dataset.task);
  find("time").oninput = event => setTime(Number(event.target.value));
  find("example").onchange = event => setExample(event.target.value);
  find("random").onclick = setRandom;
  find("hide").onclick = () => setAll(false);
  find("show").onclick = () => setAll(true);
  find("fill").onclick = () => fillIn(find("who").value);
  find("act").onclick = () => act(find("who").value, Number(find("target").value));
}

// A click on a grid moves the agent or the key; on the ring around it, it chooses the action.
function clickGrid(event, t) {
  const { left, top, width } = event.target.closest("svg").getBoundingClientRect();
  const [x, y] = [event.clientX - left, event.clientY - top].map(v => 0.4 + 5.2 * v / width);
  if (Math.min(x, y) < 1 || Math.max(x, y) >= 5) {
    const side = Math.abs(x - 3) > Math.abs(y - 3) ? (x > 3 ? 0 : 2) : (y > 3 ? 1 : 3);
    return setValue("action", t, side);
  }
  const moves = document.querySelector("[name=moves]:checked").value;
  setValue(moves, t, 4 * Math.floor(x - 1) + Math.floor(y - 1));
}

// An arrow key on an entry: the next one in its direction.
function goOn(event, { name, t }) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (!step[event.key]) return;
  event.preventDefault();
  const [down, right] = step[event.key], to = NAMES[NAMES.indexOf(name) + down] ?? name;
  const next = document.querySelector(`[data-name=${to}][data-t="${Number(t) + right}"]`);
  if (!next) return;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
}

function listen() {
  const strip = find("strip"), entry = event => event.target.closest(".entry");
  const put = ({ dataset: { name, t } }, seen) => {
    if (state.see[name][t] !== seen) show(name, t, seen);
  };
  let paint = null;  // the entry where a stroke of the mouse began, and whether it shows or hides
  strip.onclick = event => {
    const t = Number(event.target.closest(".step")?.dataset.t);
    if (entry(event)) show(entry(event).dataset.name, t);
    else if (event.target.closest(".when")) setTime(t);
    else if (event.target.closest("svg.trajectory")) clickGrid(event, t);
  };
  strip.onkeydown = event => entry(event) && goOn(event, entry(event).dataset);
  strip.onpointerdown = event => {
    const from = entry(event);
    paint = from && { from, seen: !state.see[from.dataset.name][from.dataset.t] };
  };
  document.addEventListener("pointerup", () => paint = null);
  strip.onpointerover = event => {
    if (!paint || event.buttons !== 1 || !entry(event) || entry(event) === paint.from) return;
    put(paint.from, paint.seen);
    put(entry(event), paint.seen);
  };
}

async function start() {
  makeStrip();
  makeControls();
  listen();
  state.values = structuredClone(DATA.examples[0]);  // how did it get from here to there?
  setMask(each(name => row().map((_, t) => name.endsWith("_pos") && (t === 0 || t === T - 1))));
  for (let i = 0; i < 8; i++) {  // a browser compiles what it has run a few times
    await pause(10);
    answers();
  }
}

start();
