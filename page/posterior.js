// The exact posterior of bayes.py once more: what a perfect model would answer.
//
//     const exact = new Posterior(world, factors);
//     exact.answer(values, see)    // {factor: [T] of (classes,) probabilities}; null: impossible
//     exact.likelihood(values, see)  // log p(all that is seen) in nats, -Infinity: impossible
//     exact.conflict(values, see)  // [[factor, t], ...]: a few entries that contradict each other
//
// A trajectory is a Markov chain: its hidden state is one of the world's 77 states, together with
// beta, one of 3: how rational the demonstrator is. These 231 pairs are the nodes here. Actions are
// drawn from a known policy, moves are certain. So a backward pass finds how probable the rest of
// what is seen is from each node, and a forward pass walks from the start, with each action
// weighted by what follows from it.
//
// A return-to-go compares two distances from the goal, then and at the end. So it is evidence only
// once the final distance is supposed known: each is a hypothesis, and weighs by its likelihood.

"use strict";

class Posterior {
  constructor(world, factors) {
    this.factors = factors;
    this.offset = world.offset;  // class of a return-to-go = its value + offset
    this.nodes = [];
    world.distance.forEach((distance, s) => [0, 1, 2].forEach(beta => this.nodes.push({
      agent: world.agent_pos[s], key: world.key_pos[s], distance,
      prior: world.starts.includes(s) ? world.betas[beta] / world.starts.length : 0,
      policy: world.policy[beta][s], next: world.successor[s].map(after => 3 * after + beta),
    })));
    this.finals = range(1 + Math.max(...world.distance));  // the hypotheses
  }

  // Whether a node agrees with what is seen at t, if the final distance is as supposed.
  agrees(node, t, final, values, see) {
    return (!see.agent_pos[t] || values.agent_pos[t] === node.agent)
      && (!see.key_pos[t] || values.key_pos[t] === node.key)
      && (!see.return_to_go[t] || values.return_to_go[t] === node.distance - final + this.offset);
  }

  // (4,) how probable each action is from a node, with all that follows it.
  follow(node, t, message, values, see) {
    return node.policy.map((p, action) =>
      see.action[t] && values.action[t] !== action ? 0 : p * message[node.next[action]]);
  }

  // messages[t], t = 0..T: (nodes,), p(all that is seen from t on | node at t), up to a scale.
  // log: the log-likelihood of all that is seen. final: a distance; null: any.
  backward(final, values, see) {
    const T = see.action.length, messages = Array(T + 1);
    messages[T] = this.nodes.map(node => Number(final === null || node.distance === final));
    let log = 0;
    for (let t = T - 1; t >= 0; t--) {
      messages[t] = this.nodes.map(node => this.agrees(node, t, final, values, see)
        ? sum(this.follow(node, t, messages[t + 1], values, see)) : 0);
      const scale = Math.max(...messages[t]);
      if (scale === 0) return { log: -Infinity };
      messages[t] = messages[t].map(x => x / scale);
      log += Math.log(scale);
    }
    log += Math.log(sum(this.nodes.map((node, n) => node.prior * messages[0][n])));
    return { final, messages, log };
  }

  // Adds to the answers the posterior under one hypothesis, which weighs so much.
  forward({ final, messages }, weight, values, see, answers) {
    let here = this.nodes.map((node, n) => node.prior * messages[0][n]);  // (nodes,)
    const total = sum(here);
    here = here.map(x => weight * x / total);
    for (let t = 0; t < see.action.length; t++) {
      const after = this.nodes.map(() => 0);
      this.nodes.forEach((node, n) => {
        if (here[n] === 0) return;
        answers.agent_pos[t][node.agent] += here[n];
        answers.key_pos[t][node.key] += here[n];
        answers.return_to_go[t][node.distance - final + this.offset] += here[n];
        const actions = this.follow(node, t, messages[t + 1], values, see), all = sum(actions);
        actions.forEach((x, action) => {
          answers.action[t][action] += here[n] * x / all;
          after[node.next[action]] += here[n] * x / all;
        });
      });
      here = after;
    }
  }

  answer(values, see) {
    const solved = this.finals.map(final => this.backward(final, values, see));
    const total = logSum(solved.map(({ log }) => log)), answers = {};
    if (total === -Infinity) return null;
    for (const { name, size } of this.factors) {
      answers[name] = Array.from(see[name], () => new Float64Array(size));
    }
    for (const one of solved.filter(({ log }) => log > -Infinity)) {
      this.forward(one, Math.exp(one.log - total), values, see, answers);
    }
    return answers;
  }

  likelihood(values, see) {
    const finals = see.return_to_go.some(Boolean) ? this.finals : [null];
    return logSum(finals.map(final => this.backward(final, values, see).log));
  }

  // Of impossible evidence, entries that cannot all be true, though all but any one of them could:
  // each entry is left out for good if the others are still impossible without it.
  conflict(values, see) {
    const left = Object.fromEntries(Object.entries(see).map(([name, row]) => [name, [...row]]));
    const entries = [];
    for (let t = see.action.length - 1; t >= 0; t--) {
      for (const { name } of this.factors.filter(f => see[f.name][t])) {
        left[name][t] = false;
        if (this.likelihood(values, left) === -Infinity) continue;
        left[name][t] = true;
        entries.unshift([name, t]);
      }
    }
    return entries;
  }
}

const sum = x => x.reduce((a, b) => a + b, 0);

// log(sum(exp(x))) of numbers that may all be -Infinity.
function logSum(x) {
  const highest = Math.max(...x);
  return highest === -Infinity ? highest
    : highest + Math.log(sum(x.map(v => Math.exp(v - highest))));
}
