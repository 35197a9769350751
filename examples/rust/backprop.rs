//! Backpropagation from scratch in Rust, behind gradconform's protocol: one JSON object a line. See README.md.
//! A matrix is a vector of rows. Rows are samples: x (N, in), weight (in, out), z = x W + b (N, out).

use std::io::{self, BufRead};

const STARTED: &str = concat!(
    r#"{"type":"started","protocol":1,"name":"backprop.rs","capabilities":{"dtypes":["float64"],"#,
    r#""layers":["Dense","Tanh","Sigmoid","ReLU"],"reductions":["mean","sum"],"#,
    r#""losses":["SoftmaxCrossEntropy()","MeanSquaredError"],"labels":["integer"]}}"#
);

/// What was asked for, or why it is not given: "skipped" or "errored", and the reason.
type Answer<T> = Result<T, (&'static str, String)>;
type Matrix = Vec<Vec<f64>>;
type Activation = (fn(f64) -> f64, fn(f64) -> f64);

// JSON

enum Json<'a> {
    /// A text without its quotes, escapes and all, or a number, true, false or null, as it is written.
    Word(&'a str),
    /// The items of a list, or the keys and values of an object in turn.
    Items(Vec<Json<'a>>),
    /// A closing bracket.
    End,
}

const NULL: Json = Json::Word("null");

/// Reads a value and moves `text` behind it; None where the text ends early. Commas and colons count as blanks.
fn read<'a>(text: &mut &'a str, depth: usize) -> Option<Json<'a>> {
    let blanks = [' ', '\t', '\r', ',', ':'];
    let start = text.trim_start_matches(blanks);
    let mut end = 1;
    let json = match start.chars().next()? {
        '{' | '[' if depth == 32 => return None, // no message of the protocol is nested so deeply
        '{' | '[' => {
            let mut items = Vec::new();
            *text = &start[1..];
            loop {
                match read(text, depth + 1)? {
                    Json::End => return Some(Json::Items(items)),
                    item => items.push(item),
                }
            }
        }
        '}' | ']' => Json::End,
        '"' => {
            while *start.as_bytes().get(end)? != b'"' {
                end += if start.as_bytes()[end] == b'\\' { 2 } else { 1 };
            }
            end += 1;
            Json::Word(&start[1..end - 1])
        }
        _ => {
            end = start.find(|c| blanks.contains(&c) || "{}[]\"".contains(c)).unwrap_or(start.len());
            Json::Word(&start[..end])
        }
    };
    *text = &start[end..];
    Some(json)
}

impl<'a> Json<'a> {
    fn items(&self) -> &[Json<'a>] {
        let Json::Items(items) = self else { return &[] };
        items
    }

    /// The value of a key, null if there is none.
    fn get(&self, key: &str) -> &Json<'a> {
        self.items().chunks_exact(2).find(|pair| pair[0].word() == key).map_or(&NULL, |pair| &pair[1])
    }

    fn word(&self) -> &'a str {
        let Json::Word(word) = self else { return "" };
        word
    }

    /// A number, or a text that spells one that is not finite, which Rust reads too.
    fn number<T: std::str::FromStr>(&self) -> Answer<T> {
        self.word().parse().map_err(|_| ("errored", format!("expected a number, got '{}'", self.word())))
    }

    /// The numbers of a tensor, which must be `rows` times `columns`.
    fn matrix(&self, rows: usize, columns: usize) -> Answer<Matrix> {
        let data = self.get("data").items();
        if data.is_empty() || rows.checked_mul(columns) != Some(data.len()) {
            return Err(("errored", format!("expected {rows} x {columns} numbers, got {}", data.len())));
        }
        data.chunks(columns).map(|row| row.iter().map(Json::number).collect()).collect()
    }
}

