// What the boards of the ESP32 and RP2 ports have, and MicroPython's qemu port has not.
#include "mpconfigport.h"
#undef MICROPY_PY_SELECT
#undef MICROPY_PY_TIME
#undef MICROPY_PY_ASYNCIO
#define MICROPY_PY_SELECT (1)
#define MICROPY_PY_TIME (1)
#define MICROPY_PY_ASYNCIO (1)
#define MICROPY_PY_OS_URANDOM (1)
#define MICROPY_PY_OS_INCLUDEFILE "ports/qemu/os_urandom.h"
#define MICROPY_VM_HOOK_LOOP emulated_poll();
#define MICROPY_VM_HOOK_RETURN emulated_poll();
extern void emulated_poll(void);
