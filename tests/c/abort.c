/* What becomes of an assertion of ggml: the message reaches the host's log, no debugger is run, and the
 * process ends by SIGABRT. Debug builds only: it takes a call that no release has. POSIX. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

void remask_test_abort(void);

static void hear(int32_t level, const char *message, void *user_data) {
    int fd = *(int *)user_data;
    if (level == REMASK_LOG_ERROR) {
        CHECK(write(fd, message, strlen(message)) > 0);
    }
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    /* Debuggers that leave a mark, first in PATH. */
    char mark[512], path[4096];
    snprintf(mark, sizeof mark, "%s/mark", argv[1]);
    const char *const names[] = {"gdb", "lldb"};
    for (int i = 0; i < 2; i++) {
        char name[512];
        snprintf(name, sizeof name, "%s/%s", argv[1], names[i]);
        FILE *script = fopen(name, "w");
        CHECK(script != NULL);
        fprintf(script, "#!/bin/sh\ntouch '%s'\n", mark);
        fclose(script);
        CHECK(chmod(name, 0700) == 0);
    }
    snprintf(path, sizeof path, "%s:%s", argv[1], getenv("PATH"));
    CHECK(setenv("PATH", path, 1) == 0);
    CHECK(unsetenv("GGML_NO_BACKTRACE") == 0);
    CHECK(system("gdb") == 0 && access(mark, F_OK) == 0 && unlink(mark) == 0);

    int ends[2];
    CHECK(pipe(ends) == 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        int quiet = open("/dev/null", O_WRONLY);
        dup2(quiet, 2);
        remask_log_set(hear, REMASK_LOG_ERROR, &ends[1], NULL);
        remask_test_abort();
        _exit(0);
    }
    close(ends[1]);
    char said[1024];
    ssize_t n = read(ends[0], said, sizeof said - 1);
    CHECK(n > 0);
    said[n] = 0;
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    CHECK(strstr(said, "ggml gives up: ") != NULL && strstr(said, "GGML_ASSERT") != NULL);
    CHECK(access(mark, F_OK) != 0);
    return 0;
}