fn tensor(name: &str, shape: &[usize], data: &[f64]) -> String {
    let spell = |value: &f64| match format!("{value:?}") {
        digits if value.is_finite() => digits, // the fewest that read back the same
        word => format!("{:?}", word.replace("inf", "Infinity")),
    };
    let numbers: Vec<String> = data.iter().map(spell).collect();
    format!("\"{name}\":{{\"shape\":{shape:?},\"data\":[{}]}}", numbers.join(","))
}

fn matrix(name: &str, a: &Matrix) -> String {
    tensor(name, &[a.len(), a[0].len()], &a.concat())
}

fn transpose(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|j| a.iter().map(|row| row[j]).collect()).collect()
}

fn multiply(a: &Matrix, b: &Matrix) -> Matrix {
    let dot = |row: &Vec<f64>, column: &Vec<f64>| row.iter().zip(column).map(|(x, y)| x * y).sum();
    let columns = transpose(b);
    a.iter().map(|row| columns.iter().map(|column| dot(row, column)).collect()).collect()
}

/// f of the elements of two matrices of the same shape.
fn combine(a: &Matrix, b: &Matrix, f: impl Fn(f64, f64) -> f64) -> Matrix {
    a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect()).collect()
}

// Layers and losses

/// The activation a = f(z), and f'(z) as a function of a.
fn activation(kind: &str) -> Answer<Activation> {
    match kind {
        "Tanh" => Ok((f64::tanh, |a| 1.0 - a * a)),
        "Sigmoid" => Ok((|z: f64| 1.0 / (1.0 + (-z).exp()), |a| a * (1.0 - a))),
        "ReLU" => Ok((|z| z.max(0.0), |a| if a > 0.0 { 1.0 } else { 0.0 })),
        _ => Err(("skipped", format!("no rule for {kind}"))),
    }
}

/// C = -log p[label] with p = softmax(z).    dC/dz = p - y with y = 1 at the label, else 0
fn softmax_cross_entropy(z: &[f64], label: usize) -> Answer<(f64, Vec<f64>)> {
    let most = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = z.iter().map(|z| (z - most).exp()).sum();
    let cost = sum.ln() - (z.get(label).ok_or(("errored", format!("there is no class {label}")))? - most);
    Ok((cost, z.iter().enumerate().map(|(j, z)| (z - most).exp() / sum - f64::from(j == label)).collect()))
}

/// The cost C, and dC/da for the output a of the last layer.
fn loss(options: &Json, a: &Matrix, batch: &Json) -> Answer<(f64, Matrix)> {
    let (kind, reduction) = (options.get("kind").word(), options.get("reduction").word());
    let (targets, smoothing) = (batch.get("targets"), options.get("label_smoothing").number().unwrap_or(0.0));
    let labels = targets.get("data").items();
    let plain = smoothing == 0.0 && options.get("ignore_index").word() == "null";
    let integers = targets.get("dtype").word() == "int64" && labels.len() == a.len();
    let (mut cost, mut costs, mut delta) = (0.0, a.len(), Vec::new());
    if kind == "MeanSquaredError" {
        // C = (a - y)^2.    dC/da = 2 (a - y)
        let residual = combine(a, &targets.matrix(a.len(), a[0].len())?, |a, y| a - y);
        costs = labels.len();
        cost = residual.iter().flatten().map(|r| r * r).sum();
        delta = combine(&residual, &residual, |r, _| 2.0 * r);
    } else if kind == "SoftmaxCrossEntropy" && plain && integers && batch.get("class_weights").word() == "null" {
        for (z, label) in a.iter().zip(labels) {
            let (term, slope) = softmax_cross_entropy(z, label.number()?)?;
            cost += term;
            delta.push(slope);
        }
    } else {
        return Err(("skipped", format!("no rule, or none for such labels, weights and options, for {kind}")));
    }
    match reduction {
        "sum" => Ok((cost, delta)),
        "mean" => Ok((cost / costs as f64, combine(&delta, &delta, |delta, _| delta / costs as f64))),
        _ => Err(("skipped", format!("no rule for reduction {reduction}"))),
    }
}

