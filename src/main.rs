//! The binary `kdelta`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main(&cli::Local)
}
