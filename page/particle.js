// The physics of Maze2D: what MuJoCo computes for a ball among boxes, which is all that it needs.
//
//     step({ position, velocity }, push, walls)  // the same, 0.01 s later
//
// position: [x, y] in metres. push: two motors, from -1 to 1. walls: [i][j] of 0 and 1, for boxes
// of a metre; the middle of one is (i - 0.2, j - 0.2).
//
// The ball is pushed with up to 100 N on each axis, and slows down a little by itself. A wall that
// it touches is a stiff and damped spring: it wants a certain acceleration away from itself, and
// pushes the harder, the more of that is missing.

"use strict";

const RADIUS = 0.1, MASS = 4000 / 3 * Math.PI * RADIUS ** 3, SECONDS = 0.01, FORCE = 100;
const MIDDLE = -0.2, MARGIN = 0.002;  // a touch begins at this distance
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const dot = ([a, b], [x, y]) => a * x + b * y;

// [{ normal, depth }] of each wall that is touched: the way out of it, and how deep.
function touches(position, walls) {
  const found = [], [i, j] = position.map(x => Math.round(x - MIDDLE));
  for (const cell of [-1, 0, 1].flatMap(a => [-1, 0, 1].map(b => [i + a, j + b]))) {
    if (!walls[cell[0]]?.[cell[1]]) continue;
    const away = position.map((x, axis) => {  // from the nearest point of the box
      const middle = cell[axis] + MIDDLE;
      return x - clamp(x, middle - 0.5, middle + 0.5);
    });
    const distance = Math.hypot(...away), depth = RADIUS + MARGIN - distance;
    if (depth > 0) found.push({ normal: away.map(x => x / distance), depth });
  }
  return found;
}

// MuJoCo's soft contact with its default settings: solref 0.02 1, solimp 0.9 0.95 0.001 0.5 2.
function spring({ normal, depth }, velocity) {
  const x = Math.min(depth / 0.001, 1), soft = x < 0.5 ? 2 * x ** 2 : 1 - 2 * (1 - x) ** 2;
  const hardness = 0.9 + 0.05 * soft, damping = 2 / (0.95 * 0.02);
  const wanted = hardness * depth / (0.95 * 0.02) ** 2 - damping * dot(normal, velocity);
  return { normal, wanted, stiffness: 1.5 * MASS * hardness / (1 - hardness) };
}

// [ax, ay], under a force and all springs that push. Which ones do depends on it, and it on them.
function accelerate(force, springs) {
  let pushing = springs, acceleration;
  for (let round = 0; round < 5; round++) {
    let [a, b, c] = [MASS, 0, MASS], [x, y] = force;  // mass * acceleration = force + springs
    for (const { normal: [nx, ny], wanted, stiffness } of pushing) {
      [a, b, c] = [a + stiffness * nx * nx, b + stiffness * nx * ny, c + stiffness * ny * ny];
      [x, y] = [x + stiffness * wanted * nx, y + stiffness * wanted * ny];
    }
    acceleration = [(c * x - b * y) / (a * c - b * b), (a * y - b * x) / (a * c - b * b)];
    pushing = springs.filter(({ normal, wanted }) => dot(normal, acceleration) < wanted);
  }
  return acceleration;
}

function step({ position, velocity }, push, walls) {
  const v = velocity.map(x => clamp(x, -5, 5));
  const force = push.map((x, i) => FORCE * clamp(x, -1, 1) - v[i]);  // damping: 1 N s/m
  const springs = touches(position, walls).map(touch => spring(touch, v));
  const gain = SECONDS * MASS / (MASS + SECONDS);  // damping, counted at the end of the step
  const after = accelerate(force, springs).map((a, i) => v[i] + gain * a);
  return { position: position.map((x, i) => x + SECONDS * after[i]), velocity: after };
}
