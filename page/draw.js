// Pictures of DoorKey as SVG text. Probability is strength of colour for the agent and the action,
// area for the key, and height for the return.
//
// Coordinates are MiniGrid's: the room is columns and rows 1 to 4, and (1, 1) its upper left cell.
// The ring around it holds four triangles, one for each action, on the side that it goes to.

"use strict";

const MOVES = [[1, 0], [0, 1], [-1, 0], [0, -1]];  // right, down, left, up: (x, y), y is down
const FAINT = 0.004;  // what is less probable is not drawn
const xy = cell => [1 + Math.floor(cell / 4), 1 + cell % 4];  // cells count column by column

const ROOM = '<rect class="floor" x="1" y="1" width="4" height="4" rx=".12"/>'
  + '<rect class="wall" x="3" y="2" width="1" height="3"/>'
  + '<path class="fixed" d="M3.5 1.1V1.9M4.25 4.8V4.2L4.7 4.36L4.25 4.52"/>';  // door and flag

function square([x, y], opacity) {
  return `<rect class="agent" x="${x}" y="${y}" width="1" height="1" opacity="${opacity}"/>`;
}

function disc([x, y], r, kind = "") {
  return `<circle class="agent ${kind}" cx="${x + 0.5}" cy="${y + 0.5}" r="${r}"/>`;
}

function diamond([x, y], r, kind = "") {
  const [a, b] = [x + 0.5, y + 0.5], corners = [[a - r, b], [a, b - r], [a + r, b], [a, b + r]];
  return `<path class="key ${kind}" d="M${corners.join("L")}Z"/>`;
}

function triangle(action, kind = "", opacity = 1) {
  const [x, y] = MOVES[action], [a, b] = [3 + 2.15 * x, 3 + 2.15 * y];
  const corners = `M${a + 0.6 * y} ${b + 0.6 * x}L${a - 0.6 * y} ${b - 0.6 * x}`;
  const tip = `L${a + 0.42 * x} ${b + 0.42 * y}Z`;
  return `<path class="act ${kind}" opacity="${opacity}" d="${corners}${tip}"/>`;
}

function bars(probabilities) {  // of the classes of return_to_go, from left to right
  const bar = (p, i) => p < FAINT ? "" : `<rect class="bar" x="${1.03 + i * 4 / 17}"
    y="${6.5 - 0.75 * p}" width=".18" height="${0.75 * p}"/>`;
  return '<path class="axis" d="M1 6.5H5"/>' + [...probabilities].map(bar).join("");
}

// One timestep. value: {factor: class}; known: {factor: whether it is seen, or filled in};
// answer: {factor: probabilities} of what is not, or null: then the truth is drawn in outline.
function picture(value, known, answer) {
  const parts = [ROOM], likely = name => known[name] ? [] : [...answer?.[name] ?? []];
  likely("agent_pos").forEach((p, cell) => {
    if (p > FAINT) parts.push(square(xy(cell), p ** 0.7));
  });
  likely("key_pos").forEach((p, cell) => {
    if (p > FAINT) parts.push(diamond(xy(cell), 0.44 * Math.sqrt(p), "likely"));
  });
  likely("action").forEach((p, action) => parts.push(triangle(action, "", 0.06 + 0.94 * p)));
  const mark = (name, draw) => {
    if (known[name]) parts.push(draw(""));
    else if (!answer) parts.push(draw("truth"));
  };
  mark("agent_pos", kind => disc(xy(value.agent_pos), 0.36, kind));
  mark("key_pos", kind => diamond(xy(value.key_pos), 0.27, kind));
  mark("action", kind => triangle(value.action, kind));
  if (answer?.return_to_go) {
    const certain = Array.from({ length: 17 }, (_, i) => Number(i === value.return_to_go));
    parts.push(bars(known.return_to_go ? certain : answer.return_to_go));
  }
  return parts.join("");
}

// The way through cells; a little aside at each step, so that ways back do not hide ways there.
function way(cells, kind) {
  const points = cells.map((cell, i) => xy(cell).map(c => c + 0.5 + 0.025 * (i - 5)).join(" "));
  return points.length ? `<path class="way ${kind}" d="M${points.join("L")}"/>` : "";
}
