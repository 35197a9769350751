// Backpropagation from scratch in JavaScript, behind gradconform's protocol: one JSON object a line. See README.md.
// A matrix is an array of rows. Rows are samples: x (N, in), weight (in, out), z = x W + b (N, out).
import { createInterface } from "node:readline";

const CAPABILITIES = {
  layers: ["Dense", "Tanh", "Sigmoid", "ReLU", "LeakyReLU", "ELU", "Softplus", "SiLU", "Softmax"],
  losses: ["MeanSquaredError", "Huber", "SigmoidCrossEntropy", "SoftmaxCrossEntropy()", "CrossEntropy"],
  reductions: ["mean", "sum"],
  labels: ["integer"],
  dtypes: ["float64"],
};
const LABELLED = ["SoftmaxCrossEntropy", "CrossEntropy"]; // the losses whose targets are integers, one a sample

/** What there is no rule for: the answer is "skipped", and not "errored". */
class Unsupported extends Error {}

// Matrices

const zip = (a, b, f) => a.map((row, n) => row.map((value, j) => f(value, b[n][j])));
const transpose = (a) => a[0].map((_, j) => a.map((row) => row[j]));
const sum = (values) => values.reduce((total, value) => total + value, 0);
const multiply = (a, b) => {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => sum(row.map((value, i) => value * column[i]))));
};

// Layers. Each gives its output for x, and `backward`, which takes delta = dC/d(output) to dx = dC/dx.

/** z = x W + b.    dC/dW = x^T delta, dC/db = sum of delta, dC/dx = delta W^T */
function dense(x, weight, bias) {
  const product = multiply(x, weight);
  const backward = (delta) => ({
    dx: multiply(delta, transpose(weight)),
    weight: multiply(transpose(x), delta),
    bias: bias && transpose(delta).map(sum),
  });
  return { output: bias ? product.map((row) => row.map((z, j) => z + bias[j])) : product, backward };
}

/** a = f(z).    dC/dz = f'(z) dC/da */
function elementwise(z, { f, slope }) {
  const a = z.map((row) => row.map(f));
  return { output: a, backward: (delta) => ({ dx: zip(zip(z, a, slope), delta, (d, g) => d * g) }) };
}

/** p_i = exp(z_i) / sum of exp(z_j), of which the largest z is subtracted, so that nothing overflows. */
function softmax(row) {
  const most = Math.max(...row);
  const powers = row.map((z) => Math.exp(z - most));
  const total = sum(powers);
  return { p: powers.map((power) => power / total), logP: row.map((z) => z - most - Math.log(total)) };
}

/** p = softmax(z).    dC/dz_i = p_i (dC/dp_i - sum of p_j dC/dp_j) */
function softmaxLayer(z) {
  const p = z.map((row) => softmax(row).p);
  const backward = (delta) => {
    const means = zip(p, delta, (a, b) => a * b).map(sum);
    return { dx: p.map((row, n) => row.map((value, i) => value * (delta[n][i] - means[n]))) };
  };
  return { output: p, backward };
}

// The activations: f(z), and its derivative as a function of z and a = f(z).

const sigmoid = (z) => 1 / (1 + Math.exp(-z));
const softplus = (z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z))); // log(1 + exp(z))

const ACTIVATIONS = {
  Tanh: () => ({ f: Math.tanh, slope: (z, a) => 1 - a * a }),
  Sigmoid: () => ({ f: sigmoid, slope: (z, a) => a * (1 - a) }),
  ReLU: () => ({ f: (z) => Math.max(z, 0), slope: (z) => (z > 0 ? 1 : 0) }),
  LeakyReLU: ({ slope }) => ({ f: (z) => (z > 0 ? z : slope * z), slope: (z) => (z > 0 ? 1 : slope) }),
  ELU: ({ alpha }) => ({
    f: (z) => (z > 0 ? z : alpha * Math.expm1(z)),
    slope: (z) => (z > 0 ? 1 : alpha * Math.exp(z)),
  }),
  Softplus: () => ({ f: softplus, slope: sigmoid }),
  SiLU: () => ({ f: (z) => z * sigmoid(z), slope: (z) => sigmoid(z) * (1 + z * sigmoid(-z)) }),
};

// The losses. Each gives its costs, one an element or one a sample, and `delta`, their derivatives by the output.
// The reduction is the same for all: it adds the costs, and for the mean divides by their number.

const elements = (cost, derivative) => (a, y) => ({ costs: zip(a, y, cost).flat(), delta: zip(a, y, derivative) });

const LOSSES = {
  // C = (a - y)^2.    dC/da = 2 (a - y)
  MeanSquaredError: () => elements((a, y) => (a - y) * (a - y), (a, y) => 2 * (a - y)),

  // C = r^2 / 2 where |r| <= delta, else delta (|r| - delta / 2), r = a - y.    dC/da = r, limited to +-delta
  Huber: ({ delta }) =>
    elements(
      (a, y) => (Math.abs(a - y) <= delta ? ((a - y) * (a - y)) / 2 : delta * (Math.abs(a - y) - delta / 2)),
      (a, y) => Math.max(-delta, Math.min(delta, a - y)),
    ),

  // C = -y log sigma(z) - (1 - y) log(1 - sigma(z)).    dC/dz = sigma(z) - y
  SigmoidCrossEntropy: () =>
    elements((z, y) => y * softplus(-z) + (1 - y) * softplus(z), (z, y) => sigmoid(z) - y),

  // C = -log p[label], p = softmax(z).    dC/dz = p - y, with y = 1 at the label and 0 elsewhere
  SoftmaxCrossEntropy: () => (z, labels) => ({
    costs: z.map((row, n) => -softmax(row).logP[labels[n]]),
    delta: z.map((row, n) => softmax(row).p.map((p, j) => p - (j === labels[n] ? 1 : 0))),
  }),

  // C = -log p[label].    dC/dp = -1 / p at the label, 0 elsewhere
  CrossEntropy: () => (p, labels) => ({
    costs: p.map((row, n) => -Math.log(row[labels[n]])),
    delta: p.map((row, n) => row.map((value, j) => (j === labels[n] ? -1 / value : 0))),
  }),
};

