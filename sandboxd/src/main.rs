//! `podwright-sandboxd`: PID 1 of a sandbox container.

use std::io::Write as _;
use std::process::ExitCode;

use podwright_sandboxd::{attach, confine, supervisor};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let result: Result<u8, Box<dyn std::error::Error>> = match (arguments.next(), arguments.next()) {
        (None, _) => supervise(),
        (Some(word), None) if word == "attach" => attach::attach().map(|()| 0).map_err(Into::into),
        (Some(word), None) if word == confine::NURSERY_COMMAND => Ok(confine::nursery_main()),
        (Some(_), _) => Err("usage: podwright-sandboxd [attach]".into()),
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Nobody may be listening.
            let _ = writeln!(std::io::stderr(), "podwright-sandboxd: {error}");
            ExitCode::from(2)
        }
    }
}

fn supervise() -> Result<u8, Box<dyn std::error::Error>> {
    match supervisor::serve()? {}
}
