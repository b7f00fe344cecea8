//! `orangery-oci`: see the library.

fn main() -> std::process::ExitCode {
    orangery_oci::main(std::env::args_os())
}
