//! `orangery-oci`: see the library.

/// musl's gives each page back at once, and takes it again: a fifth of what a life costs (decision 0071).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    orangery_oci::main(std::env::args_os())
}
