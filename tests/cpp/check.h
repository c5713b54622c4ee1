// One line for each fact.
#ifndef CHECK_H
#define CHECK_H

#include <cstdio>
#include <cstdlib>

#define CHECK(fact)                                                         \
    do {                                                                    \
        if (!(fact)) {                                                      \
            std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #fact); \
            std::exit(1);                                                   \
        }                                                                   \
    } while (0)

#endif
