/* A library that finds its backends at run time, and a folder with them: backends FOLDER. tests/dist-dynamic.sh
 * runs it. */
#include <remask.h>

#include <stdio.h>
#include <string.h>

static void on_log(int32_t level, const char *message, void *user_data) {
    (void)user_data;
    if (level >= REMASK_LOG_INFO) {
        fprintf(stderr, "%s\n", message);
    }
}

int main(int argc, char **argv) {
    size_t first = 0, second = 0;
    remask_error *error = NULL;
    remask_device device;
    if (argc != 2) {
        return 2;
    }
    remask_log_set(on_log, REMASK_LOG_INFO, NULL, NULL);
    /* Loaded once; a second time there is nothing left to load. */
    if (remask_backends_load(argv[1], REMASK_NUL_TERMINATED, &first, &error) != REMASK_STATUS_OK ||
        remask_backends_load(argv[1], REMASK_NUL_TERMINATED, &second, &error) != REMASK_STATUS_OK) {
        fprintf(stderr, "%s\n", remask_error_message(error));
        return 1;
    }
    remask_device_init(&device, sizeof device);
    if (remask_device_get(0, &device, &error) != REMASK_STATUS_OK) {
        fprintf(stderr, "%s\n", remask_error_message(error));
        return 1;
    }
    printf("%zu loaded, then %zu; device 0 is %s\n", first, second, device.name);
    return first == 1 && second == 0 && strcmp(device.name, "CPU") == 0 ? 0 : 1;
}
