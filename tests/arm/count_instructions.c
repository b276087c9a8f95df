/* A plugin for QEMU's user emulation (plugin interface version 1, QEMU 7.2): counts executed guest instructions.
 *
 *     cc -O2 -fPIC -shared -o libcount.so count_instructions.c
 *     qemu-aarch64 -plugin ./libcount.so,out=count.txt program
 *
 * Every translated block adds its number of instructions each time it is entered; out= receives the sum at exit.
 * The five functions used are declared here, as the interface documents them: Debian ships no header for it. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct block;

enum operation { add_u64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, void (*call)(plugin_id id, struct block* block));
void qemu_plugin_register_vcpu_tb_exec_inline(struct block* block, enum operation op, void* target, uint64_t value);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*call)(plugin_id id, void* user), void* user);
size_t qemu_plugin_tb_n_insns(const struct block* block);

#define EXPORT __attribute__((visibility("default")))

EXPORT int qemu_plugin_version = 1;

static uint64_t executed;
static char path[4096] = "count.txt";

static void translated(plugin_id id, struct block* block) {
    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(block, add_u64, &executed, qemu_plugin_tb_n_insns(block));
}

static void finished(plugin_id id, void* user) {
    (void)id;
    (void)user;
    FILE* file = fopen(path, "w");
    if (file == NULL)
        return;
    fprintf(file, "%llu\n", (unsigned long long)executed);
    fclose(file);
}

EXPORT int qemu_plugin_install(plugin_id id, const void* info, int count, char** arguments) {
    (void)info;
    for (int i = 0; i < count; ++i) {
        if (strncmp(arguments[i], "out=", 4) == 0)
            snprintf(path, sizeof path, "%s", arguments[i] + 4);
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, finished, NULL);
    return 0;
}
