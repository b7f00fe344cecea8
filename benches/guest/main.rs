//! What runs inside: `true` when it has no argument, else it waits until it is killed. Freestanding, one page of text,
//! no data: what is measured is the container, not the program.
#![no_std]
#![no_main]

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "cmp qword ptr [rsp], 1",
    "jne 2f",
    "xor edi, edi",
    "mov eax, 231",
    "syscall", // exit_group(0)
    "2:",
    "mov eax, 34",
    "syscall",
    "jmp 2b", // pause()
);

#[cfg(target_arch = "aarch64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "ldr x9, [sp]",
    "cmp x9, #1",
    "b.ne 2f",
    "mov x0, #0",
    "mov x8, #94",
    "svc #0", // exit_group(0)
    "2:",
    "mov x0, #0",
    "mov x1, #0",
    "mov x2, #0",
    "mov x3, #0",
    "mov x8, #73",
    "svc #0",
    "b 2b", // ppoll()
);

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
