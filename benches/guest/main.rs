//! What runs inside: `true` when it has no argument; with one it waits until it is killed; with two it waits for a byte,
//! writes the time (CLOCK_MONOTONIC, as the kernel's structure) and ends. Freestanding, one page of text,
//! no data: what is measured is the container, not the program.
#![no_std]
#![no_main]

#[cfg(target_arch = "x86_64")]
core::arch::global_asm!(
    ".globl _start",
    "_start:",
    "mov rax, [rsp]",
    "cmp rax, 1",
    "je 3f",
    "cmp rax, 2",
    "je 2f",
    "sub rsp, 32",
    "xor eax, eax",
    "xor edi, edi",
    "mov rsi, rsp",
    "mov edx, 1",
    "syscall", // read(0, .., 1)
    "mov eax, 228",
    "mov edi, 1",
    "mov rsi, rsp",
    "syscall", // clock_gettime(CLOCK_MONOTONIC, ..)
    "mov eax, 1",
    "mov edi, 1",
    "mov rsi, rsp",
    "mov edx, 16",
    "syscall", // write(1, .., 16)
    "3:",
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
    "b.eq 3f",
    "cmp x9, #2",
    "b.eq 2f",
    "sub sp, sp, #32",
    "mov x0, #0",
    "mov x1, sp",
    "mov x2, #1",
    "mov x8, #63",
    "svc #0", // read(0, .., 1)
    "mov x0, #1",
    "mov x1, sp",
    "mov x8, #113",
    "svc #0", // clock_gettime(CLOCK_MONOTONIC, ..)
    "mov x0, #1",
    "mov x1, sp",
    "mov x2, #16",
    "mov x8, #64",
    "svc #0", // write(1, .., 16)
    "3:",
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
