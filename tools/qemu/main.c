// In place of main.c and mphalport.c of MicroPython's qemu port: _boot.py and main.py run as on a board, Ctrl-C ends a
// program, the heap is new after a soft reset, and there is a clock.
#include "py/gc.h"
#include "py/mphal.h"
#include "py/ringbuf.h"
#include "py/runtime.h"
#include "py/stackctrl.h"
#include "shared/runtime/gchelper.h"
#include "shared/runtime/interrupt_char.h"
#include "shared/runtime/pyexec.h"
#include "uart.h"

#define STACK_LEN (10240)
#define POLL_EVERY (64) // of the interpreter's jumps and returns: a look at the UART is slow
#define COUNTER (*(volatile uint32_t *)0x40028018) // of FPGAIO: cycles at 25 MHz, divided by
#define PRESCALE (*(volatile uint32_t *)0x4002801C) // this and one

static uint32_t gc_heap[MICROPY_HEAP_SIZE / sizeof(uint32_t)];
static uint8_t received[1024];
static ringbuf_t stdin_ringbuf = { received, sizeof(received) };

// The counter wraps after 71 minutes; whoever waits asks more often.
static uint64_t now_us(void) {
    static uint64_t total_us;
    static uint32_t last_us;
    uint32_t us = COUNTER;
    total_us += us - last_us;
    last_us = us;
    return total_us;
}

static void read_uart(void) {
    int c;
    while (ringbuf_free(&stdin_ringbuf) && (c = uart_rx_chr()) != UART_RX_NO_CHAR) {
        if (c == mp_interrupt_char) {
            mp_sched_keyboard_interrupt();
        } else {
            ringbuf_put(&stdin_ringbuf, c);
        }
    }
}

void emulated_poll(void) {
    static unsigned calls;
    if (++calls % POLL_EVERY == 0) {
        read_uart();
    }
}

int mp_hal_stdin_rx_chr(void) {
    int c;
    while ((c = ringbuf_get(&stdin_ringbuf)) < 0) {
        read_uart();
        now_us();
        mp_handle_pending(true);
    }
    return c;
}

uintptr_t mp_hal_stdio_poll(uintptr_t poll_flags) {
    return 0; // as in the port
}

mp_uint_t mp_hal_stdout_tx_strn(const char *str, size_t len) {
    uart_tx_strn(str, len);
    return len;
}

mp_uint_t mp_hal_ticks_us(void) {
    return now_us();
}

mp_uint_t mp_hal_ticks_cpu(void) {
    return now_us();
}

mp_uint_t mp_hal_ticks_ms(void) {
    return now_us() / 1000;
}

uint64_t mp_hal_time_ns(void) {
    return now_us() * 1000;
}

void mp_hal_delay_us(mp_uint_t us) {
    uint64_t end_us = now_us() + us;
    while (now_us() < end_us) {
        read_uart();
        mp_handle_pending(true);
    }
}

void mp_hal_delay_ms(mp_uint_t ms) {
    for (; ms; ms--) {
        mp_hal_delay_us(1000);
    }
}

void gc_collect(void) {
    gc_collect_start();
    gc_helper_collect_regs_and_stack();
    gc_collect_end();
}

void nlr_jump_fail(void *val) {
    mp_printf(&mp_plat_print, "uncaught NLR\n");
    for (;;) {
    }
}

static void run_until_reset(void) {
    pyexec_frozen_module("_boot.py", false);
    int ended = 0;
    if (pyexec_mode_kind == PYEXEC_MODE_FRIENDLY_REPL) {
        ended = pyexec_file_if_exists("main.py");
    }
    while (!(ended & PYEXEC_FORCED_EXIT)) {
        ended = pyexec_mode_kind == PYEXEC_MODE_RAW_REPL ? pyexec_raw_repl() : pyexec_friendly_repl();
    }
}

int main(int argc, char **argv) {
    PRESCALE = 24;
    mp_stack_ctrl_init();
    mp_stack_set_limit(STACK_LEN);
    for (;;) {
        gc_init(gc_heap, (char *)gc_heap + MICROPY_HEAP_SIZE);
        mp_init();
        run_until_reset();
        mp_printf(&mp_plat_print, "MPY: soft reboot\n");
        gc_sweep_all();
        mp_deinit();
    }
}
