/* A model on a bare Cortex-M: start-up, self-test, scrub, canaries; the verdict leaves through semihosting.
 */
#include "model.h"

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

extern "C" {
extern uint32_t data_start, data_end, data_image, bss_start, bss_end, stack_top;
void reset(void);
}

namespace {

constexpr size_t margin = 64;
constexpr uint8_t canary = 0xA5;
struct {
    alignas(64) uint8_t before[margin];
    alignas(64) uint8_t arena[CAT(NET_MACRO, _ARENA_BYTES)];
    uint8_t after[margin];
} memory;

/* Semihosting: operation in r0, argument in r1. */
void host(uint32_t operation, const void* argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register const void* r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

[[noreturn]] void leave(const char* verdict, bool good) {
    host(0x04, verdict);                                      /* SYS_WRITE0 */
    const uint32_t block[] = {good ? 0x20026u : 0x20024u, 0}; /* application exit, internal error */
    host(0x18, reinterpret_cast<const void*>(block[0]));      /* SYS_EXIT */
    for (;;) {
    }
}

void fault() { leave("fault\n", false); }

void run() {
    for (size_t i = 0; i < margin; ++i)
        memory.before[i] = memory.after[i] = canary;
    sedge_model model;
    sedge_status status = sedge_init(&model, sedge_net_entry(), nullptr, memory.arena, sizeof memory.arena);
    if (status == SEDGE_OK)
        status = sedge_self_test(&model);
    if (status == SEDGE_OK)
        status = sedge_scrub(&model);
    for (size_t i = 0; i < margin; ++i) {
        if (memory.before[i] != canary || memory.after[i] != canary)
            leave("the arena was overrun\n", false);
    }
    if (status != SEDGE_OK)
        leave(sedge_status_text(status), false);
    leave("every golden vector bit for bit\n", true);
}

} // namespace

extern "C" void reset(void) {
#if defined(__ARM_FP)
    *reinterpret_cast<volatile uint32_t*>(0xE000ED88) |= 0xFu << 20; /* CPACR: the FPU */
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    const uint32_t* from = &data_image;
    for (uint32_t* to = &data_start; to < &data_end; ++to)
        *to = *from++;
    for (uint32_t* to = &bss_start; to < &bss_end; ++to)
        *to = 0;
    run();
}

__attribute__((section(".vectors"), used)) static const void* const vectors[16] = {
    &stack_top,
    reinterpret_cast<const void*>(reset),
    reinterpret_cast<const void*>(fault), /* NMI */
    reinterpret_cast<const void*>(fault), /* hard fault */
    reinterpret_cast<const void*>(fault), /* memory management */
    reinterpret_cast<const void*>(fault), /* bus fault */
    reinterpret_cast<const void*>(fault), /* usage fault */
};
