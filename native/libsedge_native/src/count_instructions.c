/* A plugin for QEMU's user emulation (plugin interface version 1, QEMU 7.2): counts executed guest
 * instructions.
 *
 *     cc -O2 -fPIC -shared -o libcount.so count_instructions.c
 *     qemu-aarch64 -plugin ./libcount.so,out=count.txt[,mark=166] program
 *
 * Every translated block adds its number of instructions each time it is entered. At exit out= receives the
 * sum so far at every system call with the number of mark=, a line each, and the sum of the whole process as
 * the last line. The functions used are declared here, as the interface documents them: Debian ships no
 * header for it. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;

enum operation { add_u64 = 0 };

typedef void (*syscall_call)(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2,
                             uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct block* block));
void qemu_plugin_register_vcpu_tb_exec_inline(struct block* block, enum operation op, void* target,
                                              uint64_t value);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id id, syscall_call call);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*call)(plugin_id id, void* user), void* user);
size_t qemu_plugin_tb_n_insns(const struct block* block);

#define EXPORT __attribute__((visibility("default")))
#define MARKS 16

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static uint64_t marks[MARKS];
static size_t marked;
static long mark = -1;
static char path[4096] = "count.txt";

static void translated(plugin_id id, struct block* block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, add_u64, &executed, qemu_plugin_tb_n_insns(block));
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t a1, uint64_t a2, uint64_t a3,
                   uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
    (void)id, (void)cpu, (void)a1, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (number == mark && marked < MARKS)
        marks[marked++] = executed;
}

static void finished(plugin_id id, void* user) {
    (void)id;
    (void)user;
    FILE* file = fopen(path, "w");
    if (file == NULL)
        return;
    for (size_t i = 0; i < marked; ++i)
        fprintf(file, "%llu\n", (unsigned long long)marks[i]);
    fprintf(file, "%llu\n", (unsigned long long)executed);
    fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void* info, int count, char** arguments) {
    (void)info;
    for (int i = 0; i < count; ++i) {
        if (strncmp(arguments[i], "out=", 4) == 0)
            snprintf(path, sizeof path, "%s", arguments[i] + 4);
        if (strncmp(arguments[i], "mark=", 5) == 0)
            mark = strtol(arguments[i] + 5, NULL, 10);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
