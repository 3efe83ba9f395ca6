// Runs Darknet's C program for make.py: a forward pass with its detections, or one training iteration.
//
//     run forward CFG WEIGHTS STEPS INPUT OUTPUT [THRESH NMS LETTERBOX] …
//     run train   CFG WEIGHTS AFTER INPUT TRUTH OUTPUT
//
// INPUT, TRUTH and OUTPUT are float32 values, one array after the other. forward writes, for each step, every layer's
// output, and then the detections: for each setting their number and, for each box, x, y, w, h and its classes'
// probabilities.
// train writes each mini-batch's cost; AFTER becomes the weights file after the update.
#include "darknet.h"
#include "box.h"
#include "network.h"
#include "parser.h"
#include "utils.h"

extern int gpu_index;

static const int IMAGE_WIDTH = 500, IMAGE_HEIGHT = 333;

static FILE *file_of(const char *path, const char *mode) {
    FILE *file = fopen(path, mode);
    if (!file) exit(1);
    return file;
}

static void read_floats(float *values, size_t count, FILE *file) {
    if (fread(values, sizeof(float), count, file) != count) exit(2);
}

static void write_floats(const float *values, size_t count, FILE *file) { fwrite(values, sizeof(float), count, file); }

static int is_head(layer l) {
    return l.type == YOLO || l.type == GAUSSIAN_YOLO || l.type == REGION || l.type == DETECTION;
}

static void write_detections(network *net, float thresh, float nms, int letterbox, FILE *file) {
    int i, count = 0, classes = 0;
    for (i = 0; i < net->n; ++i) if (is_head(net->layers[i])) classes = net->layers[i].classes;
    detection *found = get_network_boxes(net, IMAGE_WIDTH, IMAGE_HEIGHT, thresh, .5f, 0, 1, &count, letterbox);
    if (nms) do_nms_sort(found, count, classes, nms);
    float number = count;
    write_floats(&number, 1, file);
    for (i = 0; i < count; ++i) {
        float box[4] = {found[i].bbox.x, found[i].bbox.y, found[i].bbox.w, found[i].bbox.h};
        write_floats(box, 4, file);
        write_floats(found[i].prob, classes, file);
    }
}

static void forward(char **arguments, char **end) {
    network net = parse_network_cfg_custom(arguments[0], 1, 1);
    load_weights(&net, arguments[1]);
    int step, i, steps = atoi(arguments[2]);
    FILE *input = file_of(arguments[3], "rb"), *output = file_of(arguments[4], "wb");
    float *x = calloc(net.inputs, sizeof(float));
    for (step = 0; step < steps; ++step) {
        read_floats(x, net.inputs, input);
        network_predict(net, x);
        for (i = 0; i < net.n; ++i) {
            layer l = net.layers[i].antialiasing ? *net.layers[i].input_layer : net.layers[i];
            write_floats(l.output, l.outputs, output);
        }
    }
    for (arguments += 5; arguments + 2 < end; arguments += 3) {
        write_detections(&net, atof(arguments[0]), atof(arguments[1]), atoi(arguments[2]), output);
    }
    fclose(output);
}

static void train(char **arguments) {
    network net = parse_network_cfg(arguments[0]);
    load_weights(&net, arguments[1]);
    FILE *input = file_of(arguments[3], "rb"), *truth = file_of(arguments[4], "rb");
    FILE *output = file_of(arguments[5], "wb");
    int i, part;
    for (i = 0; i < net.n; ++i) net.layers[i].train = 1;
    layer last = net.layers[net.n - 1];
    int truths = last.truths ? last.truths : last.outputs;
    float *x = calloc(net.inputs * net.batch, sizeof(float)), *y = calloc(truths * net.batch, sizeof(float));
    for (part = 0; part < net.subdivisions; ++part) {
        read_floats(x, net.inputs * net.batch, input);
        read_floats(y, truths * net.batch, truth);
        float cost = train_network_datum(net, x, y);
        write_floats(&cost, 1, output);
    }
    update_network(net);
    save_weights(net, arguments[2]);
    fclose(output);
}

int main(int count, char **arguments) {
    gpu_index = -1;
    if (count >= 7 && !strcmp(arguments[1], "forward")) forward(arguments + 2, arguments + count);
    else if (count == 8 && !strcmp(arguments[1], "train")) train(arguments + 2);
    else return 1;
    return 0;
}
