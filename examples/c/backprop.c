/* Backpropagation from scratch in C11, behind gradconform's protocol: one JSON object a line. See README.md.
 * Matrices are row-major, and rows are samples: x (N, in), weight (in, out), z = x W + b (N, out). */
#define _POSIX_C_SOURCE 200809L /* getline */
#include <math.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
enum { MAX_LAYERS = 100, MAX_NUMBERS = 1 << 22 };
static double memory[MAX_NUMBERS]; /* all numbers of one run; what is never used costs nothing */
static size_t used;
static char id[24]; /* of the run, null outside of one */
static jmp_buf next_line;

/* Answers that a line is "skipped" or "errored", why, and at which word, and goes on with the next line. */
static _Noreturn void refuse(const char *type, const char *why, const char *word) {
    word += *word == '"';
    printf("{\"type\":\"%s\",\"id\":%s,\"%s\":\"%s '%.*s'\"}\n", type, id,
           strcmp(type, "skipped") ? "message" : "reason", why, (int)strspn(word, LETTERS), word);
    longjmp(next_line, 1);
}

static double *zeros(size_t n) {
    if (n > MAX_NUMBERS - used) refuse("skipped", "no room for a network of this", "size");
    used += n;
    return memset(memory + used - n, 0, n * sizeof *memory);
}

/* JSON is read where it stands: a value is a pointer to its first character. */
static const char *blank(const char *p) { return p + strspn(p, " \t\r\n"); }

static const char *past(const char *p, char c) {
    if (*p != c) refuse("errored", c == '[' ? "expected a list, got" : "expected an object, got", p);
    return blank(p + 1);
}

/* Returns the place behind a value and its comma: the next item, a bracket or a colon. */
static const char *skip(const char *p) {
    int depth = 0;
    do {
        depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
        if (*p == '"')
            for (p++; *p && *p != '"'; p++)
                if (*p == '\\' && p[1]) p++;
        if (!*p) refuse("errored", "no JSON: the line ends too early", "");
        p++;
    } while (depth > 0 || !strchr(",:}] \t\r\n", *p));
    p = blank(p);
    return *p == ',' ? blank(p + 1) : p;
}

static int says(const char *value, const char *word) {
    size_t n = strlen(word);
    return *value == '"' && !strncmp(value + 1, word, n) && value[n + 1] == '"';
}

static const char *find(const char *object, const char *key) { /* the value of a key, null if there is none */
    for (const char *p = past(object, '{'); *p != '}'; p = skip(p)) {
        int found = says(p, key);
        p = past(skip(p), ':');
        if (found) return p;
    }
    return "null";
}

static double number(const char *p) { /* what is not finite is in quotes, spelled as strtod has it */
    char *end;
    double value = strtod(p + (*p == '"'), &end);
    if (end == p + (*p == '"')) refuse("errored", "expected a number, got", p);
    return value;
}

static size_t count(const char *p) { return (size_t)fmin(fmax(number(p), 0), 1e6); } /* of rows, of units */

static double *read_tensor(const char *tensor, size_t expected) {
    double *data = zeros(expected);
    size_t n = 0;
    for (const char *p = past(find(tensor, "data"), '['); *p != ']'; p = skip(p), n++)
        if (n < expected) data[n] = number(p);
    if (n != expected) refuse("errored", "too few or too many numbers in a", "tensor");
    return data;
}

/* Prints what `format` makes of an index, and a tensor of rank 0, 1 or 2. */
static void print(const char *format, size_t index, int rank, size_t rows, size_t columns, const double *data) {
    printf(format, index);
    printf("{\"shape\":[");
    if (rank == 2) printf("%zu,", rows);
    if (rank > 0) printf("%zu", columns);
    printf("],\"data\":[");
    for (size_t i = 0; i < rows * columns; i++) {
        const char *comma = i ? "," : "";
        if (isfinite(data[i])) printf("%s%.17g", comma, data[i]);
        else printf("%s\"%s\"", comma, isnan(data[i]) ? "NaN" : data[i] > 0 ? "Infinity" : "-Infinity");
    }
    printf("]}");
}

