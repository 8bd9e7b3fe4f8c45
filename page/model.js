// The transformer of model.py once more, in plain JavaScript: the same weights, the same sums.
//
//     const model = new Model(plain, text);  // as page.py packs them
//     model.answer(values, see)  // {factor: [T] of its answers}
//
// values: {factor: [T] of classes or of vectors}, see: {factor: [T] of booleans}. The answer is of
// each timestep the probabilities of the classes, or the vector that it expects. A matrix is a flat
// array, row after row. Its shape stands beside it, such as (T, d): T timesteps of d numbers each.
// There is no batch: one trajectory at a time.

"use strict";

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
const range = n => [...Array(n).keys()];
const isState = f => f.kind === "continuous" && f.group === "STATE";

class Model {
  constructor({ factors, predicted, shapes, ...config }, text) {
    Object.assign(this, { factors, config, weights: unpack(shapes, decode(text.trim())) });
    this.predicted = factors.filter(f => predicted.includes(f.name));
    this.d = this.weights["embedding.0.bias"].length;
  }

  layer(name) {
    return { weight: this.weights[`${name}.weight`], bias: this.weights[`${name}.bias`] };
  }

  answer(values, see) {
    let x = this.embed(this.features(values, see));  // (T, d)
    for (let n = 0; n < this.config.n_layer; n++) x = this.block(x, `blocks.${n}`);
    if (this.config.norm === "pre") x = layerNorm(x, this.layer("norm"));
    return this.split(linear(x, this.layer("heads.0")));
  }

  // (T, width): of each factor its numbers and 0; or zeros and 1, so that nothing hidden is read.
  features(values, see) {
    const { context, differences } = this.config, row = [];
    const put = (numbers, shown) => row.push(...numbers.map(x => shown ? x : 0), shown ? 0 : 1);
    for (let t = 0; t < context; t++) {
      for (const f of this.factors) {
        const shown = see[f.name][t];
        put(this.numbers(f, shown ? values[f.name][t] : f.mean), shown);
      }
      for (const { name, step_std } of differences ? this.factors.filter(isState) : []) {
        const both = t > 0 && see[name][t] && see[name][t - 1];
        const change = i => both ? values[name][t][i] - values[name][t - 1][i] : 0;
        put(step_std.map((std, i) => change(i) / std), both);  // it shows a velocity
      }
    }
    return Float32Array.from(row);
  }

  // Of a class a one-hot vector; of a vector itself without units, of a state in waves as well.
  numbers(f, value) {
    if (f.kind === "categorical") return range(f.size).map(i => Number(i === value));
    const x = f.mean.map((mean, i) => (value[i] - mean) / f.std[i]);
    if (!isState(f)) return x;
    const phases = x.flatMap(v => range(this.config.fourier_features).map(i => v * 2 ** i));
    return [...x, ...phases.map(Math.sin), ...phases.map(Math.cos)];
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

  // The outputs for all factors stand side by side, (T, sum of sizes): of each its own, (size,).
  split(outputs) {
    const width = this.predicted.reduce((sum, f) => sum + f.size, 0), answers = {};
    let start = 0;
    for (const { name, kind, size, mean, std } of this.predicted) {
      answers[name] = range(this.config.context).map(t => {
        const y = outputs.subarray(t * width + start, t * width + start + size);
        return kind === "categorical" ? softmax(y) : y.map((v, i) => v * std[i] + mean[i]);
      });
      start += size;
    }
    return answers;
  }
}

// The bytes of a text in base85: of every four, five characters, the digits of one large number.
function decode(text) {
  const digits = new Uint8Array(128), bytes = new DataView(new ArrayBuffer(text.length * 4 / 5));
  [..."0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"]
    .forEach((character, i) => digits[character.charCodeAt(0)] = i);
  for (let i = 0, word = 0; i < text.length; word = 0) {
    for (let k = 0; k < 5; k++) word = 85 * word + digits[text.charCodeAt(i++)];
    bytes.setUint32(4 * (i / 5 - 1), word);
  }
  return bytes.buffer;
}

// {name: numbers} of all weights. In each row they are integers of 8 or 16 bits, times one scale: a
// float32, of which the upper two bytes are kept.
function unpack(shapes, bytes) {
  const weights = {};
  let start = 0;
  const read = (Kind, n) => new Kind(bytes.slice(start, start += n * Kind.BYTES_PER_ELEMENT));
  for (const [name, [bits, rows, columns]] of Object.entries(shapes)) {
    const scales = new Float32Array(Uint32Array.from(read(Uint16Array, rows), x => x << 16).buffer);
    weights[name] = Float32Array.from(read(bits === 8 ? Int8Array : Int16Array, rows * columns));
    scales.forEach((scale, row) => {
      for (let i = row * columns; i < (row + 1) * columns; i++) weights[name][i] *= scale;
    });
  }
  return weights;
}
