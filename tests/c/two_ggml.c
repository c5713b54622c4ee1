/* A program with a ggml of its own: names that Remask's ggml has too, of another kind and size. They must
 * not meet. */
#include "check.h"

int ggml_init(int x);
int ggml_init(int x) {
    return x + 41;
}

const char *ggml_version(void);
const char *ggml_version(void) {
    return "mine";
}

void ggml_backend_load_all(void);
void ggml_backend_load_all(void) {
    abort();
}

void *ggml_new_graph_custom(void);
void *ggml_new_graph_custom(void) {
    abort();
}

void *ggml_graph_plan(void);
void *ggml_graph_plan(void) {
    abort();
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    remask_model *model = load(argv[1]);
    remask_session *session = session_on(model, 2);
    remask_canvas *canvas = canvas_on(model, "hello", 4);
    OK(remask_session_generate(session, &canvas, 1, NULL, NULL, NULL, &error));
    CHECK(ggml_init(1) == 42 && strcmp(ggml_version(), "mine") == 0);
    remask_canvas_free(canvas);
    remask_session_free(session);
    remask_model_free(model);
    return 0;
}