/* The activations: a = f(z), and f'(z) as a function of a. */
static double sigmoid(double z) { return 1 / (1 + exp(-z)); }
static double relu(double z) { return z > 0 ? z : 0; }
static double tanh_slope(double a) { return 1 - a * a; }
static double sigmoid_slope(double a) { return a * (1 - a); }
static double relu_slope(double a) { return a > 0 ? 1 : 0; }

static const struct activation {
    const char *kind;
    double (*f)(double z), (*slope)(double a);
} activations[] = {{"Tanh", tanh, tanh_slope}, {"Sigmoid", sigmoid, sigmoid_slope}, {"ReLU", relu, relu_slope}, {0}};

typedef struct {
    const struct activation *activation; /* NULL: a dense layer */
    size_t in, out;
    double *weight, *bias, *d_weight, *d_bias; /* of a dense layer; bias NULL: it has none */
    double *output, *delta;                    /* (N, out): the output, and dC/d(output) */
} layer;

/* z = x W + b, or a = f(x), from the output x of the layer before. */
static void forward(layer *l, size_t rows) {
    const double *x = l[-1].output;
    for (size_t n = 0; n < rows; n++, x += l->in)
        for (size_t j = 0; j < l->out; j++) {
            double *z = &l->output[n * l->out + j];
            *z = l->activation ? l->activation->f(x[j]) : l->bias ? l->bias[j] : 0;
            for (size_t i = 0; i < l->in && !l->activation; i++) *z += x[i] * l->weight[i * l->out + j];
        }
}

/* dC/dW = x^T delta, dC/db = sum of delta, and the delta before: dC/dx = delta W^T, or f'(x) delta. */
static void backward(layer *l, size_t rows) {
    const double *x = l[-1].output;
    double *dx = l[-1].delta;
    for (size_t n = 0; n < rows; n++, x += l->in, dx += l->in)
        for (size_t j = 0; j < l->out; j++) {
            double delta = l->delta[n * l->out + j];
            if (l->activation) dx[j] = l->activation->slope(l->output[n * l->out + j]) * delta;
            if (l->bias) l->d_bias[j] += delta;
            for (size_t i = 0; i < l->in && !l->activation; i++) {
                l->d_weight[i * l->out + j] += x[i] * delta;
                dx[i] += delta * l->weight[i * l->out + j];
            }
        }
}

/* Returns the cost C, and leaves dC/da in the delta of the last layer, whose output is a. */
static double cost(const char *loss, const char *batch, const layer *last, size_t rows) {
    const char *kind = find(loss, "kind"), *reduction = find(loss, "reduction"), *targets = find(batch, "targets");
    int squared = says(kind, "MeanSquaredError"), mean = says(reduction, "mean");
    int entropy = says(kind, "SoftmaxCrossEntropy") && says(find(targets, "dtype"), "int64") &&
                  *find(loss, "ignore_index") == 'n' && *find(batch, "class_weights") == 'n' &&
                  strtod(find(loss, "label_smoothing"), NULL) == 0;
    if (!squared && !entropy) refuse("skipped", "no rule, or none for such labels, weights and options, for", kind);
    if (!mean && !says(reduction, "sum")) refuse("skipped", "no rule for reduction", reduction);
    size_t width = last->out, n = squared ? rows * width : rows; /* one cost an element, or one a row */
    double *a = last->output, *y = read_tensor(targets, n), *delta = last->delta;
    double total = 0, divisor = mean ? (double)n : 1;
    for (size_t k = 0; squared && k < n; k++) { /* C = (a - y)^2.    dC/da = 2 (a - y) */
        total += (a[k] - y[k]) * (a[k] - y[k]);
        delta[k] = 2 * (a[k] - y[k]) / divisor;
    }
    for (size_t k = 0; entropy && k < n; k++, a += width, delta += width) {
        /* C = -log p[y] with p = softmax(a).    dC/da = p - (1 at y, else 0) */
        if (!(y[k] >= 0 && y[k] < (double)width)) refuse("errored", "no such class as a label in", "targets");
        size_t label = (size_t)y[k];
        double most = a[0], sum = 0;
        for (size_t j = 1; j < width; j++) most = fmax(most, a[j]);
        for (size_t j = 0; j < width; j++) sum += exp(a[j] - most);
        for (size_t j = 0; j < width; j++) delta[j] = (exp(a[j] - most) / sum - (j == label)) / divisor;
        total -= a[label] - most - log(sum);
    }
    return total / divisor;
}