// Backpropagation

fn gradients(run: &Json) -> Answer<String> {
    let (network, parameters, batch) = (run.get("network"), run.get("parameters"), run.get("batch"));
    let (layers, inputs) = (network.get("layers").items(), batch.get("inputs"));
    let width: usize = network.get("inputs").number()?;
    let rows = inputs.get("data").items().len().checked_div(width).unwrap_or(0);
    let mut x = vec![inputs.matrix(rows, width)?]; // layer i takes x[i] to x[i + 1]
    let "float64" = run.get("dtype").word() else { return Err(("skipped", "no rule but for float64".into())) };
    let mut weights = Vec::new(); // none for an activation
    for (i, layer) in layers.iter().enumerate() {
        let parameter = |name, rows, columns| parameters.get(&format!("{i}.{name}")).matrix(rows, columns);
        let kind = layer.get("kind").word();
        if kind == "Dense" {
            let units = layer.get("units").number()?;
            let weight = parameter("weight", x[i][0].len(), units)?;
            let mut z = multiply(&x[i], &weight);
            if layer.get("bias").word() == "true" {
                z = combine(&z, &vec![parameter("bias", 1, units)?.concat(); rows], |z, b| z + b);
            }
            x.push(z);
            weights.push(Some(weight));
        } else {
            let (f, _) = activation(kind)?;
            x.push(x[i].iter().map(|z| z.iter().copied().map(f).collect()).collect());
            weights.push(None);
        }
    }
    let (cost, mut delta) = loss(network.get("loss"), &x[layers.len()], batch)?;
    let (mut outputs, mut deltas, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for (i, layer) in layers.iter().enumerate().rev() {
        outputs.push(matrix(&i.to_string(), &x[i + 1]));
        deltas.push(matrix(&i.to_string(), &delta));
        if let Some(weight) = &weights[i] {
            // dC/dW = x^T delta, dC/db = sum of delta, dC/dx = delta W^T
            found.push(matrix(&format!("{i}.weight"), &multiply(&transpose(&x[i]), &delta)));
            let bias: Vec<f64> = transpose(&delta).iter().map(|column| column.iter().sum()).collect();
            if layer.get("bias").word() == "true" {
                found.push(tensor(&format!("{i}.bias"), &[bias.len()], &bias));
            }
            delta = multiply(&delta, &transpose(weight));
        } else {
            // dC/dz = f'(z) dC/da
            let (_, slope) = activation(layer.get("kind").word())?;
            delta = combine(&x[i + 1], &delta, |a, delta| slope(a) * delta);
        }
    }
    Ok([
        tensor("loss", &[], &[cost]),
        matrix("input", &delta),
        format!("\"parameters\":{{{}}}", found.join(",")),
        format!("\"deltas\":{{{}}}", deltas.join(",")),
        format!("\"outputs\":{{{}}}", outputs.join(",")),
    ]
    .join(","))
}

fn main() -> io::Result<()> {
    for line in io::stdin().lock().split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        let message = read(&mut line.as_str(), 0).unwrap_or(NULL);
        let id = message.get("id").number().map_or("null".into(), |id: u64| id.to_string());
        let answer = match message.get("type").word() {
            "stop" => break,
            "start" if message.get("protocol").word() == "1" => Ok(STARTED.into()),
            "run" => gradients(&message).map(|fields| format!("{{\"type\":\"result\",\"id\":{id},{fields}}}")),
            other => Err(("errored", format!("I speak protocol 1, with start, run and stop; unknown: {other}"))),
        };
        let answer = answer.unwrap_or_else(|(kind, why)| {
            let why = why.replace(|c: char| c == '"' || c == '\\' || c.is_control(), "'");
            let key = if kind == "skipped" { "reason" } else { "message" };
            format!("{{\"type\":\"{kind}\",\"id\":{id},\"{key}\":\"{why}\"}}")
        });
        println!("{answer}"); // which hands it over at once
    }
    Ok(())
}