// Backpropagation

function gradients({ network, parameters, dtype, batch }) {
  const rows = batch.inputs.shape[0];
  if (dtype !== "float64") throw new Unsupported(`no rule for ${dtype}`);
  const layers = [];
  let x = readMatrix("inputs", batch.inputs, rows, network.inputs);
  for (const [index, layer] of network.layers.entries()) {
    layers.push(forward(layer, x, `${index}.`, parameters));
    x = layers[index].output;
  }

  const { cost, delta } = loss(network.loss, x, batch);
  const result = { parameters: {}, loss: writeTensor([], [cost]), deltas: {}, outputs: {} };
  let dx = delta;
  for (const [index, { output, backward }] of [...layers.entries()].reverse()) {
    result.outputs[index] = writeMatrix(output);
    result.deltas[index] = writeMatrix(dx);
    const found = backward(dx);
    if (found.weight) result.parameters[`${index}.weight`] = writeMatrix(found.weight);
    if (found.bias) result.parameters[`${index}.bias`] = writeTensor([found.bias.length], found.bias);
    dx = found.dx;
  }
  return { ...result, input: writeMatrix(dx) };
}

function forward(layer, x, path, parameters) {
  if (layer.kind === "Dense") {
    const weight = readMatrix(`${path}weight`, parameters[`${path}weight`], x[0].length, layer.units);
    const bias = layer.bias ? readTensor(`${path}bias`, parameters[`${path}bias`], [layer.units]) : null;
    return dense(x, weight, bias);
  }
  if (layer.kind === "Softmax") return softmaxLayer(x);
  if (!Object.hasOwn(ACTIVATIONS, layer.kind)) throw new Unsupported(`no rule for ${layer.kind}`);
  return elementwise(x, ACTIVATIONS[layer.kind](layer));
}

function loss(options, a, { targets, class_weights }) {
  const { kind, reduction, label_smoothing, ignore_index } = options;
  if (!Object.hasOwn(LOSSES, kind)) throw new Unsupported(`no rule for ${kind}`);
  if (!CAPABILITIES.reductions.includes(reduction)) throw new Unsupported(`no rule for reduction ${reduction}`);
  if (label_smoothing) throw new Unsupported("no rule for label smoothing");
  if (Number.isInteger(ignore_index)) throw new Unsupported("no rule for ignored labels");
  if (class_weights) throw new Unsupported("no rule for class weights");
  const { costs, delta } = LOSSES[kind](options)(a, readTargets(kind, targets, a.length, a[0].length));
  const divisor = reduction === "mean" ? costs.length : 1;
  return { cost: sum(costs) / divisor, delta: delta.map((row) => row.map((value) => value / divisor)) };
}

// Tensors: a shape, and the numbers row by row. What is not finite is spelled "NaN", "Infinity" or "-Infinity".

function readTensor(name, tensor, shape) {
  if (!Array.isArray(tensor?.data)) throw new Error(`${name}: expected a tensor`);
  const { shape: actual, data } = tensor;
  if (String(actual) !== String(shape)) throw new Error(`${name}: expected shape [${shape}], got [${actual}]`);
  const size = shape.reduce((product, length) => product * length, 1);
  if (data.length !== size) throw new Error(`${name}: expected ${size} numbers, got ${data.length}`);
  return data.map(Number);
}

function readMatrix(name, tensor, rows, columns) {
  const data = readTensor(name, tensor, [rows, columns]);
  return Array.from({ length: rows }, (_, n) => data.slice(n * columns, (n + 1) * columns));
}

function readTargets(kind, targets, rows, columns) {
  if (!LABELLED.includes(kind)) return readMatrix("targets", targets, rows, columns);
  if (targets.dtype !== "int64") throw new Unsupported("no rule for labels that are not integers");
  const labels = readTensor("targets", targets, [rows]);
  const wrong = labels.find((label) => !(label >= 0 && label < columns));
  if (wrong !== undefined) throw new Error(`targets: there is no class ${wrong}`);
  return labels;
}

function writeTensor(shape, data) {
  return { shape, data: data.map((value) => (Number.isFinite(value) ? value : String(value))) };
}

function writeMatrix(rows) {
  return writeTensor([rows.length, rows[0].length], rows.flat());
}

// The protocol

function answer(message) {
  if (message.type === "start" && message.protocol === 1) {
    return { type: "started", protocol: 1, name: "backprop.mjs", capabilities: CAPABILITIES };
  }
  if (message.type === "start") throw new Error("I speak protocol 1");
  if (message.type === "run") return { type: "result", id: message.id, ...gradients(message) };
  throw new Error(`unknown message ${message.type}`);
}

for await (const line of createInterface({ input: process.stdin })) {
  let message = null;
  let reply;
  try {
    message = JSON.parse(line);
    if (message.type === "stop") break;
    reply = answer(message);
  } catch (error) {
    const id = Number.isInteger(message?.id) ? message.id : null;
    const skipped = error instanceof Unsupported;
    reply = skipped ? { type: "skipped", id, reason: error.message } : { type: "errored", id, message: error.message };
  }
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
process.stdin.destroy(); // after stop it may still be open, and would keep Node waiting
