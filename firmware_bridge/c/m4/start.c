/* Start-up of a Cortex-M4 under semihosting: main() runs as on a workstation, its exit status becomes that of the emulator. */
#include <stdint.h>
#include <stdlib.h>

#define COPROCESSOR_ACCESS (*(volatile uint32_t *)0xE000ED88) /* CPACR, Armv7-M reference manual B3.2.20 */
#define FULL_ACCESS_TO_FPU (0xFu << 20)

extern uint32_t data_image, data_start, data_end, bss_start, bss_end, stack_top;
void initialise_monitor_handles(void); /* of newlib: opens standard output through the emulator */
int main(void);
void reset(void);
void fault(void);
void _init(void);
void _fini(void);

void reset(void)
{
    COPROCESSOR_ACCESS |= FULL_ACCESS_TO_FPU;
    for (uint32_t *from = &data_image, *to = &data_start; to < &data_end;)
        *to++ = *from++;
    for (uint32_t *to = &bss_start; to < &bss_end;)
        *to++ = 0;
    initialise_monitor_handles();
    exit(main());
}

void fault(void)
{
    exit(99); /* a hard fault of the code under test must not look like a test that passed */
}

/* Called by newlib; nothing here has constructors. */
void _init(void)
{
}

void _fini(void)
{
}

typedef void (*handler)(void);

/* Stack, reset, NMI, hard fault, memory fault, bus fault, usage fault. */
__attribute__((section(".vectors"), used)) static const struct { uint32_t *stack; handler entries[6]; } vectors = {
    &stack_top, {reset, fault, fault, fault, fault, fault},
};
