/* What crossing the interface adds to a step: time of the calls less time of the steps inside. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <time.h>

static double now_us(void) {
    struct timespec t;
    CHECK(clock_gettime(CLOCK_MONOTONIC, &t) == 0);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    remask_model *model = load(argv[1]);
    remask_session *session = session_on(model, 1);
    double outside = 0, inside = 0;
    uint64_t n_steps = 0;
    for (int i = 0; i < 4; i++) {
        remask_canvas *canvas = canvas_on(model, "Once upon a time", 48);
        remask_run *run = NULL;
        OK(remask_run_new(session, &canvas, 1, NULL, &run, &error));
        remask_step step;
        remask_step_init(&step, sizeof step);
        double calls = 0;
        do {
            double began = now_us();
            OK(remask_run_step(run, &step, &error));
            calls += now_us() - began;
            n_steps++;
        } while (!step.done);
        outside += calls;
        inside += (double)step.elapsed_us;
        remask_run_free(run);
        remask_canvas_free(canvas);
    }
    printf("%.1f us a step, of which %.2f us (%.3f %%) are the interface\n", outside / (double)n_steps,
           (outside - inside) / (double)n_steps, 100 * (outside - inside) / outside);
    CHECK((outside - inside) / outside < 0.01);
    remask_session_free(session);
    remask_model_free(model);
    return 0;
}