static void run(const char *message) {
    snprintf(id, sizeof id, "%llu", strtoull(find(message, "id"), NULL, 10));
    const char *network = find(message, "network"), *parameters = find(message, "parameters");
    const char *batch = find(message, "batch"), *inputs = find(batch, "inputs"), *dtype = find(message, "dtype");
    size_t rows = count(past(find(inputs, "shape"), '[')), width = count(find(network, "inputs")), layers = 0;
    if (!says(dtype, "float64")) refuse("skipped", "no rule for", dtype);
    layer all[MAX_LAYERS + 1] = {{.out = width, .output = read_tensor(inputs, rows * width)}}, *l = all + 1;
    all[0].delta = zeros(rows * width); /* before the first layer comes the input */
    for (const char *p = past(find(network, "layers"), '['); *p != ']'; p = skip(p), layers++, l++) {
        const char *kind = find(p, "kind");
        char path[40];
        if (layers == MAX_LAYERS) refuse("skipped", "no room for so many", "layers");
        l->in = l->out = l[-1].out;
        if (says(kind, "Dense")) {
            l->out = count(find(p, "units"));
            snprintf(path, sizeof path, "%zu.weight", layers);
            l->weight = read_tensor(find(parameters, path), l->in * l->out);
            l->d_weight = zeros(l->in * l->out);
            snprintf(path, sizeof path, "%zu.bias", layers);
            if (*find(p, "bias") != 'f') l->bias = read_tensor(find(parameters, path), l->out);
            l->d_bias = zeros(l->out);
        } else {
            l->activation = activations;
            while (l->activation->kind && !says(kind, l->activation->kind)) l->activation++;
            if (!l->activation->kind) refuse("skipped", "no rule for", kind);
        }
        l->output = zeros(rows * l->out);
        l->delta = zeros(rows * l->out);
        forward(l, rows);
    }
    double c = cost(find(network, "loss"), batch, l - 1, rows);
    while (--l > all) backward(l, rows);

    printf("{\"type\":\"result\",\"id\":%s,\"parameters\":{", id);
    const char *weight = "\"%zu.weight\":";
    for (size_t i = 0; i < layers; i++) {
        if (!(++l)->weight) continue;
        print(weight, i, 2, l->in, l->out, l->d_weight);
        if (l->bias) print(",\"%zu.bias\":", i, 1, 1, l->out, l->d_bias);
        weight = ",\"%zu.weight\":";
    }
    print("},\"loss\":", 0, 0, 1, 1, &c);
    print(",\"input\":", 0, 2, rows, width, all[0].delta);
    for (size_t i = 0; i < layers; i++)
        print(i ? ",\"%zu\":" : ",\"deltas\":{\"%zu\":", i, 2, rows, all[i + 1].out, all[i + 1].delta);
    for (size_t i = 0; i < layers; i++)
        print(i ? ",\"%zu\":" : "},\"outputs\":{\"%zu\":", i, 2, rows, all[i + 1].out, all[i + 1].output);
    puts(layers ? "}}" : "}");
}

static void answer(const char *line) {
    const char *type = find(line, "type");
    if (says(type, "stop")) exit(0);
    if (says(type, "run"))
        run(line);
    else if (says(type, "start") && number(find(line, "protocol")) == 1)
        puts("{\"type\":\"started\",\"protocol\":1,\"name\":\"backprop.c\",\"capabilities\":{\"dtypes\":[\"float64\"],"
             "\"layers\":[\"Dense\",\"Tanh\",\"Sigmoid\",\"ReLU\"],\"reductions\":[\"mean\",\"sum\"],"
             "\"losses\":[\"SoftmaxCrossEntropy()\",\"MeanSquaredError\"],\"labels\":[\"integer\"]}}");
    else
        refuse("errored", "I speak protocol 1, with start, run and stop; unknown:", type);
}

int main(void) {
    char *line = NULL;
    size_t size = 0;
    while (getline(&line, &size, stdin) > 0) {
        used = 0;
        strcpy(id, "null");
        if (!setjmp(next_line)) answer(blank(line));
        fflush(stdout);
    }
    return 0;
}
