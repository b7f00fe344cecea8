//! The command `orangery`: see the library of this package.

fn main() -> std::process::ExitCode {
    orangery_cli::main()
}
