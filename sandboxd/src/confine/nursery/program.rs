//! A command prepared for execution: everything that needs memory, done before the fork.

use std::ffi::CString;

use rustix::io::Errno;

use super::channel::Invalid;
use crate::confine::Launch;
use crate::confine::sys::{self, StringArray};

/// Where programs are looked for when the environment has no `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command, laid out for the kernel.
#[derive(Debug)]
pub(super) struct Program {
    candidates: Vec<CString>,
    arguments: StringArray,
    environment: StringArray,
    pub(super) directory: CString,
    pub(super) tty: bool,
}

impl Program {
    pub(super) fn prepare(launch: &Launch) -> Result<Self, Invalid> {
        let name = launch.argv.first().filter(|name| !name.is_empty()).ok_or(Invalid::Empty)?;
        let candidates = candidates(name, &launch.env).into_iter().map(text).collect::<Result<_, _>>()?;
        let arguments = launch.argv.iter().cloned().map(text).collect::<Result<_, _>>()?;
        let mut environment = Vec::with_capacity(launch.env.len());
        for (name, value) in &launch.env {
            if name.is_empty() || name.contains('=') {
                return Err(Invalid::Variable);
            }
            environment.push(text(format!("{name}={value}"))?);
        }
        Ok(Self {
            candidates,
            arguments: StringArray::new(arguments),
            environment: StringArray::new(environment),
            directory: text(launch.cwd.clone())?,
            tty: launch.tty,
        })
    }

    /// Becomes the first candidate that can be executed. Returns the error if there is none: "permission denied" when
    /// one was there, as shells do.
    pub(super) fn execute(&self) -> Errno {
        let mut reason = Errno::NOENT;
        for candidate in &self.candidates {
            match sys::execute(candidate, &self.arguments, &self.environment) {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => reason = Errno::ACCESS,
                other => return other,
            }
        }
        reason
    }
}

/// The files that a program name may mean, in order.
fn candidates(name: &str, environment: &[(String, String)]) -> Vec<String> {
    if name.contains('/') {
        return vec![name.to_owned()];
    }
    let path = environment.iter().find(|(name, _)| name == "PATH").map_or(DEFAULT_PATH, |(_, path)| path);
    // An empty entry means the working directory, where a repository could plant an `ls`: left out.
    path.split(':').filter(|entry| !entry.is_empty()).map(|entry| format!("{entry}/{name}")).collect()
}

fn text(text: String) -> Result<CString, Invalid> {
    CString::new(text).map_err(|_| Invalid::Nul)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Vec<(String, String)> {
        vec![("HOME".into(), "/h".into()), ("PATH".into(), path.into())]
    }

    #[test]
    fn names_are_looked_up_in_the_path_of_the_request() {
        assert_eq!(candidates("ls", &path("/a:/b")), ["/a/ls", "/b/ls"]);
        assert_eq!(candidates("ls", &path(":/a::/b:")), ["/a/ls", "/b/ls"]);
        assert_eq!(candidates("ls", &path("")), Vec::<String>::new());
        assert_eq!(candidates("ls", &[])[1], "/usr/local/bin/ls");
        assert_eq!(candidates("./ls", &path("/a")), ["./ls"]);
        assert_eq!(candidates("/bin/ls", &path("/a")), ["/bin/ls"]);
    }

    #[test]
    fn what_the_kernel_cannot_take_is_refused_before_the_fork() {
        let refused = |change: fn(&mut Launch)| {
            let mut launch = Launch { argv: vec!["ls".into()], cwd: "/".into(), ..Launch::default() };
            change(&mut launch);
            Program::prepare(&launch).unwrap_err()
        };
        assert_eq!(refused(|l| l.argv.clear()), Invalid::Empty);
        assert_eq!(refused(|l| l.argv[0].clear()), Invalid::Empty);
        assert_eq!(refused(|l| l.argv.push("a\0b".into())), Invalid::Nul);
        assert_eq!(refused(|l| l.cwd = "/\0".into()), Invalid::Nul);
        assert_eq!(refused(|l| l.env.push(("A".into(), "\0".into()))), Invalid::Nul);
        assert_eq!(refused(|l| l.env.push(("A=B".into(), "c".into()))), Invalid::Variable);
        assert_eq!(refused(|l| l.env.push((String::new(), "c".into()))), Invalid::Variable);
    }
}
