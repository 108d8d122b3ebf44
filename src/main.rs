//! argv[0] and clap dispatch; nothing else.

fn main() -> std::process::ExitCode {
    circ::cli::run(std::env::args_os())
}
