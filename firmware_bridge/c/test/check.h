/* A check that says where it failed and goes on; the same on a workstation and under semihosting. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static unsigned long checks_done, checks_failed;

static void check_at(int ok, const char *what, const char *name, int line)
{
    checks_done++;
    if (!ok) {
        checks_failed++;
        printf("line %d: %s [%s]\n", line, what, name);
    }
}

#define CHECK_IN(name, condition) check_at((condition) != 0, #condition, name, __LINE__)
#define CHECK(condition) CHECK_IN(__func__, condition)
#define COUNT(array) (sizeof(array) / sizeof *(array))

#endif
