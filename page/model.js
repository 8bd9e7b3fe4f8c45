// The transformer of model.py once more, in plain JavaScript: the same weights, the same sums.
//
//     const model = new Model(DATA, decode(base64));
//     model.answer(values, see)  // {factor: [T] of (classes,) probabilities}
//
// A matrix is a flat array, row after row. Its shape stands beside it, such as (T, d): ten
// timesteps of d numbers each. There is no batch: one trajectory at a time.

"use strict";

// Three bytes of each float32, in base64; the fourth, its last bits, was left out.
function decode(base64) {
  const text = atob(base64.trim()), bytes = new Uint8Array((text.length / 3) * 4);
  for (let i = 0, j = 0; i < text.length; j += 4) {
    for (let k = 1; k < 4; k++) bytes[j + k] = text.charCodeAt(i++);
  }
  return new Float32Array(bytes.buffer);
}

// x (T, n) -> (T, m): x W^T + b, where W is (m, n).
function linear(x, { weight, bias }) {
  const m = bias.length, n = weight.length / m, T = x.length / n, y = new Float32Array(T * m);
  for (let o = 0; o < m; o++) {
    for (let t = 0; t < T; t++) {
      let sum = bias[o];
      for (let i = 0, w = o * n, v = t * n; i < n; i++) sum += weight[w + i] * x[v + i];
      y[t * m + o] = sum;
    }
  }
  return y;
}

// x (T, d) -> (T, d): each row with mean 0 and variance 1, then scaled and shifted.
function layerNorm(x, { weight, bias }) {
  const d = weight.length, y = new Float32Array(x.length);
  for (let row = 0; row < x.length; row += d) {
    let mean = 0, variance = 0;
    for (let i = 0; i < d; i++) mean += x[row + i] / d;
    for (let i = 0; i < d; i++) variance += (x[row + i] - mean) ** 2 / d;
    const scale = 1 / Math.sqrt(variance + 1e-5);
    for (let i = 0; i < d; i++) y[row + i] = (x[row + i] - mean) * scale * weight[i] + bias[i];
  }
  return y;
}

function softmax(x) {
  const highest = Math.max(...x), y = Float64Array.from(x, v => Math.exp(v - highest));
  const total = y.reduce((a, b) => a + b);
  return y.map(v => v / total);
}

const relu = x => x.map(v => Math.max(v, 0));
const add = (x, y) => x.map((v, i) => v + y[i]);

class Model {
  // config: n_head, n_layer, norm; factors, predicted; shapes: {name: its shape} of the numbers
  constructor({ model, factors, predicted, shapes }, numbers) {
    Object.assign(this, { config: model, factors });
    this.predicted = factors.filter(f => predicted.includes(f.name));
    this.weights = {};
    let start = 0;
    for (const [name, shape] of Object.entries(shapes)) {
      const size = shape.reduce((a, b) => a * b, 1);
      this.weights[name] = numbers.subarray(start, start += size);
    }
    this.d = shapes["embedding.0.bias"][0];
  }

  layer(name) {
    return { weight: this.weights[`${name}.weight`], bias: this.weights[`${name}.bias`] };
  }

  // values: {factor: [T] classes}, see: {factor: [T] booleans}. What is hidden is never read.
  answer(values, see) {
    let x = this.embed(this.features(values, see));  // (T, d)
    for (let n = 0; n < this.config.n_layer; n++) x = this.block(x, `blocks.${n}`);
    if (this.config.norm === "pre") x = layerNorm(x, this.layer("norm"));
    return this.split(linear(x, this.layer("heads.0")));
  }

  // (T, width): of each factor a one-hot vector, or zeros and a flag if it is hidden.
  features(values, see) {
    const width = this.factors.reduce((sum, f) => sum + f.size + 1, 0);
    const T = see[this.factors[0].name].length, x = new Float32Array(T * width);
    for (let t = 0, start = 0; t < T; t++) {
      for (const { name, size } of this.factors) {
        x[start + (see[name][t] ? values[name][t] : size)] = 1;
        start += size + 1;
      }
    }
    return x;
  }

  // A token for each timestep: rectified, scaled to the size of the positions, and these added.
  embed(features) {
    const x = relu(linear(features, this.layer("embedding.0")));  // (T, d)
    return add(x.map(v => v * Math.sqrt(this.d)), this.weights.position);
  }

  // Attention and a perceptron, each with a residual connection and layer norm: (T, d) -> (T, d).
  block(x, name) {
    const norm = (x, n) => layerNorm(x, this.layer(`${name}.norm${n}`));
    const attend = x => this.attention(x, `${name}.attention`);
    const [first, second] = [this.layer(`${name}.mlp.0`), this.layer(`${name}.mlp.3`)];
    const mlp = x => linear(relu(linear(x, first)), second);
    if (this.config.norm === "pre") {
      x = add(x, attend(norm(x, 1)));
      return add(x, mlp(norm(x, 2)));
    }
    x = norm(add(x, attend(x)), 1);
    return norm(add(x, mlp(x)), 2);
  }

  // Each timestep looks at all others, before and after it: (T, d) -> (T, d).
  attention(x, name) {
    const d = this.d, heads = this.config.n_head, hs = d / heads, T = x.length / d;
    const qkv = linear(x, this.layer(`${name}.qkv`));  // (T, 3, heads, hs)
    const y = new Float32Array(T * d);  // (T, heads, hs)
    for (let h = 0; h < heads; h++) {
      for (let t = 0; t < T; t++) {
        const q = t * 3 * d + h * hs, scores = new Float64Array(T);
        for (let s = 0; s < T; s++) {
          const k = (s * 3 + 1) * d + h * hs;
          for (let i = 0; i < hs; i++) scores[s] += qkv[q + i] * qkv[k + i] / Math.sqrt(hs);
        }
        softmax(scores).forEach((weight, s) => {
          const v = (s * 3 + 2) * d + h * hs;
          for (let i = 0; i < hs; i++) y[t * d + h * hs + i] += weight * qkv[v + i];
        });
      }
    }
    return linear(y, this.layer(`${name}.proj`));
  }

  // The logits of all factors side by side, (T, sum of classes), as probabilities of each.
  split(logits) {
    const width = this.predicted.reduce((sum, f) => sum + f.size, 0), answers = {};
    let start = 0;
    for (const { name, size } of this.predicted) {
      answers[name] = [];
      for (let row = start; row < logits.length; row += width) {
        answers[name].push(softmax(logits.subarray(row, row + size)));
      }
      start += size;
    }
    return answers;
  }
}
